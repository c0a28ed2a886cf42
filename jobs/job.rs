//! What a job is, and the one wrapper that runs it.
//!
//! A job carries ids only. It reads the row, moves it by compare-and-set, and puts on the next job; run twice, or in
//! parallel, or after a crash at any line, it does no harm. [`perform`] gives every run its span, its timer, its panic guard
//! and its time limit, and turns what came out into a [`Verdict`] that a queue can store.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;
use tracing::field::Empty;
use uuid::Uuid;

use crate::ledger::{Db, LedgerError, batches, failures, uploads};
use crate::model::{Batch, Timestamp, TraceParent, Upload, words};
use crate::outside::{Bucket, BucketError, Clock, Queue, QueueError};
use crate::roster;

/// What every job gets to work with.
#[derive(Clone)]
pub struct Context {
    /// The ledger.
    pub db: Db,
    /// Where the objects are.
    pub bucket: Arc<dyn Bucket>,
    /// Where the next job goes.
    pub queue: Arc<dyn Queue>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// How long and how much.
    pub limits: Limits,
}

impl Context {
    /// Now, by the context's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The upload that a run is about, whose lines say from here on which trace it belongs to.
    pub(crate) async fn upload(&self, id: Uuid) -> Result<Option<Upload>, LedgerError> {
        let upload = uploads::find(&self.db, id).await?;
        show_trace(upload.as_ref().and_then(|upload| upload.traceparent));
        Ok(upload)
    }

    /// As [`Context::upload`], of a batch.
    pub(crate) async fn batch(&self, id: Uuid) -> Result<Option<Batch>, LedgerError> {
        let batch = batches::find(&self.db, id).await?;
        show_trace(batch.as_ref().and_then(|batch| batch.traceparent));
        Ok(batch)
    }

    /// Puts one job on, due at once.
    pub async fn push<J: Job>(&self, job: &J) -> Result<(), QueueError> {
        self.queue.push(vec![NewJob::of(job, Lane::Interactive, self.now())]).await
    }

    /// Puts the upload's next job on, due at once: behind what a person waits for, if it is one of a batch.
    pub async fn push_next<J: Job>(&self, upload: &Upload, job: &J) -> Result<(), QueueError> {
        let lane = if upload.batch_id.is_some() { Lane::Bulk } else { Lane::Interactive };
        self.queue.push(vec![NewJob::of(job, lane, self.now())]).await
    }
}

/// For runs that load their row by other ways.
pub(crate) fn show_trace(traceparent: Option<TraceParent>) {
    if let Some(parent) = traceparent {
        parent.show();
    }
}

/// Lengths and amounts that an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The shortest life of a policy; large uploads get more.
    pub policy_life: Duration,
    /// The largest object in bytes.
    pub max_size: i64,
    /// How long after its policy an upload may still be on its way before it expires.
    pub expiry_grace: Duration,
    /// How long a row may stand before its job is put on again the first time.
    pub resume_after: Duration,
    /// How old an object that nobody needs must be before the sweep takes notice of it.
    pub sweep_min_age: Duration,
    /// How long a blob's object without a row is kept after the sweep has first seen it.
    pub sweep_restore_window: Duration,
    /// Whether the scheduled sweep removes such objects after that, or only reports them.
    pub sweep_applies: bool,
    /// How long after its policy an upload without a notice is looked for in the bucket the first time.
    pub first_poll: Duration,
    /// How long bytes that no file refers to are kept.
    pub blob_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            policy_life: Duration::from_secs(900),
            max_size: crate::model::upload::MAX_SIZE,
            expiry_grace: Duration::from_secs(3600),
            resume_after: Duration::from_secs(60),
            sweep_min_age: Duration::from_secs(24 * 3600),
            sweep_restore_window: Duration::from_secs(7 * 24 * 3600),
            sweep_applies: false,
            first_poll: Duration::from_secs(60),
            blob_grace: Duration::from_secs(24 * 3600),
        }
    }
}

words! {
    /// A group of workers that share a concurrency limit and can be paused together.
    Pool, "a pool" {
        /// Signs policies.
        Issue = "issue",
        /// Records arrivals.
        Arrive = "arrive",
        /// Hashes objects.
        Verify = "verify",
        /// Stores files.
        Store = "store",
        /// Folds and rebuilds reports.
        Report = "report",
        /// Everything on a schedule.
        Upkeep = "upkeep",
    }
}

words! {
    /// Who goes first within a pool.
    Lane, "a lane" {
        /// A person waits for it.
        Interactive = "interactive",
        /// It is one of very many.
        Bulk = "bulk",
    }
}

