//! Looks into the bucket for uploads whose notice is late: the third way to learn of an arrival, when notice and callback
//! were both lost. Open prefix batches, whose keys nobody knows before, are listed.
//!
//! Before: nothing. Each issued upload is looked for a minute after its policy was handed out, after ten, and when the policy
//! has ended. A second run finds `next_poll_at` moved, but for rows whose look failed: those are looked for again. It ends
//! after 500 rows; the next tick takes the rest.

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::{listings, uploads};
use crate::list_batch::ListBatch;
use crate::model::Upload;
use crate::model::upload::ArrivedVia;
use crate::outside::BucketError;
use crate::record_arrival::RecordArrival;

/// How many rows one run looks for.
const AT_ONCE: i64 = 500;
/// How many HEAD requests are under way together.
const TOGETHER: usize = 16;

/// Looks for what is due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PollArrivals {}

impl Job for PollArrivals {
    const KIND: &'static str = "poll_arrivals";
    const POOL: Pool = Pool::Upkeep;

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let now = ctx.now();
        let lists = list_batches(ctx).await?;
        let due = uploads::due_for_poll(&ctx.db, now, AT_ONCE).await?;
        if due.is_empty() {
            return Ok(lists);
        }
        let Seen { found, answered, failed } = look_for(ctx, due).await;
        if !found.is_empty() {
            tracing::info!(uploads = found.len(), "found in the bucket without a notice");
            ctx.queue.push(found).await?;
        }
        uploads::polled(&ctx.db, answered, now).await?;
        failed.map_or(Ok(End::Done), |error| Err(error.into()))
    }
}

/// Has the open prefix batches listed whose turn it is, each by a job of its own.
async fn list_batches(ctx: &Context) -> Result<End, JobError> {
    let due = listings::due(&ctx.db, ctx.now(), AT_ONCE).await?;
    if due.is_empty() {
        return Ok(End::Moot);
    }
    let via = ArrivedVia::Poll;
    let list = |batch| NewJob::of(&ListBatch { batch, via }, Lane::Bulk, ctx.now());
    ctx.queue.push(due.into_iter().map(list).collect()).await?;
    Ok(End::Done)
}

/// What came of many looks.
#[derive(Default)]
struct Seen {
    /// The arrivals of those that are there.
    found: Vec<NewJob>,
    /// The rows about which the bucket said anything.
    answered: Vec<Upload>,
    /// Why it said nothing about the others: the first reason.
    failed: Option<BucketError>,
}

async fn look_for(ctx: &Context, due: Vec<Upload>) -> Seen {
    let looks: Vec<_> = due.into_iter().map(|upload| look(ctx, upload)).collect();
    let looked: Vec<_> = stream::iter(looks).buffer_unordered(TOGETHER).collect().await;
    let mut seen = Seen::default();
    for look in looked {
        match look {
            Ok((upload, arrival)) => {
                seen.found.extend(arrival);
                seen.answered.push(upload);
            }
            Err(error) => seen.failed = seen.failed.or(Some(error)),
        }
    }
    seen
}

async fn look(ctx: &Context, upload: Upload) -> Result<(Upload, Option<NewJob>), BucketError> {
    let found = ctx.bucket.head(&upload.object_key).await?;
    let arrival = RecordArrival { upload: upload.id, via: ArrivedVia::Poll };
    Ok((upload, found.map(|_| NewJob::of(&arrival, Lane::Bulk, ctx.now()))))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Status;
    use crate::testkit::World;

    crate::on_every_engine! {
        an_upload_whose_notice_was_lost_is_found,
        looks_come_after_one_minute_ten_minutes_and_the_policys_end,
        a_look_that_fails_does_not_throw_away_the_others,
    }

    async fn an_upload_whose_notice_was_lost_is_found(world: World) {
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, b"unannounced");

        world.ctx.push(&PollArrivals {}).await.unwrap();
        world.drain().await;
        assert_eq!(world.upload(upload.id).await.status, Status::Issued, "a minute has not passed");

        world.clock.advance(Duration::from_secs(61));
        world.ctx.push(&PollArrivals {}).await.unwrap();
        world.drain().await;

        let upload = world.upload(upload.id).await;
        assert_eq!((upload.status, upload.arrived_via), (Status::Done, Some(ArrivedVia::Poll)));
    }

    async fn looks_come_after_one_minute_ten_minutes_and_the_policys_end(world: World) {
        let upload = world.issued().await;

        let mut looks = Vec::new();
        for second in 0..2000 {
            world.clock.advance(Duration::from_secs(1));
            let due = uploads::due_for_poll(&world.ctx.db, world.ctx.now(), 10).await.unwrap();
            if due.iter().any(|row| row.id == upload.id) {
                looks.push(second + 1);
                PollArrivals {}.run(&world.ctx).await.unwrap();
            }
        }

        assert_eq!(looks, [60, 600, 901]);
    }

    async fn a_look_that_fails_does_not_throw_away_the_others(world: World) {
        let (sick, there, missing) = (world.issued().await, world.issued().await, world.issued().await);
        world.bucket.land(&there.object_key, b"unannounced");
        world.bucket.break_key(&sick.object_key);

        world.clock.advance(Duration::from_secs(61));
        let ended = PollArrivals {}.run(&world.ctx).await;

        assert!(matches!(ended, Err(JobError::Retry(_))));
        assert_eq!(world.queue.waiting(), ["record_arrival"]);
        let due = uploads::due_for_poll(&world.ctx.db, world.ctx.now(), 10).await.unwrap();
        assert_eq!(due.iter().map(|row| row.id).collect::<Vec<_>>(), [sick.id], "{} answered", missing.id);
    }
}
