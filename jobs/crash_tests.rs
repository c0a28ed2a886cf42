//! A crash between any two steps of the pipeline does no harm: one test that crashes at each of them in turn.
//!
//! The steps are the calls to bucket and queue; a crash comes just before or just after one. From then on nothing has any
//! effect, until everything starts again with an empty queue: what was lost, the scheduled jobs must put back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::close_batches::CloseBatches;
use crate::expire_uploads::ExpireUploads;
use crate::issue_batch::IssueBatch;
use crate::job::{Context, NewJob};
use crate::ledger::page::Page;
use crate::ledger::{batches, members};
use crate::model::policy::{PolicyTerms, PostPolicy};
use crate::model::upload::Reason;
use crate::model::{Batch, Digest, Line, Status, Upload};
use crate::outside::{
    Body, Bucket, BucketAddress, BucketError, Chunks, Listing, LookError, ObjectHead, Queue, QueueError, QueuedJob,
    Stored,
};
use crate::poll_arrivals::PollArrivals;
use crate::resume_stalled::ResumeStalled;
use crate::sweep_bucket::SweepBucket;
use crate::testkit::World;

/// Counts steps and decides when the process is dead.
struct Fate {
    step: AtomicUsize,
    crash_at: usize,
    /// Whether the step of the crash still takes effect.
    after: bool,
    dead: AtomicBool,
}

impl Fate {
    /// `Some(effect)`: this step is the crash or lies behind it; `effect` tells whether it still happens.
    fn strikes(&self) -> Option<bool> {
        if self.dead.load(Ordering::SeqCst) {
            return Some(false);
        }
        if self.step.fetch_add(1, Ordering::SeqCst) != self.crash_at {
            return None;
        }
        self.dead.store(true, Ordering::SeqCst);
        Some(self.after)
    }
}

struct Mortal<T: ?Sized> {
    inner: Arc<T>,
    fate: Arc<Fate>,
}

impl<T: ?Sized> Mortal<T> {
    async fn step<R>(&self, work: impl Future<Output = Result<R, BucketError>> + Send) -> Result<R, BucketError> {
        match self.fate.strikes() {
            None => work.await,
            Some(effect) => {
                if effect {
                    work.await?;
                }
                Err(BucketError::Failed { op: "step", source: "the process is dead".into() })
            }
        }
    }
}

#[async_trait]
impl Bucket for Mortal<dyn Bucket> {
    async fn sign(&self, terms: PolicyTerms) -> Result<PostPolicy, BucketError> {
        self.step(self.inner.sign(terms)).await
    }
    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        self.step(self.inner.head(key)).await
    }
    async fn read(&self, head: &ObjectHead) -> Result<Body, BucketError> {
        self.step(self.inner.read(head)).await
    }
    async fn put(&self, key: &str, kind: Option<&str>, bytes: Chunks<'_>) -> Result<Stored, BucketError> {
        self.step(self.inner.put(key, kind, bytes)).await
    }
    async fn copy(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError> {
        self.step(self.inner.copy(from, to)).await
    }
    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        self.step(self.inner.delete(keys)).await
    }
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError> {
        self.step(self.inner.list(prefix, after)).await
    }
    async fn presign_get(&self, key: &str, name: &str, life: Duration) -> Result<String, BucketError> {
        self.step(self.inner.presign_get(key, name, life)).await
    }
    fn address(&self) -> BucketAddress {
        self.inner.address()
    }
}

#[async_trait]
impl Queue for Mortal<dyn Queue> {
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
        let dead = || QueueError { count: 1, source: "the process is dead".into() };
        match self.fate.strikes() {
            None => self.inner.push(jobs).await,
            Some(true) => {
                self.inner.push(jobs).await?;
                Err(dead())
            }
            Some(false) => Err(dead()),
        }
    }

    async fn about(&self, subjects: &[Uuid]) -> Result<Vec<QueuedJob>, LookError> {
        self.inner.about(subjects).await
    }
}

