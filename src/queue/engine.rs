//! What a queue engine does: keeps jobs, lends them out under leases, and stores what came of them.
//!
//! An engine knows nothing of apalis, and a worker knows nothing of tables or streams. What every engine has to obey is
//! written down as tests in `contract`; a new engine plugs in there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use longshore_jobs::job::{Delivery, Lane, NewJob, Pool, Verdict};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::{BoxError, Queue};
use tokio::sync::Notify;
use uuid::Uuid;

/// How long a claim lasts unless it is renewed.
pub const LEASE: Duration = Duration::from_secs(15);
/// A job during whose runs this many workers have died is dead.
pub const CRASH_CAP: u32 = 5;
/// The reason of a job that died by [`CRASH_CAP`].
pub const CRASHED: &str = "crashed";

/// What the letter of such a job says, once that is told.
pub(super) fn crash_told(kind: &str, subject: Uuid, crashes: i64) -> String {
    let error = format!("its worker died while it ran, {crashes} times");
    tracing::error!(error, kind, %subject, "job is dead");
    error
}

/// One claim in so many takes bulk jobs first.
const BULK_EVERY: u32 = 10;

/// A queue that workers can claim from.
#[async_trait]
pub trait Engine: Queue {
    /// Lends out jobs that are due: those of the lane that goes first, then the others, the longest due first.
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, EngineError>;

    /// Records that these jobs run, so that a crash from now on is counted. Returns the leases that still hold.
    async fn mark_started(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError>;

    /// Makes the leases last [`LEASE`] from now. Returns those that still hold.
    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError>;

    /// Stores what came of the jobs. A stale lease does nothing. After an error some of it may be stored; to store all of it
    /// again does no harm.
    async fn settle(&self, settled: &[(Lease, Verdict)]) -> Result<(), EngineError>;

    /// Puts jobs back as if they had never been claimed: no attempt, loss or crash is counted.
    async fn hand_back(&self, leases: &[Lease]) -> Result<(), EngineError>;

    /// Takes back the jobs whose lease has run out. Says how many of which pool; dead ones count too.
    async fn reclaim(&self) -> Result<HashMap<Pool, u64>, EngineError>;

    /// Takes back every job that is lent out, as if its lease had run out. Only for whoever alone serves this queue.
    async fn void_leases(&self) -> Result<HashMap<Pool, u64>, EngineError>;

    /// When the next waiting job of the pool is due, perhaps in the past; `None` when none waits.
    async fn next_due(&self, pool: Pool) -> Result<Option<Timestamp>, EngineError>;

    /// Returns when the engine answers.
    async fn ping(&self) -> Result<(), EngineError>;

    /// How much waits and runs, for each pool and lane that has any.
    async fn depths(&self) -> Result<Vec<Depth>, EngineError>;

    /// Rings when there may be something to claim.
    fn wakes(&self) -> &Wakes;
}

/// What a worker asks for.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Of this pool.
    pub pool: Pool,
    /// For this worker; operators see the name.
    pub worker: Arc<str>,
    /// Not more than this.
    pub max: usize,
    /// This lane before the other.
    pub first: Lane,
}

/// The right to run a job and to say what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The engine's own number: a row id, or both halves of a stream id.
    pub id: u128,
    /// What tells this lease from an earlier one of the same id, where an engine lends one out twice. Never negative.
    pub token: i64,
    /// Where the job belongs.
    pub pool: Pool,
    /// Where the job belongs within the pool.
    pub lane: Lane,
}

/// A job that has been lent out.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The right to run it.
    pub lease: Lease,
    /// What to run.
    pub delivery: Delivery,
    /// How often its lease was lost before.
    pub losses: u32,
    /// How many workers have died while they ran it.
    pub crashes: u32,
}

impl Claimed {
    /// Whether it may have killed a worker, so that its start is recorded before it runs: else a job that crashes at once
    /// would never be counted.
    #[must_use]
    pub const fn is_suspect(&self) -> bool {
        self.losses > 0
    }
}

/// How much waits and runs in one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    /// Whose.
    pub pool: Pool,
    /// Which of its lanes.
    pub lane: Lane,
    /// Jobs that nobody holds, due or not.
    pub waiting: u64,
    /// Of those, the ones that are due.
    pub due: u64,
    /// Jobs that a worker holds.
    pub running: u64,
    /// For how long the oldest of the due has been due; zero when none is.
    pub oldest_age: Duration,
}

/// An engine could not be reached or refused.
#[derive(Debug, thiserror::Error)]
#[error("{op} failed on the queue")]
pub struct EngineError {
    /// The operation.
    pub op: &'static str,
    /// What the engine said.
    #[source]
    pub source: BoxError,
}

/// One bell per pool. A ring that nobody waits for is kept for the next who does.
#[derive(Clone)]
pub struct Wakes(Arc<[Notify]>);

impl Default for Wakes {
    fn default() -> Self {
        Self(Pool::ALL.iter().map(|_| Notify::new()).collect())
    }
}

impl Wakes {
    /// Wakes one who waits for this pool.
    pub fn wake(&self, pool: Pool) {
        self.0[pool as usize].notify_one();
    }

    /// Returns at the next ring for this pool.
    pub async fn woken(&self, pool: Pool) {
        self.0[pool as usize].notified().await;
    }
}

/// Whose turn it is: interactive jobs, but for one claim in ten, so that a stream of them cannot starve the bulk.
#[derive(Debug, Default)]
pub struct Turns(AtomicU32);

impl Turns {
    /// The lane that goes first in the next claim.
    pub fn next(&self) -> Lane {
        let turn = self.0.fetch_add(1, Ordering::Relaxed);
        if turn % BULK_EVERY == BULK_EVERY - 1 { Lane::Bulk } else { Lane::Interactive }
    }
}

/// The other lane.
pub(super) const fn other(lane: Lane) -> Lane {
    match lane {
        Lane::Interactive => Lane::Bulk,
        Lane::Bulk => Lane::Interactive,
    }
}

/// Joins jobs of the same kind and subject within one push, as a push onto a waiting job does: the earlier due time, the
/// better lane, the later payload. The order is that of the first of each.
pub(super) fn join(jobs: Vec<NewJob>) -> Vec<NewJob> {
    let mut places: HashMap<(&'static str, Uuid), usize> = HashMap::with_capacity(jobs.len());
    let mut joined: Vec<NewJob> = Vec::with_capacity(jobs.len());
    for job in jobs {
        let place = *places.entry((job.kind(), job.subject())).or_insert(joined.len());
        match joined.get_mut(place) {
            None => joined.push(job),
            Some(first) => *first = job.joined_to(first),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use longshore_jobs::noop::Noop;

    use super::*;

    #[test]
    fn one_claim_in_ten_is_bulk_first() {
        let turns = Turns::default();
        let lanes: Vec<_> = (0..30).map(|_| turns.next()).collect();
        assert_eq!(lanes.iter().filter(|lane| **lane == Lane::Bulk).count(), 3);
        assert_eq!(lanes[0], Lane::Interactive);
    }

    #[test]
    fn jobs_of_one_push_join_each_other() {
        let (one, two) = (Noop::new(Uuid::now_v7()), Noop::new(Uuid::now_v7()));
        let at = Timestamp::from_millis;
        let jobs = vec![
            NewJob::of(&one, Lane::Bulk, at(5)),
            NewJob::of(&two, Lane::Bulk, at(1)),
            NewJob::of(&one, Lane::Interactive, at(9)),
        ];
        assert_eq!(join(jobs), [NewJob::of(&one, Lane::Interactive, at(5)), NewJob::of(&two, Lane::Bulk, at(1))]);
    }
}