/// A unit of work.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name in the queue: stored, so never changed.
    const KIND: &'static str;
    /// Who runs it.
    const POOL: Pool;
    /// How often it is tried before it is dead. With the waits in between that is about eight hours: longer than an outage
    /// of bucket or ledger that nobody mends.
    const ATTEMPTS: u32 = 20;
    /// How long one run may take.
    const TIME_LIMIT: Duration = Duration::from_secs(60);

    /// What it is about: a second push with the same subject joins the first. Nil for jobs about everything.
    fn subject(&self) -> Uuid;

    /// Does it.
    fn run(self, ctx: &Context) -> impl Future<Output = Result<End, JobError>> + Send;
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did its one thing.
    Done,
    /// Somebody was faster; there was nothing left to do.
    Moot,
}

/// Why a run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A later attempt may succeed; this one counts.
    #[error(transparent)]
    Retry(Box<dyn std::error::Error + Send + Sync>),
    /// It is too early; no attempt is counted.
    #[error("not yet: {why}")]
    Snooze {
        /// When to look again.
        wait: Duration,
        /// What it waits for.
        why: &'static str,
    },
    /// No attempt can succeed.
    #[error(transparent)]
    GiveUp(Box<dyn std::error::Error + Send + Sync>),
}

impl From<LedgerError> for JobError {
    fn from(error: LedgerError) -> Self {
        if error.is_breach() { Self::GiveUp(error.into()) } else { Self::Retry(error.into()) }
    }
}

impl From<QueueError> for JobError {
    fn from(error: QueueError) -> Self {
        Self::Retry(error.into())
    }
}

impl From<BucketError> for JobError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Throttled { .. } => {
                // Those who were throttled together must not come back together.
                let wait = Duration::from_millis(rand::random_range(1_000..=3_000));
                Self::Snooze { wait, why: "the bucket asks for fewer requests" }
            }
            other => Self::Retry(other.into()),
        }
    }
}

/// A job on its way to the queue. Made from a [`Job`] alone, so that what is not on the roster cannot be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    kind: &'static str,
    pool: Pool,
    max_attempts: u32,
    subject: Uuid,
    payload: String,
    lane: Lane,
    due: Timestamp,
}

impl NewJob {
    /// The job, to run at `due` or soon after.
    #[must_use]
    pub fn of<J: Job>(job: &J, lane: Lane, due: Timestamp) -> Self {
        debug_assert!(roster::find(J::KIND).is_some(), "{} is not on the roster", J::KIND);
        let payload = serde_json::to_string(job).expect("a payload is a struct of ids");
        Self { kind: J::KIND, pool: J::POOL, max_attempts: J::ATTEMPTS, subject: job.subject(), payload, lane, due }
    }

    /// A job as a queue has kept it, for instance to put a dead one on again; `None` when its kind is not on the roster.
    #[must_use]
    pub fn revive(kind: &str, subject: Uuid, payload: String, lane: Lane, due: Timestamp) -> Option<Self> {
        let entry = roster::find(kind)?;
        let (kind, pool, max_attempts) = (entry.kind, entry.pool, entry.attempts);
        Some(Self { kind, pool, max_attempts, subject, payload, lane, due })
    }

    /// This job and an earlier push of the same one as one job: the earlier due time, the better lane, this payload.
    #[must_use]
    pub fn joined_to(self, earlier: &Self) -> Self {
        Self { lane: self.lane.min(earlier.lane), due: self.due.min(earlier.due), ..self }
    }

    /// Its name on the roster.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Who runs it.
    #[must_use]
    pub const fn pool(&self) -> Pool {
        self.pool
    }

    /// How often it is tried.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// What it is about.
    #[must_use]
    pub const fn subject(&self) -> Uuid {
        self.subject
    }

    /// Its payload as JSON.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Who goes first.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// Not before.
    #[must_use]
    pub const fn due(&self) -> Timestamp {
        self.due
    }
}

/// A job as a worker holds it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its name; perhaps not on this program's roster.
    pub kind: String,
    /// What it is about.
    pub subject: Uuid,
    /// Its payload as JSON.
    pub payload: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// When it was due.
    pub due: Timestamp,
}

/// What a queue is to do with a job that has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forget it.
    Finished(End),
    /// Run it again then; no attempt was used.
    Snoozed {
        /// When.
        until: Timestamp,
    },
    /// Run it again then; an attempt was used.
    Retried {
        /// When.
        at: Timestamp,
        /// What went wrong, with its causes.
        error: String,
    },
    /// Keep it with the dead letters.
    Dead {
        /// One word for filters: `attempts`, `gave_up`, `undecodable`, `unknown_kind`.
        reason: &'static str,
        /// What went wrong, with its causes.
        error: String,
    },
}

impl Verdict {
    /// What becomes of a job whose attempt has failed: another one later, or death when there are none left.
    #[must_use]
    pub fn failed(attempt: u32, max_attempts: u32, now: Timestamp, error: String) -> Self {
        if attempt >= max_attempts {
            return Self::Dead { reason: "attempts", error };
        }
        Self::Retried { at: now + backoff(attempt), error }
    }