/// The world's context with a crash at the given step.
fn doomed(world: &World, crash_at: usize, after: bool) -> (Context, Arc<Fate>) {
    let fate = Arc::new(Fate { step: AtomicUsize::new(0), crash_at, after, dead: AtomicBool::new(false) });
    let doomed = Context {
        bucket: Arc::new(Mortal { inner: Arc::clone(&world.ctx.bucket), fate: Arc::clone(&fate) }),
        queue: Arc::new(Mortal { inner: Arc::clone(&world.ctx.queue), fate: Arc::clone(&fate) }),
        ..world.ctx.clone()
    };
    (doomed, fate)
}

/// Two uploads of the same bytes in a new world, with a crash at the given step. Returns whether the crash came at all.
async fn survives(mut world: World, crash_at: usize, after: bool, forgetful: bool) -> bool {
    let (one, two) = (world.issued().await, world.issued().await);
    for upload in [&one, &two] {
        world.bucket.land(&upload.object_key, b"the same bytes");
        world.notice(upload).await;
    }
    let (doomed, fate) = doomed(&world, crash_at, after);
    world.queue.drain(&doomed).await;

    if forgetful {
        world.queue.forget();
    }
    for _ in 0..6 {
        world.clock.advance(Duration::from_secs(700));
        for push in [world.ctx.push(&PollArrivals {}).await, world.ctx.push(&ResumeStalled {}).await] {
            push.expect("the new process lives");
        }
        world.drain().await;
    }
    world.clock.advance(Duration::from_secs(100_000));
    world.ctx.push(&ExpireUploads {}).await.expect("the new process lives");
    world.ctx.limits.sweep_applies = true;
    for wait in [Duration::ZERO, world.ctx.limits.sweep_restore_window] {
        world.clock.advance(wait);
        world.ctx.push(&SweepBucket {}).await.expect("the new process lives");
        world.drain().await;
    }

    let case = format!("crash at step {crash_at}, after: {after}, queue lost: {forgetful}");
    for upload in [&one, &two] {
        assert_eq!(world.upload(upload.id).await.status, Status::Done, "{case}");
    }
    assert_eq!(world.entries_of(b"the same bytes").await, 2, "{case}");
    assert_eq!(world.staged_keys().len(), 0, "{case}");
    let report = world.report().await;
    assert_eq!((report.files, report.unique_files), (2, 1), "{case}");
    // A copy that lost its process was a blob's object without a row, and is swept.
    assert_eq!(world.blob_keys().len(), 1, "{case}");
    assert!(world.queue.dead().is_empty(), "{case}");
    fate.dead.load(Ordering::SeqCst)
}

/// A batch of four lines in a new world, one of them with known bytes and one with a known ref, and a crash at the given
/// step. Returns whether the crash came at all.
async fn batch_survives(world: World, crash_at: usize, after: bool, forgetful: bool) -> bool {
    world.uploaded(b"known").await;
    let earlier = world.issue(Upload { client_ref: Some("2".to_owned()), ..world.requested() }).await;
    let line = |number: i32| Line {
        filename: number.to_string(),
        size: None,
        content_type: None,
        sha256: (number == 1).then(|| Digest::of(b"known")),
        target: None,
        client_ref: Some(number.to_string()),
        metadata: None,
    };
    let now = world.ctx.now();
    let resume_at = Some(now + world.ctx.limits.resume_after);
    let batch = Batch { resume_at, ..Batch::each((world.org, Uuid::nil()), None, 4, now) };
    let lines: Vec<Line> = (0..4).map(line).collect();
    let chunks = lines.chunks(2).map(|chunk| serde_json::to_string(chunk).expect("lines are JSON")).collect();
    batches::insert(&world.ctx.db, batch.clone(), chunks, None).await.expect("a ledger");
    world.ctx.push(&IssueBatch { batch: batch.id }).await.expect("a queue");
    let (doomed, fate) = doomed(&world, crash_at, after);
    world.queue.drain(&doomed).await;

    if forgetful {
        world.queue.forget();
    }
    for _ in 0..3 {
        world.clock.advance(Duration::from_secs(70));
        world.ctx.push(&ResumeStalled {}).await.expect("the new process lives");
        world.drain().await;
    }

    let case = format!("crash at step {crash_at}, after: {after}, queue lost: {forgetful}");
    let all = Page { ascending: true, after: None, limit: 100, offset: 0 };
    let uploads = members::list(&world.ctx.db, batch.id, None, all).await.expect("a ledger");
    let (known, own): (Vec<_>, Vec<_>) = uploads.iter().partition(|upload| upload.batch_id.is_none());
    assert_eq!(known.iter().map(|upload| upload.id).collect::<Vec<_>>(), [earlier.id], "{case}");
    let names: Vec<_> = own.iter().map(|upload| upload.filename.as_str()).collect();
    assert_eq!(names, ["0", "1", "3"], "{case}");
    for upload in own {
        let expected = if upload.filename == "1" { Status::Done } else { Status::Issued };
        assert_eq!((upload.status, upload.policy.is_some()), (expected, expected == Status::Issued), "{case}");
    }
    let row = batches::find(&world.ctx.db, batch.id).await.expect("a ledger").expect("a batch");
    assert_eq!((row.known, row.resume_at), (1, None), "{case}");
    assert_eq!(world.report().await.files, 2, "{case}");
    assert!(world.queue.dead().is_empty(), "{case}");
    fate.dead.load(Ordering::SeqCst)
}

