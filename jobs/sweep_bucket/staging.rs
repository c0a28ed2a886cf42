//! Staging: objects that no open upload needs, which is what crashes, replays and rejected uploads have left.
//!
//! An object whose upload is still open stays; one whose upload has expired is late bytes and gets its arrival recorded, and
//! one of an open batch that has no upload is let in.
//!
//! An object of an org that the ledger does not know is foreign and stays: more likely than an org that has left its objects
//! behind is a process that was started on the fleet's bucket with another ledger than the fleet's.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use uuid::Uuid;

use super::{Page, Terms};
use crate::admit_object::AdmitObject;
use crate::job::{Context, JobError, Lane, NewJob};
use crate::ledger::sweeps::{self, Kind, Look, Orphan, Span};
use crate::ledger::{orgs, prefixes, uploads};
use crate::model::upload::ArrivedVia;
use crate::model::{Status, Upload, keys};
use crate::outside::ObjectHead;
use crate::record_arrival::RecordArrival;

/// Sorts behind every key of staging.
pub(super) const END: &str = "staging0";

/// What is to become of a staging object.
enum Fate {
    Stays,
    Arrives(NewJob),
    Goes(ObjectHead),
}

/// The objects behind a key, as many as the bucket lists at once: what was found, and where the next page begins.
pub(super) struct Found {
    pub(super) page: Page,
    pub(super) next: Option<String>,
}

/// Sweeps one page. A dry run writes down what would go; what has gone needs no writing down.
pub(super) async fn sweep(ctx: &Context, terms: Terms, after: Option<&str>) -> Result<Found, JobError> {
    let listing = ctx.bucket.list(keys::STAGING, after).await?;
    let to = listing.next.clone().unwrap_or_else(|| END.to_owned());
    let span = Span { after: after.unwrap_or(keys::STAGING).to_owned(), to };
    let looked_at = listing.objects.len();
    let youngest = ctx.now() - terms.min_age;
    let (old, young): (Vec<_>, Vec<_>) = listing.objects.into_iter().partition(|object| object.modified_at <= youngest);
    let unjudged: Vec<String> = young.into_iter().map(|object| object.key).collect();
    let (ours, foreign) = of_known_orgs(ctx, old).await?;
    let (gone, late) = judge(ctx, ours).await?;
    metrics::counter!("longshore_sweep_foreign_total").increment(foreign.len() as u64);
    let orphans: Vec<Orphan> = gone.iter().map(super::orphan).collect();
    let found = orphans.iter().map(|orphan| (Kind::Staging, orphan.clone())).collect();
    let page = Page { found, ..Page::of(Kind::Staging, looked_at, foreign) };
    if !terms.applies {
        note(ctx, &span, (&orphans, &unjudged)).await?;
        return Ok(Found { page, next: listing.next });
    }
    if !late.is_empty() {
        ctx.queue.push(late).await?;
    }
    super::remove(ctx, Kind::Staging, &orphans).await?;
    note(ctx, &span, (&[], &unjudged)).await?;
    Ok(Found { page: Page { removed: orphans, ..page }, next: listing.next })
}

async fn note(ctx: &Context, span: &Span, (found, unjudged): (&[Orphan], &[String])) -> Result<(), JobError> {
    let look = Look { kind: Kind::Staging, span, found, unjudged, sight_age: Duration::ZERO, at: ctx.now() };
    Ok(sweeps::mirror(&ctx.db, look).await?)
}

/// Those that go, and jobs for those that are late.
async fn judge(ctx: &Context, objects: Vec<ObjectHead>) -> Result<(Vec<ObjectHead>, Vec<NewJob>), JobError> {
    let (mut gone, mut late) = (Vec::new(), Vec::new());
    let (of_batches, single): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| keys::batch_of(&object.key).is_some());
    let mut fates = batch_fates(ctx, of_batches).await?;
    // Asked together, the ledger answers for the page with a few statements.
    fates.extend(try_join_all(single.into_iter().map(|object| fate(ctx, object))).await?);
    for fate in fates {
        match fate {
            Fate::Stays => {}
            Fate::Arrives(job) => late.push(job),
            Fate::Goes(object) => gone.push(object),
        }
    }
    Ok((gone, late))
}

/// The objects of orgs that the ledger knows and what doctor has left, and the keys of the others.
async fn of_known_orgs(ctx: &Context, objects: Vec<ObjectHead>) -> Result<(Vec<ObjectHead>, Vec<String>), JobError> {
    let named: HashSet<Uuid> = objects.iter().filter_map(|object| keys::org_of(&object.key)).collect();
    let known = orgs::known(&ctx.db, &named).await?;
    let is_ours = |org: Uuid| org == keys::NOBODY || known.contains(&org);
    let (ours, foreign): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| keys::org_of(&object.key).is_some_and(is_ours));
    Ok((ours, foreign.into_iter().map(|object| object.key).collect()))
}

