//! The queue in the ledger's database: the `jobs` table.
//!
//! Every statement works on a set: a thousand jobs cost one statement, whose rows travel as one JSON object. The text is the
//! same on both engines, but for what PostgreSQL needs since others write at the same time: rows are claimed and rescued with
//! `for update skip locked`, and a batch of outcomes minds what was pushed a moment ago (see [`settle`]).
//!
//! A push onto a job that is held cannot touch it. It is kept in `again_at` and `again_lane`, and takes effect, like a push
//! that came a moment later, as soon as it is stored what came of the run: see [`settle`].

/// A change of those rows whose id and token are given. `= any (array[…])` is the same as `=`, but leaves PostgreSQL no choice
/// than to look up the ids: it believes that a queue which was short at the last vacuum is short, and would walk through all
/// of it for each batch.
macro_rules! held {
    ($change:literal, $behind:literal) => {
        [
            concat!(
                $change,
                " from json_each($1) as held
    where jobs.id = cast(held.key as bigint) and jobs.token = cast(held.atom as bigint) ",
                $behind
            ),
            concat!(
                $change,
                " from json_each($1) as held
    where jobs.id = any (array[cast(held.key as bigint)]) and jobs.token = cast(held.atom as bigint) ",
                $behind
            ),
        ]
    };
}

mod about;
mod bells;
mod claim;
#[cfg(test)]
mod concurrency_tests;
mod depths;
mod drift;
mod floors;
mod push;
mod rescue;
mod settle;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use longshore_jobs::job::{Lane, NewJob, Pool, Verdict};
use longshore_jobs::ledger::gather::{Gather, past_clashes};
use longshore_jobs::ledger::{Db, LedgerError};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::{Clock, LookError, Queue, QueueError, QueuedJob};
use uuid::Uuid;

use bells::Bells;
use drift::Drift;

use super::engine::{Claim, Claimed, Depth, Engine, EngineError, Lease, Wakes};

/// A push of more jobs than this is not made together with others: they need not wait for it.
const GATHERED: usize = 500;

/// The queue on the `jobs` table. Cheap to clone.
#[derive(Clone)]
pub struct SqlQueue {
    db: Db,
    clock: Arc<dyn Clock>,
    bells: Bells,
    drift: Drift,
    /// Whether the clocks are compared.
    is_shared: bool,
    pushes: Gather<Vec<NewJob>, ()>,
    settles: Gather<Vec<(Lease, Verdict)>, ()>,
    counts: depths::Counts,
}

impl SqlQueue {
    /// The queue of a ledger that processes on other machines may use too. There leases go by the server's clock.
    pub async fn shared(db: Db, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        let queue = Self { is_shared: true, ..Self::new(db, clock) };
        queue.ping().await?;
        Ok(queue)
    }

    /// The queue of this ledger, all of whose processes go by the same clock.
    #[must_use]
    pub fn new(db: Db, clock: Arc<dyn Clock>) -> Self {
        let bells = Bells::of(&db);
        let pushes = {
            let (db, clock, bells) = (db.clone(), Arc::clone(&clock), bells.clone());
            Gather::new(move |pushes| push::push_together(db.clone(), Arc::clone(&clock), bells.clone(), pushes))
        };
        let settles = {
            let (db, clock, bells) = (db.clone(), Arc::clone(&clock), bells.clone());
            Gather::new(move |settled| settle::settle_together(db.clone(), Arc::clone(&clock), bells.clone(), settled))
        };
        let (drift, counts) = (Drift::default(), depths::Counts::scraped_as("queue"));
        Self { db, clock, bells, drift, is_shared: false, pushes, settles, counts }
    }

    /// Puts on very many.
    async fn push_many(&self, jobs: Vec<NewJob>) -> Result<(), LedgerError> {
        past_clashes(move || {
            let (db, clock, bells) = (self.db.clone(), Arc::clone(&self.clock), self.bells.clone());
            push::push_together(db, clock, bells, vec![jobs.clone()])
        })
        .await
        .map(drop)
    }
}

