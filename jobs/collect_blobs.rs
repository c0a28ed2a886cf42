//! Removes the bytes that no file has referred to for a while.
//!
//! Before: the blob's last file was deleted, and the grace has passed. The row moves to `deleting` by compare-and-set, so that
//! nobody can refer to the blob again; after that commit its object goes, and then the row. A second run finds the row in
//! `deleting` and goes on from there, whatever the first came to. Who brings the same bytes meanwhile waits until the row is gone.
//! It ends when every blob that is due was taken once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::ledger::blobs::{self, Unreferenced};
use crate::model::Timestamp;

/// How many go at once: one request to the bucket.
const PAGE: i64 = 500;

/// Collects what is due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CollectBlobs {}

impl Job for CollectBlobs {
    const KIND: &'static str = "collect_blobs";
    const POOL: Pool = Pool::Upkeep;
    /// A million files that were deleted together come due at once.
    const TIME_LIMIT: Duration = Duration::from_secs(1800);

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let before = ctx.now() - ctx.limits.blob_grace;
        let (mut after, mut removed, mut failed) = (None, 0, None);
        loop {
            let due = blobs::due_to_collect(&ctx.db, before, after, PAGE).await?;
            let Some(&last) = due.last() else {
                break;
            };
            match collect_page(ctx, before, &due).await {
                Ok(gone) => removed += gone,
                // An object that cannot be removed keeps no others from going. A second one looks like an outage, in which
                // no more blobs should get as far as `deleting`.
                Err(error) if failed.is_some() => return Err(error),
                Err(error) => failed = Some(error),
            }
            after = Some(last);
        }
        if removed > 0 {
            tracing::info!(removed, "blobs that no file referred to were removed");
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(if removed == 0 { End::Moot } else { End::Done }),
        }
    }
}