/// Three files under a prefix that takes two, one of them with a path that climbs, in a new world with a crash at the given step.
async fn prefix_survives(world: World, crash_at: usize, after: bool, forgetful: bool) -> bool {
    let batch = world.prefix_batch(2).await;
    for path in ["one", "two/too", "../three"] {
        let key = world.land_in(&batch, path, b"the same bytes");
        world.notice_of(&key).await;
    }
    let (doomed, fate) = doomed(&world, crash_at, after);
    world.queue.drain(&doomed).await;

    if forgetful {
        world.queue.forget();
    }
    for wait in [700; 6].into_iter().chain([3_000, 100_000]) {
        world.clock.advance(Duration::from_secs(wait));
        let pushed = [
            world.ctx.push(&PollArrivals {}).await,
            world.ctx.push(&ResumeStalled {}).await,
            world.ctx.push(&CloseBatches {}).await,
            world.ctx.push(&SweepBucket {}).await,
        ];
        pushed.into_iter().collect::<Result<Vec<_>, _>>().expect("the new process lives");
        world.drain().await;
    }

    let case = format!("crash at step {crash_at}, after: {after}, queue lost: {forgetful}");
    let files = world.files_of(&batch).await;
    let ended: Vec<_> = files.iter().map(|(path, status, reason)| (path.as_str(), *status, *reason)).collect();
    let climbed = ("../three", Status::Rejected, Some(Reason::UnsafePath));
    assert_eq!(ended, [climbed, ("one", Status::Done, None), ("two/too", Status::Done, None)], "{case}");
    assert_eq!((world.entries_of(b"the same bytes").await, world.staged_keys().len()), (2, 0), "{case}");
    assert_eq!(world.batch(batch.id).await.admitted, 2, "{case}");
    assert!(world.batch(batch.id).await.closed_at.is_some(), "{case}");
    assert!(world.queue.dead().is_empty(), "{case}");
    fate.dead.load(Ordering::SeqCst)
}

crate::on_every_engine! {
    a_crash_between_any_two_steps_does_no_harm,
    a_crash_between_any_two_steps_of_a_batch_does_no_harm,
    a_crash_among_the_files_of_a_batch_does_no_harm,
}

async fn a_crash_between_any_two_steps_of_a_batch_does_no_harm(world: World) {
    for (after, forgetful) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut step = 0;
        while batch_survives(world.another().await, step, after, forgetful).await {
            step += 1;
        }
        // A signature for each line, a look at the known blob, and the job put on again for the second chunk.
        assert!(step >= 6, "only {step} steps were crashed at");
    }
}

async fn a_crash_among_the_files_of_a_batch_does_no_harm(world: World) {
    for (after, forgetful) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut step = 0;
        while prefix_survives(world.another().await, step, after, forgetful).await {
            step += 1;
        }
        assert!(step >= 12, "only {step} steps were crashed at");
    }
}

async fn a_crash_between_any_two_steps_does_no_harm(world: World) {
    for (after, forgetful) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut step = 0;
        while survives(world.another().await, step, after, forgetful).await {
            step += 1;
        }
        assert!(step >= 12, "only {step} steps were crashed at");
    }
}
