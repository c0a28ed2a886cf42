//! Removes staging objects that no open upload needs: what crashes, replays and rejected uploads have left.
//!
//! Before: nothing. An object younger than the minimum age is let be; one whose upload is still open, too; one whose upload has
//! expired is late bytes and gets its arrival recorded. A second run finds less. It ends at the end of the listing.

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::uploads;
use crate::model::upload::ArrivedVia;
use crate::model::{Status, keys};
use crate::outside::ObjectHead;
use crate::record_arrival::RecordArrival;

/// Sweeps staging.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SweepBucket {}

impl Job for SweepBucket {
    const KIND: &'static str = "sweep_bucket";
    const POOL: Pool = Pool::Upkeep;
    /// A long listing takes a while.
    const TIME_LIMIT: std::time::Duration = std::time::Duration::from_secs(1800);

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let (mut after, mut removed) = (None, 0);
        loop {
            let page = ctx.bucket.list(keys::STAGING, after.as_deref()).await?;
            removed += sweep_page(ctx, page.objects).await?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if removed > 0 {
            tracing::info!(removed, "staging objects that nobody needed were removed");
        }
        Ok(if removed > 0 { End::Done } else { End::Moot })
    }
}

/// What is to become of a staging object.
enum Fate {
    Stays,
    Arrives(NewJob),
    Goes(String),
}

async fn sweep_page(ctx: &Context, objects: Vec<ObjectHead>) -> Result<usize, JobError> {
    let oldest_kept = ctx.now() - ctx.limits.sweep_min_age;
    let (mut gone, mut late) = (Vec::new(), Vec::new());
    // Asked together, the ledger answers for the page with a few statements.
    let fates = objects.into_iter().filter(|object| object.modified_at <= oldest_kept).map(|object| fate(ctx, object));
    for fate in try_join_all(fates).await? {
        match fate {
            Fate::Stays => {}
            Fate::Arrives(job) => late.push(job),
            Fate::Goes(key) => gone.push(key),
        }
    }
    if !late.is_empty() {
        ctx.queue.push(late).await?;
    }
    if !gone.is_empty() {
        ctx.bucket.delete(&gone).await?;
        metrics::counter!("longshore_sweep_deleted_total").increment(gone.len() as u64);
    }
    Ok(gone.len())
}

async fn fate(ctx: &Context, object: ObjectHead) -> Result<Fate, JobError> {
    let Some(id) = keys::upload_of(&object.key) else {
        return Ok(Fate::Goes(object.key));
    };
    let upload = uploads::find(&ctx.db, id).await?.filter(|upload| upload.object_key == object.key);
    Ok(match upload.map(|upload| upload.status) {
        Some(Status::Requested | Status::Issued | Status::Arrived | Status::Verified) => Fate::Stays,
        Some(Status::Expired) => {
            let arrival = RecordArrival { upload: id, via: ArrivedVia::Poll };
            Fate::Arrives(NewJob::of(&arrival, Lane::Bulk, ctx.now()))
        }
        Some(Status::Done | Status::Rejected | Status::Cancelled) | None => Fate::Goes(object.key),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testkit::World;

    crate::on_every_engine! {
        only_old_objects_that_no_open_upload_needs_are_removed,
    }

    async fn only_old_objects_that_no_open_upload_needs_are_removed(world: World) {
        let open = world.issued().await;
        let done = world.uploaded(b"done").await;
        let unknown = keys::staging(world.org, Uuid::now_v7());
        for key in [&open.object_key, &done.object_key, &unknown] {
            world.bucket.land(key, b"left behind");
        }

        SweepBucket {}.run(&world.ctx).await.unwrap();
        assert_eq!(world.staged_keys().len(), 3, "all are young");

        world.clock.advance(Duration::from_secs(25 * 3600));
        SweepBucket {}.run(&world.ctx).await.unwrap();

        assert_eq!(world.staged_keys(), [open.object_key]);
        assert_eq!(world.blob_keys().len(), 1);
    }
}