#[async_trait]
impl Queue for SqlQueue {
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
        let count = jobs.len();
        let pushed = if count > GATHERED { self.push_many(jobs).await } else { self.pushes.ask(jobs).await };
        pushed.map_err(|error| QueueError { count, source: error.into() })
    }

    async fn about(&self, subjects: &[Uuid]) -> Result<Vec<QueuedJob>, LookError> {
        about::about(self, subjects).await.map_err(|error| LookError(error.into()))
    }
}

#[async_trait]
impl Engine for SqlQueue {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, EngineError> {
        claim::claim(self, claim).await.map_err(failed("claim"))
    }

    async fn mark_started(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError> {
        claim::mark_started(self, leases).await.map_err(failed("mark started"))
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError> {
        claim::renew(self, leases).await.map_err(failed("renew leases"))
    }

    async fn settle(&self, settled: &[(Lease, Verdict)]) -> Result<(), EngineError> {
        self.settles.ask(settled.to_vec()).await.map_err(failed("settle"))
    }

    async fn hand_back(&self, leases: &[Lease]) -> Result<(), EngineError> {
        settle::hand_back(self, leases).await.map_err(failed("hand back"))
    }

    async fn reclaim(&self) -> Result<HashMap<Pool, u64>, EngineError> {
        rescue::reclaim(self, self.drift.lease_time(self.clock.now())).await.map_err(failed("reclaim"))
    }

    async fn void_leases(&self) -> Result<HashMap<Pool, u64>, EngineError> {
        rescue::reclaim(self, Timestamp::from_millis(i64::MAX)).await.map_err(failed("void leases"))
    }

    async fn ping(&self) -> Result<(), EngineError> {
        let answered = match self.is_shared {
            true => self.drift.compare(&self.db, &*self.clock).await,
            false => self.db.ping().await,
        };
        answered.map_err(failed("ping"))
    }

    async fn next_due(&self, pool: Pool) -> Result<Option<Timestamp>, EngineError> {
        depths::next_due(self, pool).await.map_err(failed("look ahead"))
    }

    async fn depths(&self) -> Result<Vec<Depth>, EngineError> {
        depths::depths(self).await.map_err(failed("count"))
    }

    fn wakes(&self) -> &Wakes {
        self.bells.here()
    }
}

fn failed(op: &'static str) -> impl Fn(LedgerError) -> EngineError {
    move |error| EngineError { op, source: error.into() }
}

/// A lane as `jobs` keeps it, so that the smaller goes first.
const fn rank(lane: Lane) -> i64 {
    match lane {
        Lane::Interactive => 0,
        Lane::Bulk => 1,
    }
}

const fn lane_of(rank: i64) -> Lane {
    if rank == 0 { Lane::Interactive } else { Lane::Bulk }
}

/// The row that a lease is about; an id that no row can have becomes -1, which none has.
fn row_id(lease: &Lease) -> i64 {
    i64::try_from(lease.id).unwrap_or(-1)
}

/// `{id: token, …}`, to be unfolded as keys and atoms, in the order of the ids. The same id may be there with two tokens.
fn held_json<'l>(leases: impl IntoIterator<Item = &'l Lease>) -> String {
    let mut held = "{".to_owned();
    let mut leases: Vec<&Lease> = leases.into_iter().collect();
    leases.sort_unstable_by_key(|lease| row_id(lease));
    for lease in leases {
        let comma = if held.len() == 1 { "" } else { "," };
        write!(held, "{comma}\"{}\":{}", row_id(lease), lease.token).expect("a string takes all");
    }
    held + "}"
}

fn json<T: serde::Serialize>(rows: &[T]) -> String {
    serde_json::to_string(rows).expect("rows are numbers and strings")
}

/// Of these leases, the ones whose row and token are named. The same row may be meant twice: now, and by a stale lease.
fn still_held(leases: &[Lease], rows: Vec<(i64, i64)>) -> Vec<Lease> {
    let rows: HashSet<(i64, i64)> = rows.into_iter().collect();
    leases.iter().filter(|lease| rows.contains(&(row_id(lease), lease.token))).copied().collect()
}
