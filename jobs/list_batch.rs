//! Lists the objects under a batch's prefix: how those are found whose notice was lost.
//!
//! Before: the batch is open. A run lists ten pages at most, puts a job on for each object that has no upload or whose upload
//! has ended, and keeps in the batch's row how far it has come; then it puts itself on again, behind whatever waits. A second
//! run goes on from there. It ends at the end of the listing, and begins anew only if somebody wanted that in the meantime.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::admit_object::AdmitObject;
use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool, show_trace};
use crate::ledger::{listings, prefixes};
use crate::model::upload::ArrivedVia;
use crate::model::{Batch, Status, keys};
use crate::outside::ObjectHead;
use crate::record_arrival::RecordArrival;

/// How many pages of a thousand keys one run lists.
const PAGES: usize = 10;

/// Lists one batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListBatch {
    /// The batch.
    pub batch: Uuid,
    /// Who wants to know.
    pub via: ArrivedVia,
}

impl Job for ListBatch {
    const KIND: &'static str = "list_batch";
    const POOL: Pool = Pool::Upkeep;
    /// A slow bucket's ten pages.
    const TIME_LIMIT: Duration = Duration::from_secs(600);

    fn subject(&self) -> Uuid {
        self.batch
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let Some(batch) = listings::begin(&ctx.db, self.batch, ctx.now()).await? else {
            return Ok(End::Moot);
        };
        show_trace(batch.traceparent);
        let mut place = batch.listed_to.clone();
        for _ in 0..PAGES {
            let (_, next) = list_page(ctx, &batch, place.as_deref(), self.via).await?;
            place = next;
            if place.is_none() {
                break;
            }
        }
        let (goes_on, now) = (place.is_some(), ctx.now());
        let next = listings::went_on(&ctx.db, &batch, place, now).await?;
        if goes_on || next.is_some_and(|next| next <= now) {
            ctx.queue.push(vec![NewJob::of(&self, Lane::Bulk, now)]).await?;
        }
        Ok(End::Done)
    }
}

/// Sees to the objects of one page. Returns how many have no upload yet, and where the next page starts.
pub(crate) async fn list_page(
    ctx: &Context,
    batch: &Batch,
    after: Option<&str>,
    via: ArrivedVia,
) -> Result<(usize, Option<String>), JobError> {
    let prefix = keys::batch_prefix(batch.org_id, batch.id);
    let page = ctx.bucket.list(&prefix, after).await?;
    let (new, jobs) = untended(ctx, &page.objects, via).await?;
    if !jobs.is_empty() {
        tracing::info!(batch = %batch.id, objects = jobs.len(), "found in the bucket without a notice");
        ctx.queue.push(jobs).await?;
    }
    Ok((new, page.next))
}