async fn collect_page(ctx: &Context, before: Timestamp, due: &[Unreferenced]) -> Result<usize, JobError> {
    let ids: Vec<Uuid> = due.iter().map(|(_, id)| *id).collect();
    let leaving = blobs::begin_removal(&ctx.db, &ids, before).await?;
    if leaving.is_empty() {
        return Ok(0);
    }
    let keys: Vec<String> = leaving.iter().map(|blob| blob.object_key.clone()).collect();
    ctx.bucket.delete(&keys).await?;
    let sizes = blobs::remove(&ctx.db, &leaving).await?;
    metrics::counter!("longshore_blobs_collected_total").increment(sizes.len() as u64);
    let bytes = sizes.iter().map(|size| size.unsigned_abs()).sum();
    metrics::counter!("longshore_blob_bytes_collected_total").increment(bytes);
    Ok(sizes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::births::{self, Birth};
    use crate::ledger::files;
    use crate::model::file::Blob;
    use crate::model::{Digest, Status, Upload};
    use crate::testkit::World;

    crate::on_every_engine! {
        bytes_that_no_file_refers_to_go_after_the_grace,
        bytes_that_came_back_stay,
        of_two_entries_the_last_one_frees_the_bytes,
        a_removal_that_broke_off_at_any_step_is_finished,
        who_brings_bytes_that_are_being_removed_waits_until_they_are_gone,
        a_blob_that_was_joined_beside_the_collector_is_let_be,
        more_blobs_than_a_page_go_in_one_run,
    }

    async fn delete(world: &World, upload: &Upload) {
        assert!(files::delete(&world.ctx.db, upload.file_id, world.ctx.now()).await.unwrap());
    }

    async fn collect(world: &World) -> End {
        CollectBlobs {}.run(&world.ctx).await.unwrap()
    }

    async fn blob(world: &World, bytes: &[u8]) -> Option<Blob> {
        blobs::find(&world.ctx.db, world.org, Digest::of(bytes)).await.unwrap()
    }

    /// A world in which the grace of some bytes has passed.
    async fn overdue(world: &World, bytes: &[u8]) -> Blob {
        let upload = world.uploaded(bytes).await;
        delete(world, &upload).await;
        world.clock.advance(world.ctx.limits.blob_grace);
        blob(world, bytes).await.unwrap()
    }

    async fn bytes_that_no_file_refers_to_go_after_the_grace(world: World) {
        let upload = world.uploaded(b"short-lived").await;
        delete(&world, &upload).await;

        world.clock.advance(world.ctx.limits.blob_grace - Duration::from_millis(1));
        assert_eq!(collect(&world).await, End::Moot);
        assert_eq!(world.blob_keys().len(), 1);

        world.clock.advance(Duration::from_millis(1));
        assert_eq!(collect(&world).await, End::Done);
        assert!(world.blob_keys().is_empty() && blob(&world, b"short-lived").await.is_none());
        assert_eq!(collect(&world).await, End::Moot);
        assert_eq!(world.report().await, crate::model::report::Delta::NONE);
    }

    async fn bytes_that_came_back_stay(world: World) {
        overdue(&world, b"missed").await;

        let again = world.uploaded(b"missed").await;
        assert_eq!(collect(&world).await, End::Moot);

        assert_eq!((again.status, again.deduplicated), (Status::Done, Some(true)));
        assert_eq!((world.blob_keys().len(), world.report().await.unique_files), (1, 1));
        // And the grace begins anew.
        delete(&world, &again).await;
        assert_eq!(collect(&world).await, End::Moot);
    }

    async fn of_two_entries_the_last_one_frees_the_bytes(world: World) {
        let (one, two) = (world.uploaded(b"shared").await, world.uploaded(b"shared").await);

        delete(&world, &one).await;
        world.clock.advance(world.ctx.limits.blob_grace);
        assert_eq!(collect(&world).await, End::Moot);
        let report = world.report().await;
        assert_eq!((report.files, report.unique_files, world.blob_keys().len()), (1, 1, 1));

        delete(&world, &two).await;
        world.clock.advance(world.ctx.limits.blob_grace);
        assert_eq!(collect(&world).await, End::Done);
        assert!(world.blob_keys().is_empty());
    }

    async fn a_removal_that_broke_off_at_any_step_is_finished(world: World) {
        for steps in 0..3 {
            let blob = overdue(&world, format!("removed {steps}").as_bytes()).await;
            let before = world.ctx.now() - world.ctx.limits.blob_grace;
            let leaving = blobs::begin_removal(&world.ctx.db, &[blob.id], before).await.unwrap();
            if steps > 0 {
                world.ctx.bucket.delete(std::slice::from_ref(&blob.object_key)).await.unwrap();
            }
            if steps > 1 {
                assert_eq!(blobs::remove(&world.ctx.db, &leaving).await.unwrap(), [blob.size]);
            }

            assert_eq!(collect(&world).await, if steps > 1 { End::Moot } else { End::Done });

            assert!(world.blob_keys().is_empty());
            assert!(blobs::by_id(&world.ctx.db, blob.id).await.unwrap().is_none());
        }
    }

    async fn who_brings_bytes_that_are_being_removed_waits_until_they_are_gone(world: World) {
        let leaving = overdue(&world, b"wanted").await;
        blobs::begin_removal(&world.ctx.db, &[leaving.id], world.ctx.now()).await.unwrap();

        let claim = Upload { sha256: Some(leaving.sha256), ..world.requested() };
        let born = births::ask(&world.ctx.db, Birth::requested(claim, Some(leaving.size))).await.unwrap().unwrap();
        assert_eq!(born.status, Status::Requested, "it cannot be joined");
        let again = world.uploaded(b"wanted").await;
        assert_eq!(again.status, Status::Verified, "it waits");

        collect(&world).await;
        world.clock.advance(Duration::from_secs(6));
        world.drain().await;

        let again = world.upload(again.id).await;
        assert_eq!((again.status, again.deduplicated), (Status::Done, Some(false)));
        let fresh = blob(&world, b"wanted").await.unwrap();
        assert_ne!(fresh.object_key, leaving.object_key);
        assert_eq!((world.blob_keys(), world.report().await.unique_files), (vec![fresh.object_key], 1));
    }

    async fn a_blob_that_was_joined_beside_the_collector_is_let_be(world: World) {
        let blob = overdue(&world, b"just in time").await;
        let before = world.ctx.now() - world.ctx.limits.blob_grace;
        let due = blobs::due_to_collect(&world.ctx.db, before, None, 10).await.unwrap();
        assert_eq!(due.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [blob.id]);

        world.uploaded(b"just in time").await;

        assert_eq!(collect_page(&world.ctx, before, &due).await.unwrap(), 0);
        assert_eq!(world.blob_keys(), [blob.object_key]);
    }

    async fn more_blobs_than_a_page_go_in_one_run(world: World) {
        let now = world.ctx.now() - world.ctx.limits.blob_grace;
        let query = "with recursive numbers (number) as (
                select 1
                union all
                select number + 1 from numbers where number <= $3)
            insert into blobs (id, org_id, sha256, size, object_key, state, refs, created_at, unreferenced_at)
            select unhex('00000000000070008000000000' || (100000 + number)), $1,
                'sha256-0000000000000000000000000000000000000000000000000000000000' || (100000 + number), 1,
                'blobs/' || number, 'live', 0, $2, $2
            from numbers";
        let org = world.org;
        let made = world.ctx.db.write_one(move |mut tx| {
            Box::pin(async move {
                Ok(sql!(tx.on(), c => sqlx::query(query).bind(org).bind(now).bind(PAGE).execute(c).await?.rows_affected()))
            })
        });
        assert_eq!(made.await.unwrap(), PAGE.unsigned_abs() + 1);

        assert_eq!(collect(&world).await, End::Done);

        assert!(blobs::due_to_collect(&world.ctx.db, now, None, 1).await.unwrap().is_empty());
    }
}
