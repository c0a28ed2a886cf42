//! Removes the bytes that no file has referred to for a while.
//!
//! Before: the blob's last file was deleted, and the grace has passed. The row moves to `deleting` by compare-and-set, so that
//! nobody can refer to the blob again; after that commit its object goes, and then the row. A second run finds the row in
//! `deleting` and goes on from there, whatever the first came to. Who brings the same bytes meanwhile waits until the row is gone.
//! It ends when every blob that is due was taken once.

use std::collections::HashMap;
use std::slice;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool, with_causes};
use crate::ledger::blobs::{self, Unreferenced};
use crate::model::Timestamp;
use crate::model::file::Blob;
use crate::outside::BucketError;

/// How many go at once: one request to the bucket.
const PAGE: i64 = 500;
/// How many objects in a row have to stay until it looks as if none of the page could go.
const PATIENCE: usize = 10;

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
            let page = collect_page(ctx, before, &due).await?;
            removed += page.removed;
            match page.stuck {
                // After another failure a page of which nothing goes looks like an outage, in which no more blobs should get as
                // far as `deleting`.
                Some(error) if page.removed == 0 && failed.is_some() => return Err(error.into()),
                Some(error) => failed = Some(error),
                None => {}
            }
            after = Some(last);
        }
        if removed > 0 {
            tracing::info!(removed, "blobs that no file referred to were removed");
        }
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(if removed == 0 { End::Moot } else { End::Done }),
        }
    }
}

/// What has come of a page.
#[derive(Debug, Default)]
struct Collected {
    removed: usize,
    /// Why not all of it went.
    stuck: Option<BucketError>,
}

async fn collect_page(ctx: &Context, before: Timestamp, due: &[Unreferenced]) -> Result<Collected, JobError> {
    let ids: Vec<Uuid> = due.iter().map(|(_, id)| *id).collect();
    let leaving = blobs::begin_removal(&ctx.db, &ids, before).await?;
    if leaving.is_empty() {
        return Ok(Collected::default());
    }
    let keys: Vec<String> = leaving.iter().map(|blob| blob.object_key.clone()).collect();
    match ctx.bucket.delete(&keys).await {
        Ok(()) => Ok(Collected { removed: remove_rows(ctx, &leaving).await?, stuck: None }),
        Err(error @ BucketError::Throttled { .. }) => Ok(Collected { removed: 0, stuck: Some(error) }),
        Err(_) => collect_each(ctx, due, leaving).await,
    }
}

/// One after the other, so that an object that cannot be removed holds back no others: who brings their bytes waits for
/// them. Those that stay come first in every run, so it begins with the last.
async fn collect_each(ctx: &Context, due: &[Unreferenced], leaving: Vec<Blob>) -> Result<Collected, JobError> {
    let mut leaving: HashMap<Uuid, Blob> = leaving.into_iter().map(|blob| (blob.id, blob)).collect();
    let (mut gone, mut stuck, mut refused) = (Vec::new(), None, 0);
    for blob in due.iter().rev().filter_map(|(_, id)| leaving.remove(id)) {
        match ctx.bucket.delete(slice::from_ref(&blob.object_key)).await {
            Ok(()) => gone.push(blob),
            Err(error) => {
                tracing::warn!(blob = %blob.id, error = with_causes(&error), "the object of a blob could not be removed");
                (stuck, refused) = (Some(error), refused + 1);
            }
        }
        if gone.is_empty() && refused == PATIENCE {
            break;
        }
    }
    Ok(Collected { removed: remove_rows(ctx, &gone).await?, stuck })
}

async fn remove_rows(ctx: &Context, leaving: &[Blob]) -> Result<usize, JobError> {
    let sizes = blobs::remove(&ctx.db, leaving).await?;
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
        an_object_that_cannot_be_removed_holds_back_no_others,
        a_bucket_that_removes_nothing_is_not_asked_for_every_blob,
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
                world.ctx.bucket.delete(slice::from_ref(&blob.object_key)).await.unwrap();
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

        assert_eq!(collect_page(&world.ctx, before, &due).await.unwrap().removed, 0);
        assert_eq!(world.blob_keys(), [blob.object_key]);
    }

    async fn more_blobs_than_a_page_go_in_one_run(world: World) {
        let due_since = unreferenced(&world, PAGE + 1).await;

        assert_eq!(collect(&world).await, End::Done);

        assert!(blobs::due_to_collect(&world.ctx.db, due_since, None, 1).await.unwrap().is_empty());
    }

    async fn an_object_that_cannot_be_removed_holds_back_no_others(world: World) {
        let mut all = Vec::new();
        for number in 0..PATIENCE + 5 {
            all.push(overdue(&world, format!("{number}").as_bytes()).await);
        }
        // More of them than it has patience for: the oldest.
        let (kept, gone) = all.split_at(PATIENCE + 1);
        for blob in kept {
            world.bucket.keep_key(&blob.object_key);
        }

        for _ in 0..2 {
            assert!(matches!(CollectBlobs {}.run(&world.ctx).await, Err(JobError::Retry(_))));
        }

        let mut keys: Vec<String> = kept.iter().map(|blob| blob.object_key.clone()).collect();
        keys.sort();
        assert_eq!(world.blob_keys(), keys);
        for blob in gone {
            assert!(blobs::by_id(&world.ctx.db, blob.id).await.unwrap().is_none());
        }
        let again = world.uploaded(format!("{}", PATIENCE + 1).as_bytes()).await;
        assert_eq!(again.status, Status::Done, "who brings the bytes of another waits for nothing");
    }

    async fn a_bucket_that_removes_nothing_is_not_asked_for_every_blob(world: World) {
        unreferenced(&world, 3 * PAGE).await;
        world.bucket.keep_key("blobs/");

        assert!(matches!(CollectBlobs {}.run(&world.ctx).await, Err(JobError::Retry(_))));

        assert_eq!(world.bucket.kept(), 2 * (1 + PATIENCE));
        let live: i64 =
            sql!(world.ctx.db.reader(), c => sqlx::query_scalar("select count(*) from blobs where state = 'live'")
            .fetch_one(c)
            .await)
            .unwrap();
        assert_eq!(live, PAGE, "no more get as far as to be on their way");
    }

    /// So many blobs without objects whose grace has passed; tells since when nothing refers to them.
    async fn unreferenced(world: &World, count: i64) -> Timestamp {
        let now = world.ctx.now() - world.ctx.limits.blob_grace;
        let query = "with recursive numbers (number) as (
                select 1
                union all
                select number + 1 from numbers where number < $3)
            insert into blobs (id, org_id, sha256, size, object_key, state, refs, created_at, unreferenced_at)
            select unhex('00000000000070008000000000' || (100000 + number)), $1,
                'sha256-0000000000000000000000000000000000000000000000000000000000' || (100000 + number), 1,
                'blobs/' || number, 'live', 0, $2, $2
            from numbers";
        let org = world.org;
        let made = world.ctx.db.write_one(move |mut tx| {
            Box::pin(async move {
                Ok(sql!(tx.on(), c => sqlx::query(query).bind(org).bind(now).bind(count).execute(c).await?.rows_affected()))
            })
        });
        assert_eq!(made.await.unwrap(), count.unsigned_abs());
        now
    }
}