    /// One word for metrics and logs.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Finished(End::Done) => "done",
            Self::Finished(End::Moot) => "moot",
            Self::Snoozed { .. } => "snoozed",
            Self::Retried { .. } => "retried",
            Self::Dead { .. } => "dead",
        }
    }
}

/// One line of the roster.
pub struct Entry {
    /// [`Job::KIND`].
    pub kind: &'static str,
    /// [`Job::POOL`].
    pub pool: Pool,
    /// [`Job::ATTEMPTS`].
    pub attempts: u32,
    /// [`Job::TIME_LIMIT`].
    pub time_limit: Duration,
    run: Run,
}

type Run = fn(Context, String) -> Pin<Box<dyn Future<Output = Result<End, Failure>> + Send>>;

enum Failure {
    Undecodable(serde_json::Error),
    Ran(JobError),
}

impl Entry {
    /// The entry of a job.
    #[must_use]
    pub const fn of<J: Job>() -> Self {
        Self { kind: J::KIND, pool: J::POOL, attempts: J::ATTEMPTS, time_limit: J::TIME_LIMIT, run: run_decoded::<J> }
    }
}

fn run_decoded<J: Job>(ctx: Context, payload: String) -> Pin<Box<dyn Future<Output = Result<End, Failure>> + Send>> {
    Box::pin(async move {
        let job: J = serde_json::from_str(&payload).map_err(Failure::Undecodable)?;
        job.run(&ctx).await.map_err(Failure::Ran)
    })
}

/// Runs a job: once, within its time limit, whatever happens inside. Never panics.
pub async fn perform(ctx: &Context, delivery: &Delivery) -> Verdict {
    let Some(entry) = roster::find(&delivery.kind) else {
        let error = format!("this program knows no job `{}`", delivery.kind);
        let span = tracing::info_span!("job", kind = delivery.kind, subject = %delivery.subject);
        return span.in_scope(|| conclude("unknown", Verdict::Dead { reason: "unknown_kind", error }));
    };
    let span = tracing::info_span!(
        "job",
        kind = entry.kind,
        subject = %delivery.subject,
        attempt = delivery.attempt,
        trace_id = Empty,
    );
    let started = Instant::now();
    metrics::histogram!("longshore_job_wait_seconds", "kind" => entry.kind)
        .record(ctx.now().since(delivery.due).as_secs_f64());
    let work = AssertUnwindSafe((entry.run)(ctx.clone(), delivery.payload.clone())).catch_unwind();
    async {
        let ended = tokio::time::timeout(entry.time_limit, work).await;
        metrics::histogram!("longshore_job_run_seconds", "kind" => entry.kind).record(started.elapsed().as_secs_f64());
        let verdict = conclude(entry.kind, judge(ctx, entry, delivery, ended));
        note_failure(ctx, delivery, &verdict).await;
        verdict
    }
    .instrument(span)
    .await
}

type Ended = Result<std::thread::Result<Result<End, Failure>>, tokio::time::error::Elapsed>;

fn judge(ctx: &Context, entry: &Entry, delivery: &Delivery, ended: Ended) -> Verdict {
    let error = match ended {
        Ok(Ok(Ok(end))) => return Verdict::Finished(end),
        Ok(Ok(Err(Failure::Undecodable(error)))) => {
            return Verdict::Dead { reason: "undecodable", error: with_causes(&error) };
        }
        Ok(Ok(Err(Failure::Ran(JobError::GiveUp(error))))) => {
            return Verdict::Dead { reason: "gave_up", error: with_causes(&*error) };
        }
        Ok(Ok(Err(Failure::Ran(JobError::Snooze { wait, why })))) => {
            tracing::debug!(why, "snoozed");
            return Verdict::Snoozed { until: ctx.now() + wait };
        }
        Ok(Ok(Err(Failure::Ran(JobError::Retry(error))))) => with_causes(&*error),
        Ok(Err(panic)) => format!("panicked: {}", panic_text(&*panic)),
        Err(_) => format!("took longer than {:?}", entry.time_limit),
    };
    Verdict::failed(delivery.attempt, delivery.max_attempts, ctx.now(), error)
}

fn conclude(kind: &'static str, verdict: Verdict) -> Verdict {
    metrics::counter!("longshore_jobs_finished_total", "kind" => kind, "outcome" => verdict.outcome()).increment(1);
    match &verdict {
        Verdict::Finished(_) => tracing::debug!(outcome = verdict.outcome(), "ended"),
        Verdict::Snoozed { .. } => {}
        Verdict::Retried { error, .. } => tracing::warn!(error, "will be tried again"),
        Verdict::Dead { reason, error } => tracing::error!(reason, error, "job is dead"),
    }
    verdict
}

