//! The heartbeat of a worker, which keeps its leases alive beside the work, however long a job runs or waits for its turn;
//! and the rescue of jobs whose leases have run out.
//!
//! A lease that has run out tells that a worker is gone only if the worker could have renewed it. When the engine has been
//! away for longer than a lease, all have run out, and whoever comes back first would take from the living and blame their
//! jobs with a crash. So a process takes back nothing until all has been well between it and the engine for as long as a
//! lease lasts, by when all who live have renewed theirs. The same goes for a process that stood still itself, together with
//! the machine it runs on.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use longshore_jobs::job::{Pool, with_causes};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::Clock;
use tokio::sync::watch;
use tokio::time::Instant;

use super::engine::{Engine, EngineError, LEASE, Lease};
use super::holds::Holds;

/// How many looks at which all was well go before a rescue. One beat apart, the first of them and the rescue are a lease
/// apart.
const CALM: u32 = 3;
/// Leases may have run out between two beats that are further apart.
const STOOD_STILL: Duration = Duration::from_secs(LEASE.as_secs() * 2 / 3);

/// For how many looks in a row all has been well between a process and its engine. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Calm(Arc<AtomicU32>);

impl Calm {
    fn disturb(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Counts one more. `true` when enough went before.
    fn deepens(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) >= CALM
    }
}

/// When a heart last beat: all leases held were renewed then. Cheap to clone.
#[derive(Clone)]
pub(super) struct LastBeat(Arc<watch::Sender<Instant>>);

impl LastBeat {
    /// It has just begun.
    pub(super) fn now() -> Self {
        Self(Arc::new(watch::Sender::new(Instant::now())))
    }

    fn beat(&self) {
        self.0.send_replace(Instant::now());
    }

    /// For how long it has not beaten.
    pub(super) fn age(&self) -> Duration {
        self.0.borrow().elapsed()
    }
}

/// Renews what one worker holds.
pub(super) struct Heart {
    pub(super) pool: Pool,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) holds: Arc<Holds>,
    pub(super) calm: Calm,
    pub(super) last_beat: LastBeat,
    /// When it last tried to, whatever became of it.
    pub(super) last_turn: LastBeat,
}

impl Heart {
    /// Beats until it is aborted. A beat that fails is made up for by the next: a lease lasts three.
    pub(super) async fn run(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            self.last_turn.beat();
            self.beat().await;
        }
    }

    /// Leases come first, whatever becomes of the rest: an engine without memory renews, but records nothing.
    async fn beat(&self) {
        match self.renew().await {
            Ok(()) => self.last_beat.beat(),
            Err(error) => {
                self.calm.disturb();
                tracing::warn!(error = with_causes(&error), pool = %self.pool, "leases were not renewed");
            }
        }
        if let Err(error) = self.mark().await {
            tracing::warn!(error = with_causes(&error), pool = %self.pool, "it was not recorded which jobs run");
        }
    }

    async fn renew(&self) -> Result<(), EngineError> {
        let leases = self.holds.leases();
        if leases.is_empty() {
            return Ok(());
        }
        let held: HashSet<Lease> = self.engine.renew(&leases).await?.into_iter().collect();
        let lost: Vec<Lease> = leases.into_iter().filter(|lease| !held.contains(lease)).collect();
        self.holds.lose(&lost);
        Ok(())
    }

    /// Jobs that have started since the last beat are marked so here, all at once: most are done before and never need it.
    async fn mark(&self) -> Result<(), EngineError> {
        let unmarked = self.holds.unmarked();
        if !unmarked.is_empty() {
            self.holds.mark(&self.engine.mark_started(&unmarked).await?);
        }
        Ok(())
    }
}

/// Takes back what others have lost.
pub(super) struct Rescuer {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    calm: Calm,
    hearts: Vec<LastBeat>,
    /// When the engine last answered, by the time that machines count and by the time that leases may go by: a machine that
    /// is put to sleep may not count it.
    answered: (Instant, Timestamp),
}

impl Rescuer {
    /// In a process with these hearts.
    pub(super) fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, calm: Calm, hearts: Vec<LastBeat>) -> Self {
        let answered = (Instant::now(), clock.now());
        Self { engine, clock, calm, hearts, answered }
    }

    /// Looks until it is aborted.
    pub(super) async fn run(mut self, every: Duration) {
        loop {
            if let Err(error) = self.look().await {
                self.calm.disturb();
                tracing::warn!(error = with_causes(&error), "lost jobs could not be looked for");
            }
            tokio::time::sleep(every).await;
        }
    }

    async fn look(&mut self) -> Result<(), EngineError> {
        self.engine.ping().await?;
        if self.has_stood_still() || self.hearts.iter().any(|heart| heart.age() > STOOD_STILL) {
            self.calm.disturb();
        }
        if !self.calm.deepens() {
            return Ok(());
        }
        for (pool, jobs) in self.engine.reclaim().await? {
            tracing::warn!(%pool, jobs, "took back jobs whose lease had run out");
            metrics::counter!("longshore_jobs_rescued_total", "pool" => pool.as_str()).increment(jobs);
        }
        Ok(())
    }

    /// Whether the engine last answered too long ago, whoever of us stood still.
    fn has_stood_still(&mut self) -> bool {
        let now = (Instant::now(), self.clock.now());
        let (before, then) = std::mem::replace(&mut self.answered, now);
        now.0.duration_since(before).max(now.1.since(then)) > STOOD_STILL
    }
}
