//! All that the ledger knows of one upload, for whoever asks what became of it.
//!
//! What is on the queue for it is the queue's to tell: see [`Queue::about`](crate::outside::Queue::about).

use std::time::Duration;

use uuid::Uuid;

use super::dead_letters::{self, DeadLetter};
use super::failures::{self, Failure};
use super::manifests;
use super::workers::{self, Worker};
use super::{Db, LedgerError, pools};
use crate::admit_object::AdmitObject;
use crate::job::{Job, Pool};
use crate::model::step::{self, Step};
use crate::model::upload::{ArrivedVia, Reason};
use crate::model::{Digest, Status, Timestamp, Upload, keys};
use crate::outside::QueuedJob;

/// How many dead letters about one thing are read.
const LETTERS: i64 = 20;
/// How much of an error a sentence has, in characters.
const LONGEST: usize = 300;

/// An upload, what its jobs have met with, and what it may be waiting for.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The upload.
    pub upload: Upload,
    /// When its object is looked for next; `None` when nobody will.
    pub next_poll_at: Option<Timestamp>,
    /// The name of the org that it belongs to.
    pub org_name: String,
    /// The blob of its file; `None` without a file.
    pub blob: Option<Uuid>,
    /// Attempts of its jobs that failed.
    pub failures: Vec<Failure>,
    /// Its jobs that are dead, the latest first.
    pub letters: Vec<DeadLetter>,
    /// The digest that the bytes were to have, by the client or the manifest of its batch; `None` when nobody said.
    pub promised: Option<Digest>,
    /// The pools that are paused, and since when; none of an upload that has ended.
    pub paused: Vec<(Pool, Timestamp)>,
    /// Who works; nobody of an upload that has ended.
    pub workers: Vec<Worker>,
}

/// When and under which terms it is asked what an upload waits for.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: Timestamp,
    /// How long after its policy an upload may still be on its way: `expiry_grace` of the limits.
    pub grace: Duration,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(flatten)]
    upload: Upload,
    next_poll_at: Option<Timestamp>,
    org_name: String,
    blob_id: Option<Uuid>,
}

macro_rules! select_by {
    ($column:literal) => {
        concat!(
            "select u.*, o.name as org_name, f.blob_id
            from uploads u
            join orgs o on o.id = u.org_id
            left join files f on f.upload_id = u.id
            where u.",
            $column,
            " = $1"
        )
    };
}

/// The timeline of the upload with this id, or of the one whose file has it; `None` when there is neither.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<Timeline>, LedgerError> {
    let row = match row(db, select_by!("id"), id).await? {
        Some(row) => Some(row),
        None => row(db, select_by!("file_id"), id).await?,
    };
    let Some(Row { upload, next_poll_at, org_name, blob_id }) = row else { return Ok(None) };
    let subjects = subjects(&upload);
    let (failures, letters) = (failures::of(db, &subjects).await?, letters(db, &subjects).await?);
    let (paused, workers) = match upload.status.is_final() {
        true => Default::default(),
        false => (pools::paused(db).await?, workers::list(db).await?),
    };
    let promised = promised(db, &upload).await?;
    let blob = blob_id;
    Ok(Some(Timeline { upload, next_poll_at, org_name, blob, failures, letters, promised, paused, workers }))
}

async fn promised(db: &Db, upload: &Upload) -> Result<Option<Digest>, LedgerError> {
    match upload.batch_id {
        Some(batch) if upload.sha256.is_none() && upload.reason == Some(Reason::DigestMismatch) => {
            manifests::expected(db, batch, &upload.filename).await
        }
        _ => Ok(upload.sha256),
    }
}

async fn row(db: &Db, query: &'static str, id: Uuid) -> Result<Option<Row>, LedgerError> {
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(id).fetch_optional(c).await)?)
}

/// Jobs about these that are dead, the latest first.
pub async fn letters(db: &Db, subjects: &[Uuid]) -> Result<Vec<DeadLetter>, LedgerError> {
    let mut letters = Vec::new();
    for subject in subjects {
        let about = dead_letters::Filter { subject: Some(*subject), ..dead_letters::Filter::default() };
        letters.extend(dead_letters::list(db, &about, LETTERS).await?);
    }
    Ok(letters)
}

/// What jobs about the upload name as their subject: the upload, and where it came under a prefix, its object's key.
fn subjects(upload: &Upload) -> Vec<Uuid> {
    let admits = keys::batch_of(&upload.object_key)
        .map(|_| AdmitObject { key: upload.object_key.clone(), via: ArrivedVia::Notice }.subject());
    std::iter::once(upload.id).chain(admits).collect()
}