/// How long the ledger may take to keep what went wrong: perhaps it is what went wrong.
const NOTING: Duration = Duration::from_secs(2);

/// Keeps a failed attempt for whoever asks later, as far as the ledger can.
async fn note_failure(ctx: &Context, delivery: &Delivery, verdict: &Verdict) {
    let (Verdict::Retried { error, .. } | Verdict::Dead { error, .. }) = verdict else { return };
    let noting = failures::note(&ctx.db, (delivery.subject, &delivery.kind), error, ctx.now());
    let fault = match tokio::time::timeout(NOTING, noting).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => with_causes(&error),
        Err(_) => format!("the ledger was silent for {NOTING:?}"),
    };
    tracing::warn!(error = fault, "the failed attempt is not kept");
}

/// Half a second, doubled for each attempt up to an hour and eight minutes, with a jitter of a quarter to either side.
fn backoff(attempt: u32) -> Duration {
    let base = 500 * (1_u64 << attempt.saturating_sub(1).min(13));
    Duration::from_millis(rand::random_range(base * 3 / 4..=base * 5 / 4))
}

/// An error and its causes in one line.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is no text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noop::{Act, Noop};
    use crate::testkit::World;

    async fn verdict(act: Act, attempt: u32) -> Verdict {
        let world = World::new().await;
        let job = Noop { act, ..Noop::new(Uuid::now_v7()) };
        perform(&world.ctx, &delivery(Noop::KIND, serde_json::to_string(&job).unwrap(), attempt)).await
    }

    fn delivery(kind: &str, payload: String, attempt: u32) -> Delivery {
        let due = Timestamp::from_millis(0);
        Delivery { kind: kind.to_owned(), subject: Uuid::nil(), payload, attempt, max_attempts: 3, due }
    }

    #[tokio::test]
    async fn failures_panics_and_time_outs_are_tried_again() {
        for (act, expected) in [(Act::Fail, "told to fail"), (Act::Panic, "panicked"), (Act::Hang, "longer than 2s")] {
            let Verdict::Retried { error, .. } = verdict(act, 1).await else { panic!("{act:?} was not retried") };
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn the_last_attempt_ends_in_death() {
        for act in [Act::Fail, Act::Panic] {
            assert!(matches!(verdict(act, 3).await, Verdict::Dead { reason: "attempts", .. }), "{act:?}");
        }
        assert!(matches!(verdict(Act::GiveUp, 1).await, Verdict::Dead { reason: "gave_up", .. }));
    }

    #[tokio::test]
    async fn too_early_uses_no_attempt_however_often() {
        assert!(matches!(verdict(Act::Snooze, 3).await, Verdict::Snoozed { .. }));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_dead_at_once() {
        let world = World::new().await;
        let garbage = perform(&world.ctx, &delivery(Noop::KIND, "{\"id\": 7}".to_owned(), 1)).await;
        assert!(matches!(garbage, Verdict::Dead { reason: "undecodable", .. }));
        let stranger = perform(&world.ctx, &delivery("from_the_future", "{}".to_owned(), 1)).await;
        assert!(matches!(stranger, Verdict::Dead { reason: "unknown_kind", .. }));
    }

    #[test]
    fn an_outage_of_hours_kills_no_job() {
        let waits: Duration = (1..Noop::ATTEMPTS).map(backoff).sum();
        assert!(waits > Duration::from_secs(5 * 3600), "dead after {waits:?}");
        assert!(waits < Duration::from_secs(11 * 3600), "not yet dead after {waits:?}");
    }

    #[test]
    fn those_who_were_throttled_together_come_back_apart() {
        let waits: std::collections::HashSet<_> = (0..20)
            .map(|_| match JobError::from(BucketError::Throttled { op: "head" }) {
                JobError::Snooze { wait, .. } => wait,
                other => panic!("{other}"),
            })
            .collect();

        assert!(waits.len() > 10, "{waits:?}");
        assert!(waits.iter().all(|wait| (1..=3).contains(&wait.as_secs())), "{waits:?}");
    }

    #[test]
    fn backoff_doubles_with_a_jitter_and_stops_at_4096_seconds() {
        for (attempt, base) in [(1, 500), (2, 1000), (5, 8000), (14, 4_096_000), (40, 4_096_000)] {
            let wait = u64::try_from(backoff(attempt).as_millis()).unwrap();
            assert!((base * 3 / 4..=base * 5 / 4).contains(&wait), "attempt {attempt}: {wait}");
        }
    }

    #[test]
    fn causes_are_told_in_one_line_and_once() {
        let error = QueueError { count: 2, source: "disk full".into() };
        assert_eq!(with_causes(&error), "push 2 jobs onto the queue: disk full");
    }
}