/// The jobs for those objects that nobody sees to, and how many of them have no upload. An upload that is open has a job, or
/// gets it again.
async fn untended(ctx: &Context, objects: &[ObjectHead], via: ArrivedVia) -> Result<(usize, Vec<NewJob>), JobError> {
    let keys: Vec<&str> =
        objects.iter().map(|object| object.key.as_str()).filter(|key| keys::batch_of(key).is_some()).collect();
    let standing = prefixes::standing(&ctx.db, &keys).await?;
    let standing: HashMap<_, _> = standing.iter().map(|row| (row.object_key.as_str(), (row.id, row.status))).collect();
    let (mut new, mut jobs) = (0, Vec::new());
    for key in keys {
        match standing.get(key) {
            None => {
                new += 1;
                jobs.push(AdmitObject::told(ctx, key.to_owned(), via));
            }
            Some((_, Status::Arrived | Status::Verified)) => {}
            Some((upload, _)) => {
                jobs.push(NewJob::of(&RecordArrival { upload: *upload, via }, Lane::Bulk, ctx.now()));
            }
        }
    }
    Ok((new, jobs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll_arrivals::PollArrivals;
    use crate::testkit::World;

    crate::on_every_engine! {
        objects_whose_notices_were_lost_are_found,
        a_long_listing_goes_on_where_it_stopped_and_is_not_begun_anew,
        a_listing_whose_job_was_lost_is_taken_up_again,
        a_listing_is_due_every_ten_minutes_and_when_the_policy_has_ended,
        a_policy_that_is_renewed_while_its_last_listing_is_under_way_is_listed_on,
        what_was_put_onto_a_finished_key_is_removed,
    }

    fn list(batch: &Batch) -> ListBatch {
        ListBatch { batch: batch.id, via: ArrivedVia::Callback }
    }

    async fn objects_whose_notices_were_lost_are_found(world: World) {
        let batch = world.prefix_batch(10).await;
        world.land_in(&batch, "a", b"one");
        world.land_in(&batch, "b/c", b"two");

        world.clock.advance(Duration::from_secs(59));
        world.ctx.push(&PollArrivals {}).await.unwrap();
        world.drain().await;
        assert!(world.files_of(&batch).await.is_empty(), "a minute has not passed");

        world.clock.advance(Duration::from_secs(2));
        world.ctx.push(&PollArrivals {}).await.unwrap();
        world.drain().await;

        let found = world.files_of(&batch).await;
        assert_eq!(found, [("a".to_owned(), Status::Done, None), ("b/c".to_owned(), Status::Done, None)]);
    }

    /// More objects than one run lists.
    fn land_many(world: &World, batch: &Batch, count: usize) {
        for number in 0..count {
            world.land_in(batch, &format!("{number:06}"), b"");
        }
    }

    async fn a_long_listing_goes_on_where_it_stopped_and_is_not_begun_anew(world: World) {
        let batch = world.prefix_batch(1_000_000).await;
        land_many(&world, &batch, 10_500);

        list(&batch).run(&world.ctx).await.unwrap();
        assert_eq!(world.queue.waiting().len(), 10_001, "ten pages, and itself once more");
        let place = world.batch(batch.id).await.listed_to.unwrap();
        assert!(place.ends_with("/009999"), "{place}");
        world.queue.forget();

        // Somebody calls back in the midst of it: another listing is to come, and this one goes on all the same.
        assert!(listings::want(&world.ctx.db, batch.id, world.ctx.now()).await.unwrap());
        list(&batch).run(&world.ctx).await.unwrap();
        assert_eq!(world.queue.waiting().len(), 501, "the rest, and itself once more");
        let row = world.batch(batch.id).await;
        assert_eq!((row.listed_to, row.next_poll_at), (None, Some(world.ctx.now())));
        world.queue.forget();

        list(&batch).run(&world.ctx).await.unwrap();
        assert_eq!(world.queue.waiting().len(), 10_001, "from the start");
    }

    async fn a_listing_whose_job_was_lost_is_taken_up_again(world: World) {
        let batch = world.prefix_batch(1_000_000).await;
        land_many(&world, &batch, 10_001);
        list(&batch).run(&world.ctx).await.unwrap();
        world.queue.forget();

        world.clock.advance(Duration::from_secs(61));
        PollArrivals {}.run(&world.ctx).await.unwrap();
        assert_eq!(world.queue.waiting(), ["list_batch"]);
        list(&batch).run(&world.ctx).await.unwrap();

        assert_eq!(world.batch(batch.id).await.listed_to, None);
    }

    async fn a_listing_is_due_every_ten_minutes_and_when_the_policy_has_ended(world: World) {
        let batch = world.prefix_batch(10).await;

        let mut listed = Vec::new();
        for second in 1..=2000 {
            world.clock.advance(Duration::from_secs(1));
            if !listings::due(&world.ctx.db, world.ctx.now(), 10).await.unwrap().is_empty() {
                listed.push(second);
                list(&batch).run(&world.ctx).await.unwrap();
            }
        }

        assert_eq!(listed, [60, 660, 901]);
    }

    async fn a_policy_that_is_renewed_while_its_last_listing_is_under_way_is_listed_on(world: World) {
        let (db, batch) = (&world.ctx.db, world.prefix_batch(10).await);
        world.clock.advance(Duration::from_secs(901));
        let under_way = listings::begin(db, batch.id, world.ctx.now()).await.unwrap().unwrap();

        let (now, ends) = (world.ctx.now(), world.ctx.now() + Duration::from_secs(900));
        assert!(prefixes::renew(db, batch.id, ("{}".to_owned(), ends), (batch.created_at, now)).await.unwrap());
        listings::went_on(db, &under_way, None, now).await.unwrap();

        assert_eq!(world.batch(batch.id).await.next_poll_at, Some(now + Duration::from_secs(600)));
    }

    async fn what_was_put_onto_a_finished_key_is_removed(world: World) {
        let batch = world.prefix_batch(10).await;
        let key = world.land_in(&batch, "a", b"first");
        world.notice_of(&key).await;
        world.drain().await;
        world.land_in(&batch, "a", b"replayed");

        world.ctx.push(&list(&batch)).await.unwrap();
        world.drain().await;

        assert!(world.staged_keys().is_empty());
        assert_eq!(world.entries_of(b"replayed").await, 0);
    }
}
