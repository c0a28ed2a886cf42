//! Removes staging objects that no open upload needs: what crashes, replays and rejected uploads have left.
//!
//! Before: nothing. An object younger than the minimum age is let be; one whose upload is still open, too; one whose upload has
//! expired is late bytes and gets its arrival recorded, and one of an open batch that has no upload is let in. A second run finds less. It ends at the end of the listing.
//!
//! An object of an org that the ledger does not know is foreign and stays: more likely than an org that has left its objects
//! behind is a process that was started on the fleet's bucket with another ledger than the fleet's.

use std::collections::{HashMap, HashSet};

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::admit_object::AdmitObject;
use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::{orgs, prefixes, uploads};
use crate::model::upload::ArrivedVia;
use crate::model::{Status, Upload, keys};
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
        let (mut after, mut swept) = (None, Swept::default());
        loop {
            let page = ctx.bucket.list(keys::STAGING, after.as_deref()).await?;
            swept.add(sweep_page(ctx, page.objects).await?);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(swept.tell())
    }
}

/// What became of objects that are old enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Swept {
    removed: usize,
    /// Left, because their org is not in this ledger.
    foreign: usize,
}

impl Swept {
    const fn add(&mut self, page: Self) {
        self.removed += page.removed;
        self.foreign += page.foreign;
    }

    fn tell(self) -> End {
        if self.foreign > 0 {
            let foreign = self.foreign;
            tracing::warn!(
                foreign,
                "staging objects of orgs that this ledger does not know were left; is it their ledger?"
            );
        }
        if self.removed == 0 {
            return End::Moot;
        }
        tracing::info!(removed = self.removed, "staging objects that nobody needed were removed");
        End::Done
    }
}

/// What is to become of a staging object.
enum Fate {
    Stays,
    Arrives(NewJob),
    Goes(String),
}

async fn sweep_page(ctx: &Context, mut objects: Vec<ObjectHead>) -> Result<Swept, JobError> {
    let oldest_kept = ctx.now() - ctx.limits.sweep_min_age;
    objects.retain(|object| object.modified_at <= oldest_kept);
    let (ours, foreign) = of_known_orgs(ctx, objects).await?;
    let (mut gone, mut late) = (Vec::new(), Vec::new());
    let (of_batches, single): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|object| keys::batch_of(&object.key).is_some());
    let mut fates = batch_fates(ctx, of_batches).await?;
    // Asked together, the ledger answers for the page with a few statements.
    fates.extend(try_join_all(single.into_iter().map(|object| fate(ctx, object))).await?);
    for fate in fates {
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
    metrics::counter!("longshore_sweep_foreign_total").increment(foreign as u64);
    Ok(Swept { removed: gone.len(), foreign })
}

/// The objects of orgs that the ledger knows, and how many others there are.
async fn of_known_orgs(ctx: &Context, mut objects: Vec<ObjectHead>) -> Result<(Vec<ObjectHead>, usize), JobError> {
    let named: HashSet<Uuid> = objects.iter().filter_map(|object| keys::org_of(&object.key)).collect();
    let known = orgs::known(&ctx.db, &named).await?;
    let all = objects.len();
    objects.retain(|object| keys::org_of(&object.key).is_some_and(|org| known.contains(&org)));
    let foreign = all - objects.len();
    Ok((objects, foreign))
}

async fn fate(ctx: &Context, object: ObjectHead) -> Result<Fate, JobError> {
    let Some(id) = keys::upload_of(&object.key) else {
        return Ok(Fate::Goes(object.key));
    };
    let upload = uploads::find(&ctx.db, id).await?.filter(|upload| upload.object_key == object.key);
    Ok(upload.map_or(Fate::Goes(object.key), |upload| fate_of(ctx, upload)))
}

/// What is to become of the object of an upload that is in the ledger.
fn fate_of(ctx: &Context, upload: Upload) -> Fate {
    match upload.status {
        Status::Requested | Status::Issued | Status::Arrived | Status::Verified => Fate::Stays,
        Status::Expired => {
            let arrival = RecordArrival { upload: upload.id, via: ArrivedVia::Poll };
            Fate::Arrives(NewJob::of(&arrival, Lane::Bulk, ctx.now()))
        }
        Status::Done | Status::Rejected | Status::Cancelled => Fate::Goes(upload.object_key),
    }
}

/// Under the prefix of a batch that is open, an object without an upload is one whose notice was lost.
async fn batch_fates(ctx: &Context, objects: Vec<ObjectHead>) -> Result<Vec<Fate>, JobError> {
    let keys: Vec<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let standing = prefixes::standing(&ctx.db, &keys).await?;
    let mut standing: HashMap<_, _> = standing.into_iter().map(|row| (row.object_key.clone(), row)).collect();
    let named = keys.iter().filter_map(|key| Some(keys::batch_of(key)?.0)).collect();
    let open = prefixes::open(&ctx.db, &named).await?;
    let fate = |object: ObjectHead| match standing.remove(&object.key) {
        Some(upload) => fate_of(ctx, upload),
        None if keys::batch_of(&object.key).is_some_and(|(batch, _)| open.contains(&batch)) => {
            Fate::Arrives(AdmitObject::told(ctx, object.key, ArrivedVia::Poll))
        }
        None => Fate::Goes(object.key),
    };
    Ok(objects.into_iter().map(fate).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::listings;
    use crate::model::Batch;
    use crate::testkit::World;

    crate::on_every_engine! {
        only_old_objects_that_no_open_upload_needs_are_removed,
        objects_of_orgs_that_another_ledger_knows_are_left,
        of_a_batchs_objects_those_are_let_in_that_it_still_takes,
    }

    async fn of_a_batchs_objects_those_are_let_in_that_it_still_takes(world: World) {
        let (open, closed) = (world.prefix_batch(10).await, world.prefix_batch(10).await);
        let unknown = Batch { id: Uuid::now_v7(), ..open.clone() };
        let done = world.land_in(&open, "done", b"done");
        world.notice_of(&done).await;
        world.drain().await;
        assert!(listings::close(&world.ctx.db, &closed, world.ctx.now()).await.unwrap());
        for (batch, path) in [(&open, "done"), (&open, "silent"), (&closed, "late"), (&unknown, "stray")] {
            world.land_in(batch, path, b"left behind");
        }

        world.clock.advance(Duration::from_secs(25 * 3600));
        SweepBucket {}.run(&world.ctx).await.unwrap();

        assert_eq!(world.staged_keys(), [format!("{}silent", keys::batch_prefix(world.org, open.id))]);
        world.drain().await;
        assert!(world.staged_keys().is_empty());
        assert_eq!(world.files_of(&open).await.len(), 2);
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

    async fn objects_of_orgs_that_another_ledger_knows_are_left(world: World) {
        let (theirs, ours) = (keys::staging(Uuid::now_v7(), Uuid::now_v7()), keys::staging(world.org, Uuid::now_v7()));
        let nobodys = format!("{}notes.txt", keys::STAGING);
        for key in [&theirs, &ours, &nobodys] {
            world.bucket.land(key, b"uploaded");
        }
        world.clock.advance(Duration::from_secs(25 * 3600));

        let swept = sweep_page(&world.ctx, world.ctx.bucket.list(keys::STAGING, None).await.unwrap().objects).await;

        assert_eq!(swept.unwrap(), Swept { removed: 1, foreign: 2 });
        let mut left = vec![theirs, nobodys];
        left.sort_unstable();
        assert_eq!(world.staged_keys(), left);
    }
}