/// The job that moves the upload on, and who runs it; `None` where the client has to, or nobody.
#[must_use]
pub fn next_job(upload: &Upload) -> Option<(&'static str, Pool)> {
    use crate::{issue_policy::IssuePolicy, store_file::StoreFile, verify_upload::VerifyUpload};
    match upload.status {
        Status::Requested => Some((IssuePolicy::KIND, IssuePolicy::POOL)),
        Status::Issued if upload.policy.is_none() => Some((IssuePolicy::KIND, IssuePolicy::POOL)),
        Status::Arrived => Some((VerifyUpload::KIND, VerifyUpload::POOL)),
        Status::Verified => Some((StoreFile::KIND, StoreFile::POOL)),
        Status::Issued | Status::Done | Status::Rejected | Status::Expired | Status::Cancelled => None,
    }
}

impl Timeline {
    /// The steps of its way.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        step::steps(&self.upload, self.blob)
    }

    /// What jobs about it name as their subject, to ask the queue for them.
    #[must_use]
    pub fn subjects(&self) -> Vec<Uuid> {
        subjects(&self.upload)
    }

    /// What it waits for, as a sentence without its full stop. `jobs` are those that the queue has for it, with their errors: none
    /// where nobody knows.
    #[must_use]
    pub fn waits_for(&self, jobs: &[QueuedJob], moment: Moment) -> String {
        let upload = &self.upload;
        if upload.status.is_final() {
            return "nothing".to_owned();
        }
        if let Some(letter) = self.letters.iter().find(|letter| letter.died_at >= upload.updated_at) {
            return format!("a person: its job is dead (`longshore jobs explain {}`)", letter.id);
        }
        let next = next_job(upload);
        let job = jobs.iter().max_by_key(|job| (job.attempts, Some(job.kind.as_str()) == next.map(|(kind, _)| kind)));
        let Some((kind, pool)) = job.map(|job| (job.kind.as_str(), job.pool)).or(next) else {
            return self.waits_for_client(moment);
        };
        let what = match job {
            Some(job) if job.is_running => format!("{}, which is under way", of_worker(kind)),
            Some(job) if job.attempts > 0 => next_attempt(job),
            _ => of_worker(kind).to_owned(),
        };
        if let Some((_, since)) = self.paused.iter().find(|(paused, _)| *paused == pool) {
            return format!("{what}, but the pool `{pool}` is paused since {since} (`longshore pool resume {pool}`)");
        }
        if !self.workers.iter().any(|worker| worker.is_there(moment.now) && worker.pools.contains_key(&pool)) {
            return format!("{what}, but no worker works the pool `{pool}` (`longshore pool list`)");
        }
        let is_on_its_way = job.is_some_and(|job| job.is_running || job.attempts > 0);
        match upload.resume_at.filter(|_| !is_on_its_way) {
            Some(at) => format!("{what}; put on again at {at} if it has not moved by then"),
            None => what,
        }
    }

    /// No job is to be done: the bytes have to come.
    fn waits_for_client(&self, Moment { now, grace }: Moment) -> String {
        let looked = |what: &str| match self.next_poll_at {
            Some(at) => format!("{what}; the bucket is looked into at {at} if no notice has come by then"),
            None => what.to_owned(),
        };
        match self.upload.policy_expires_at.filter(|ended| *ended <= now) {
            Some(ended) => {
                looked(&format!("the client: its policy ended at {ended}; expires at about {}", ended + grace))
            }
            None => looked("the client to send the bytes"),
        }
    }
}

fn of_worker(kind: &str) -> &'static str {
    use crate::record_arrival::RecordArrival;
    use crate::{issue_policy::IssuePolicy, store_file::StoreFile, verify_upload::VerifyUpload};
    match kind {
        IssuePolicy::KIND => "a worker to sign its policy",
        VerifyUpload::KIND => "a worker to hash it",
        StoreFile::KIND => "a worker to store it",
        RecordArrival::KIND | AdmitObject::KIND => "a worker to look at its object",
        _ => "a worker",
    }
}

fn next_attempt(job: &QueuedJob) -> String {
    let QueuedJob { kind, due, attempts, max_attempts, .. } = job;
    let attempt = format!("{}: attempt {} of {max_attempts} at {due}", of_worker(kind), attempts + 1);
    match job.error.as_deref().and_then(|error| error.lines().next()) {
        Some(error) => format!("{attempt}, after: {}", error.chars().take(LONGEST).collect::<String>()),
        None => attempt,
    }
}