async fn fate(ctx: &Context, object: ObjectHead) -> Result<Fate, JobError> {
    let Some(id) = keys::upload_of(&object.key) else {
        return Ok(Fate::Goes(object));
    };
    let upload = uploads::find(&ctx.db, id).await?.filter(|upload| upload.object_key == object.key);
    Ok(match upload {
        Some(upload) => fate_of(ctx, &upload, object),
        None => Fate::Goes(object),
    })
}

/// What is to become of the object of an upload that is in the ledger.
fn fate_of(ctx: &Context, upload: &Upload, object: ObjectHead) -> Fate {
    match upload.status {
        Status::Requested | Status::Issued | Status::Arrived | Status::Verified => Fate::Stays,
        Status::Expired => {
            let arrival = RecordArrival { upload: upload.id, via: ArrivedVia::Poll };
            Fate::Arrives(NewJob::of(&arrival, Lane::Bulk, ctx.now()))
        }
        Status::Done | Status::Rejected | Status::Cancelled => Fate::Goes(object),
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
        Some(upload) => fate_of(ctx, &upload, object),
        None if keys::batch_of(&object.key).is_some_and(|(batch, _)| open.contains(&batch)) => {
            Fate::Arrives(AdmitObject::told(ctx, object.key, ArrivedVia::Poll))
        }
        None => Fate::Goes(object),
    };
    Ok(objects.into_iter().map(fate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::listings;
    use crate::model::Batch;
    use crate::testkit::World;

    fn applied(world: &World) -> Terms {
        Terms { applies: true, ..Terms::of(&world.ctx.limits) }
    }

    async fn sweep_all(world: &World) -> Found {
        sweep(&world.ctx, applied(world), None).await.unwrap()
    }

    crate::on_every_engine! {
        only_old_objects_that_no_open_upload_needs_are_removed,
        objects_of_orgs_that_another_ledger_knows_are_left,
        what_doctor_has_left_goes,
        of_a_batchs_objects_those_are_let_in_that_it_still_takes,
        a_dry_run_writes_down_what_would_go_and_touches_nothing,
    }

    async fn a_dry_run_writes_down_what_would_go_and_touches_nothing(world: World) {
        let expired = world.issued().await;
        uploads::expire(&world.ctx.db, &expired, world.ctx.now()).await.unwrap();
        let (stray, odd) =
            (keys::staging(world.org, Uuid::now_v7()), format!("{}/a\0b", keys::staging(world.org, world.org)));
        for key in [&expired.object_key, &stray, &odd] {
            world.bucket.land(key, b"left behind");
        }
        world.clock.advance(Duration::from_secs(25 * 3600));
        let (before, dry) = (world.staged_keys(), Terms { applies: false, ..applied(&world) });

        let found = sweep(&world.ctx, dry, None).await.unwrap();

        assert_eq!((found.page.found.len(), found.page.removed.len(), world.staged_keys()), (2, 0, before));
        assert!(world.drain().await.is_empty(), "nothing was put on");
        let mut noted = written(&world).await;
        noted.sort_unstable();
        let mut expected = vec![stray, crate::ledger::keepable(&odd)];
        expected.sort_unstable();
        assert_eq!(noted, expected);

        sweep_all(&world).await;
        assert!(written(&world).await.is_empty(), "what has gone is struck");
        assert_eq!(world.staged_keys(), [expired.object_key]);
    }

    async fn written(world: &World) -> Vec<String> {
        let list = sweeps::list(&world.ctx.db, (Kind::Staging, world.ctx.now()), "", 100).await.unwrap();
        list.into_iter().map(|finding| finding.object_key).collect()
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
        sweep_all(&world).await;

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

        sweep_all(&world).await;
        assert_eq!(world.staged_keys().len(), 3, "all are young");

        world.clock.advance(Duration::from_secs(25 * 3600));
        sweep_all(&world).await;

        assert_eq!(world.staged_keys(), [open.object_key]);
        assert_eq!(world.blob_keys().len(), 1);
    }

    async fn what_doctor_has_left_goes(world: World) {
        world.bucket.land(&keys::staging(keys::NOBODY, Uuid::now_v7()), b"tried out");
        world.clock.advance(Duration::from_secs(25 * 3600));

        let found = sweep_all(&world).await;

        assert_eq!((found.page.removed.len(), found.page.foreign.len()), (1, 0));
        assert!(world.staged_keys().is_empty());
    }

    async fn objects_of_orgs_that_another_ledger_knows_are_left(world: World) {
        let (theirs, ours) = (keys::staging(Uuid::now_v7(), Uuid::now_v7()), keys::staging(world.org, Uuid::now_v7()));
        let nobodys = format!("{}notes.txt", keys::STAGING);
        for key in [&theirs, &ours, &nobodys] {
            world.bucket.land(key, b"uploaded");
        }
        world.clock.advance(Duration::from_secs(25 * 3600));

        let found = sweep(&world.ctx, applied(&world), None).await.unwrap();

        assert_eq!((found.page.removed.len(), found.page.foreign.len(), found.page.looked_at), (1, 2, 3));
        let mut left = vec![theirs, nobodys];
        left.sort_unstable();
        assert_eq!(world.staged_keys(), left);
    }
}