/// Has jobs tell their last error where the queue does not keep it.
pub fn fill_errors(jobs: &mut [QueuedJob], failures: &[Failure]) {
    for job in jobs.iter_mut().filter(|job| job.attempts > 0 && job.error.is_none()) {
        let of_job = |failure: &&Failure| (failure.subject, failure.kind.as_str()) == (job.subject, job.kind.as_str());
        job.error = failures.iter().find(of_job).map(|failure| failure.error.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::step::Name;
    use crate::testkit::World;

    crate::on_every_engine! {
        the_way_of_an_upload_is_told_with_its_times,
        bytes_that_the_org_has_are_told_apart,
        an_upload_that_needed_a_second_attempt_tells_why_when_it_is_done,
        what_an_upload_waits_for_is_told,
        a_policy_that_has_ended_is_told_with_the_end_that_is_near,
        a_job_that_is_tried_again_does_not_look_healthy,
        a_digest_that_differs_is_kept_beside_the_one_that_was_promised,
        bytes_that_changed_are_not_hashed_yet,
    }

    async fn told(world: &World, id: Uuid) -> Timeline {
        find(&world.ctx.db, id).await.unwrap().unwrap()
    }

    fn times(timeline: &Timeline, from: Timestamp) -> Vec<(Name, Option<u64>)> {
        timeline.steps().iter().map(|step| (step.name, step.at.map(|at| at.since(from).as_secs()))).collect()
    }

    fn pass(world: &World) {
        world.clock.advance(Duration::from_secs(1));
    }

    async fn the_way_of_an_upload_is_told_with_its_times(world: World) {
        let (row, began) = (world.requested(), world.ctx.now());
        pass(&world);
        let upload = world.issue(row).await;
        pass(&world);
        world.bucket.land(&upload.object_key, b"bytes");
        pass(&world);
        world.notice(&upload).await;
        world.drain().await;

        let timeline = told(&world, upload.file_id).await;

        assert_eq!((timeline.upload.id, timeline.org_name.as_str()), (upload.id, "acme"));
        let way = [Name::Requested, Name::Policy, Name::Landed, Name::Notified, Name::Hashed, Name::Stored, Name::Done];
        let seconds = [0, 1, 2, 3, 3, 3, 3].map(Some);
        assert_eq!(times(&timeline, began), way.into_iter().zip(seconds).collect::<Vec<_>>());
        assert_eq!(waits_for(&world, upload.id).await, "nothing");
        assert!(find(&world.ctx.db, Uuid::now_v7()).await.unwrap().is_none());
    }

    async fn bytes_that_the_org_has_are_told_apart(world: World) {
        let first = world.uploaded(b"same").await;
        let second = world.uploaded(b"same").await;

        let (first, second) = (told(&world, first.id).await, told(&world, second.id).await);

        let kept = |timeline: &Timeline| timeline.steps()[5].clone();
        assert_eq!((kept(&first).name, kept(&second).name), (Name::Stored, Name::Deduplicated));
        assert_eq!(kept(&second).note, Some(format!("blob {}", first.blob.unwrap())));
    }

    async fn an_upload_that_needed_a_second_attempt_tells_why_when_it_is_done(world: World) {
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, b"bytes");
        world.bucket.break_key(&upload.object_key);
        world.notice(&upload).await;
        world.drain().await;

        let mut jobs = world.ctx.queue.about(&[upload.id]).await.unwrap();
        let timeline = told(&world, upload.id).await;
        fill_errors(&mut jobs, &timeline.failures);
        assert_eq!((jobs[0].kind.as_str(), jobs[0].attempts, jobs[0].is_running), ("record_arrival", 1, false));
        assert_eq!(jobs[0].error.as_ref(), Some(&timeline.failures[0].error));

        world.bucket.mend_key(&upload.object_key);
        world.clock.advance(Duration::from_secs(3));
        world.drain().await;

        let timeline = told(&world, upload.id).await;
        assert_eq!(timeline.upload.status, Status::Done);
        let failed: Vec<_> = timeline.failures.iter().map(|failed| (failed.kind.as_str(), failed.attempts)).collect();
        assert_eq!(failed, [("record_arrival", 1)]);
    }

    async fn waits_for(world: &World, id: Uuid) -> String {
        let timeline = told(world, id).await;
        let mut jobs = world.ctx.queue.about(&timeline.subjects()).await.unwrap();
        fill_errors(&mut jobs, &timeline.failures);
        timeline.waits_for(&jobs, Moment { now: world.ctx.now(), grace: world.ctx.limits.expiry_grace })
    }

    /// Somebody works these pools.
    async fn staff(world: &World, pools: &[Pool]) {
        let now = world.ctx.now();
        let pools = pools.iter().map(|pool| (*pool, workers::Share::default())).collect();
        let (name, version) = ("w".to_owned(), "1".to_owned());
        workers::beat(&world.ctx.db, Worker { name, version, started_at: now, seen_at: now, pools }).await.unwrap();
    }

    async fn what_an_upload_waits_for_is_told(world: World) {
        let upload = world.issued().await;
        let polled = world.ctx.now() + world.ctx.limits.first_poll;
        let waits = waits_for(&world, upload.id).await;
        let looked = format!("the bucket is looked into at {polled} if no notice has come by then");
        assert_eq!(waits, format!("the client to send the bytes; {looked}"));

        world.bucket.land(&upload.object_key, b"bytes");
        let via = ArrivedVia::Notice;
        crate::record_arrival::RecordArrival { upload: upload.id, via }.run(&world.ctx).await.unwrap();
        let waits = waits_for(&world, upload.id).await;
        assert_eq!(waits, "a worker to hash it, but no worker works the pool `verify` (`longshore pool list`)");

        staff(&world, &[Pool::Verify]).await;
        let waits = waits_for(&world, upload.id).await;
        assert!(waits.starts_with("a worker to hash it; put on again at "), "{waits}");

        pools::set_paused(&world.ctx.db, Pool::Verify, true, world.ctx.now()).await.unwrap();
        let waits = waits_for(&world, upload.id).await;
        assert!(waits.starts_with("a worker to hash it, but the pool `verify` is paused since "), "{waits}");
    }

    async fn a_policy_that_has_ended_is_told_with_the_end_that_is_near(world: World) {
        let upload = world.issued().await;
        let ended = upload.policy_expires_at.unwrap();
        world.clock.advance(ended.since(world.ctx.now()));

        let waits = waits_for(&world, upload.id).await;

        let expires = ended + world.ctx.limits.expiry_grace;
        let expected =
            format!("the client: its policy ended at {ended}; expires at about {expires}; the bucket is looked");
        assert!(waits.starts_with(&expected), "{waits}");
    }

    async fn a_job_that_is_tried_again_does_not_look_healthy(world: World) {
        staff(&world, &[Pool::Arrive, Pool::Verify]).await;
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, b"bytes");
        world.bucket.break_key(&upload.object_key);
        world.notice(&upload).await;
        world.drain().await;

        let due = world.ctx.queue.about(&[upload.id]).await.unwrap()[0].due;
        let waits = waits_for(&world, upload.id).await;
        let expected =
            format!("a worker to look at its object: attempt 2 of 20 at {due}, after: head failed on the bucket");
        assert!(waits.starts_with(&expected), "{waits}");

        let timeline = told(&world, upload.id).await;
        let mut jobs = world.ctx.queue.about(&[upload.id]).await.unwrap();
        jobs[0].is_running = true;
        let moment = Moment { now: world.ctx.now(), grace: Duration::ZERO };
        assert_eq!(timeline.waits_for(&jobs, moment), "a worker to look at its object, which is under way");
        let later = Moment { now: world.ctx.now() + workers::GONE + Duration::from_millis(1), ..moment };
        assert!(timeline.waits_for(&jobs, later).contains("no worker works the pool `arrive`"));
    }

    async fn a_digest_that_differs_is_kept_beside_the_one_that_was_promised(world: World) {
        let promised = Digest::of(b"other");
        let upload = world.issue(Upload { sha256: Some(promised), ..world.requested() }).await;
        world.bucket.land(&upload.object_key, b"bytes");
        world.notice(&upload).await;
        world.drain().await;

        let timeline = told(&world, upload.id).await;

        assert_eq!(timeline.upload.reason, Some(Reason::DigestMismatch));
        assert_eq!((timeline.promised, timeline.upload.verified_sha256), (Some(promised), Some(Digest::of(b"bytes"))));
        assert_eq!(timeline.upload.verified_at, None);

        let batch = world.prefix_batch(10).await;
        world.pin(&batch, &[("a.txt", b"other")]).await;
        let key = world.land_in(&batch, "a.txt", b"bytes");
        world.notice_of(&key).await;
        world.drain().await;
        let query = "select id from uploads where batch_id = $1";
        let id: Uuid =
            sql!(world.ctx.db.reader(), c => sqlx::query_scalar(query).bind(batch.id).fetch_one(c).await).unwrap();
        let timeline = told(&world, id).await;
        assert_eq!((timeline.promised, timeline.upload.verified_sha256), (Some(promised), Some(Digest::of(b"bytes"))));
    }

    async fn bytes_that_changed_are_not_hashed_yet(world: World) {
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, b"first");
        let via = ArrivedVia::Notice;
        crate::record_arrival::RecordArrival { upload: upload.id, via }.run(&world.ctx).await.unwrap();
        crate::verify_upload::VerifyUpload { upload: upload.id }.run(&world.ctx).await.unwrap();
        pass(&world);
        world.bucket.land(&upload.object_key, b"other");
        crate::store_file::StoreFile { upload: upload.id }.run(&world.ctx).await.unwrap();

        let timeline = told(&world, upload.id).await;
        assert_eq!((timeline.upload.verified_at, timeline.upload.landed_at), (None, Some(world.ctx.now())));
        assert_eq!(timeline.steps()[4].note.as_deref(), Some("the bytes changed once"));
    }
}
