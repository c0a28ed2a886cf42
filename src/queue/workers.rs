//! The workers of this process: one apalis worker per pool, each under a monitor in a tokio task of its own (one monitor would
//! poll all its workers in a single task).

use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{BoxDynError, Monitor, WorkerBuilder};
use futures_util::future::join_all;
use longshore_jobs::job::{self, Context, Pool};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::acks::Acker;
use super::backend::Source;
use super::beats::{Calm, Heart, LastBeat, Rescuer};
use super::engine::{Claimed, Engine, LEASE};
use super::fetch::Fetcher;
use super::holds::{Held, Holds, Outcome};
use super::pace::Pace;
use super::pauses::Pauses;
use super::presence::Presence;

/// How long the last outcomes may take to be stored once the time for finishing jobs is over.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);
/// A job that has crashed this many workers runs alone among its like in the pool, so that the next crash blames one job.
/// Not before: one kill of the process blames all that ran, and they should not have to wait for each other after it.
const ALONE_FROM: u32 = 3;
/// Longer than an engine takes to answer or to be given up.
const LONGEST_TURN: Duration = Duration::from_secs(60);

/// The workers of some pools. Dropping them without [`Workers::shutdown`] stops them as a crash would.
pub struct Workers {
    staffs: Vec<Staff>,
    shared: Shared,
    presence: AbortOnDropHandle<()>,
    /// Ends it.
    leaving: CancellationToken,
    _upkeep: Vec<AbortOnDropHandle<()>>,
}

/// Whether every pool still has its worker and the worker its leases, to be felt from elsewhere.
#[derive(Clone)]
pub struct Pulse {
    staffs: Arc<[Vitals]>,
    /// How long a heart may stand still.
    patience: Duration,
}

/// What tells how a worker is.
struct Vitals {
    monitor: AbortHandle,
    last_beat: LastBeat,
    last_turn: LastBeat,
}

impl Pulse {
    /// Whether it has.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.staffs.iter().all(|of| !of.monitor.is_finished() && of.last_beat.age() <= self.patience)
    }

    /// Whether a new process would do no better: every pool has its worker, and the worker tries to keep its leases. It may
    /// well fail, as long as the engine is away.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.staffs.iter().all(|of| !of.monitor.is_finished() && of.last_turn.age() <= LONGEST_TURN)
    }
}

/// One worker and those who serve it.
struct Staff {
    pool: Pool,
    monitor: AbortOnDropHandle<()>,
    holds: Arc<Holds>,
    last_beat: LastBeat,
    last_turn: LastBeat,
    _served_by: [AbortOnDropHandle<()>; 2],
}

/// What the workers of a process share.
#[derive(Clone)]
struct Shared {
    ctx: Arc<Context>,
    engine: Arc<dyn Engine>,
    pauses: Pauses,
    pace: Pace,
    calm: Calm,
    /// Set first: nothing more is claimed.
    stopping: CancellationToken,
    /// Set last: what still runs is dropped and handed back.
    overdue: CancellationToken,
    /// For each pool, held by a job that has crashed workers.
    alone: Arc<[Mutex<()>]>,
}

impl Workers {
    /// Starts a worker for each of the pools, with as many slots as `concurrency` says. For pools of short jobs a slot
    /// count of 1,000 keeps two full batches in flight.
    pub async fn start(
        ctx: Context,
        engine: Arc<dyn Engine>,
        concurrency: impl Fn(Pool) -> usize,
        pools: &[Pool],
    ) -> Self {
        Self::start_at(Pace::default(), ctx, engine, concurrency, pools).await
    }

    /// As [`Workers::start`], at another pace.
    pub async fn start_at(
        pace: Pace,
        ctx: Context,
        engine: Arc<dyn Engine>,
        concurrency: impl Fn(Pool) -> usize,
        pools: &[Pool],
    ) -> Self {
        let pauses = Pauses::new(ctx.db.clone());
        if let Err(error) = pauses.read().await {
            tracing::warn!(error = job::with_causes(&error), "pause flags could not be read");
        }
        let shared = Shared {
            ctx: Arc::new(ctx),
            engine: Arc::clone(&engine),
            pauses: pauses.clone(),
            pace,
            calm: Calm::default(),
            stopping: CancellationToken::new(),
            overdue: CancellationToken::new(),
            alone: Pool::ALL.iter().map(|_| Mutex::default()).collect(),
        };
        let staffs: Vec<Staff> =
            pools.iter().map(|pool| Staff::start(&shared, *pool, concurrency(*pool).max(1))).collect();
        show_up(pools, 1.0);
        let hearts = staffs.iter().map(|staff| staff.last_beat.clone()).collect();
        let rescuer = Rescuer::new(engine, Arc::clone(&shared.ctx.clock), shared.calm.clone(), hearts);
        let upkeep = vec![
            AbortOnDropHandle::new(tokio::spawn(pauses.clone().follow(pace.poll))),
            AbortOnDropHandle::new(tokio::spawn(rescuer.run(pace.beat))),
        ];
        let leaving = CancellationToken::new();
        let presence = be_seen(&shared.ctx, &staffs, leaving.clone());
        Self { staffs, shared, presence, leaving, _upkeep: upkeep }
    }

    /// The pause flags, to set them with effect at once.
    pub const fn pauses(&self) -> &Pauses {
        &self.shared.pauses
    }

    /// Whether every pool still has its worker, and the worker its leases.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        let staffs = self.staffs.iter().map(Staff::vitals).collect();
        // No less: where beats are made to be close together, one may well be late.
        Pulse { staffs, patience: LEASE.max(self.shared.pace.leases()) }
    }

    /// How many jobs run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.staffs.iter().map(|staff| staff.holds.count_running()).sum()
    }

    /// Claims no more, lets the jobs that run finish within the limit, and hands back the rest. Returns when all of it is
    /// stored, or a few seconds behind the limit, however many pools there are.
    pub async fn shutdown(self, limit: Duration) {
        tracing::info!(jobs = self.running(), ?limit, "finishing what runs");
        self.shared.stopping.cancel();
        let overdue = self.shared.overdue.clone();
        let _timer = AbortOnDropHandle::new(tokio::spawn(async move {
            sleep(limit).await;
            overdue.cancel();
        }));
        let pools: Vec<Pool> = self.staffs.iter().map(|staff| staff.pool).collect();
        join_all(self.staffs.into_iter().map(Staff::end)).await;
        show_up(&pools, 0.0);
        self.leaving.cancel();
        if timeout(LAST_WORDS, self.presence).await.is_err() {
            tracing::debug!("this process is seen for a while yet: the ledger is silent");
        }
    }
}

/// Has operators see that this process works, until `leaving`. One that works no pool is not seen.
fn be_seen(ctx: &Context, staffs: &[Staff], leaving: CancellationToken) -> AbortOnDropHandle<()> {
    let staffs: Vec<_> = staffs.iter().map(|staff| (staff.pool, Arc::clone(&staff.holds))).collect();
    let presence = (!staffs.is_empty()).then(|| Presence::new(ctx.db.clone(), Arc::clone(&ctx.clock), staffs));
    AbortOnDropHandle::new(tokio::spawn(async move {
        if let Some(presence) = presence {
            presence.keep(leaving).await;
        }
    }))
}

/// Tells whether this process works the pools.
fn show_up(pools: &[Pool], up: f64) {
    for pool in pools {
        metrics::gauge!("longshore_worker_up", "pool" => pool.as_str()).set(up);
    }
}

impl Staff {
    fn start(shared: &Shared, pool: Pool, slots: usize) -> Self {
        let (holds, told) = Holds::new(pool, slots);
        let (last_beat, last_turn) = (LastBeat::now(), LastBeat::now());
        let heart = Heart {
            pool,
            engine: Arc::clone(&shared.engine),
            holds: Arc::clone(&holds),
            calm: shared.calm.clone(),
            last_beat: last_beat.clone(),
            last_turn: last_turn.clone(),
        };
        let acker = Acker {
            engine: Arc::clone(&shared.engine),
            holds: Arc::clone(&holds),
            clock: Arc::clone(&shared.ctx.clock),
            stopping: shared.stopping.clone(),
            patience: shared.pace.leases(),
        };
        let served_by = [
            AbortOnDropHandle::new(tokio::spawn(heart.run(shared.pace.beat))),
            AbortOnDropHandle::new(tokio::spawn(acker.run(told))),
        ];
        let monitor = AbortOnDropHandle::new(tokio::spawn(watch_over(shared.clone(), pool, Arc::clone(&holds))));
        Self { pool, monitor, holds, last_beat, last_turn, _served_by: served_by }
    }

    fn vitals(&self) -> Vitals {
        Vitals {
            monitor: self.monitor.abort_handle(),
            last_beat: self.last_beat.clone(),
            last_turn: self.last_turn.clone(),
        }
    }

    async fn end(self) {
        if let Err(error) = self.monitor.await {
            tracing::error!(%error, pool = %self.pool, "a monitor has failed");
        }
        if timeout(LAST_WORDS, self.holds.drained()).await.is_err() {
            tracing::warn!(pool = %self.pool, "some outcomes are not stored: their jobs come back when the leases run out");
        }
    }
}

/// Runs the worker of a pool until it is told to stop; one that breaks is built anew.
async fn watch_over(shared: Shared, pool: Pool, holds: Arc<Holds>) {
    let (stopping, overdue) = (shared.stopping.clone(), shared.overdue.clone());
    let monitor = Monitor::new()
        .register(move |restarts| {
            let source = Source::start(fetcher(&shared, pool, &holds), restarts);
            let (shared, holds) = (shared.clone(), Arc::clone(&holds));
            WorkerBuilder::new(source.worker())
                .backend(source)
                .build(move |held: Held| handle(shared.clone(), Arc::clone(&holds), held.job))
        })
        .should_restart(|_, _| true)
        .with_terminator(async move { overdue.cancelled().await });
    let stop = async move {
        stopping.cancelled().await;
        Ok(())
    };
    if let Err(error) = monitor.run_with_signal(stop).await {
        tracing::error!(%error, %pool, "a worker has failed");
    }
}

fn fetcher(shared: &Shared, pool: Pool, holds: &Arc<Holds>) -> Fetcher {
    Fetcher {
        pool,
        worker: format!("{pool}-{}", Uuid::now_v7().simple()).into(),
        engine: Arc::clone(&shared.engine),
        holds: Arc::clone(holds),
        clock: Arc::clone(&shared.ctx.clock),
        pauses: shared.pauses.watch(pool),
        pace: shared.pace,
        stopping: shared.stopping.clone(),
    }
}

/// Runs a job in a tokio task of its own, so that all cores are used; it ends together with the future that waits for it.
async fn handle(shared: Shared, holds: Arc<Holds>, job: Claimed) -> Result<Outcome, BoxDynError> {
    Ok(AbortOnDropHandle::new(tokio::spawn(run(shared, holds, job))).await?)
}

async fn run(shared: Shared, holds: Arc<Holds>, job: Claimed) -> Outcome {
    let alone = &shared.alone[job.lease.pool as usize];
    let _alone = if job.crashes >= ALONE_FROM { Some(alone.lock().await) } else { None };
    if job.is_suspect() && !record_start(&shared, &holds, &job).await {
        return Outcome::Returned;
    }
    let Some(_running) = holds.start(&job.lease) else { return Outcome::Returned };
    Outcome::Ran(job::perform(&shared.ctx, &job.delivery).await)
}

/// `false` when the job is not ours any more, or it cannot be recorded that it runs.
async fn record_start(shared: &Shared, holds: &Holds, job: &Claimed) -> bool {
    match shared.engine.mark_started(&[job.lease]).await {
        Ok(marked) => {
            holds.mark(&marked);
            !marked.is_empty()
        }
        Err(error) => {
            tracing::warn!(error = job::with_causes(&error), "a job that may crash is not started unrecorded");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_heart_that_stands_still_is_felt() {
        const MOMENT: Duration = Duration::from_millis(1);
        let (monitor, last_beat) = (tokio::spawn(std::future::pending::<()>()), LastBeat::now());
        let vitals =
            || Vitals { monitor: monitor.abort_handle(), last_beat: last_beat.clone(), last_turn: LastBeat::now() };
        let pulse = |patience| Pulse { staffs: [vitals()].into(), patience };

        while last_beat.age() <= MOMENT {
            tokio::task::yield_now().await;
        }

        assert!(!pulse(MOMENT).is_healthy());
        assert!(pulse(MOMENT).is_alive(), "it tries on");
        assert!(pulse(LEASE).is_healthy());

        monitor.abort();
        while !monitor.is_finished() {
            tokio::task::yield_now().await;
        }
        assert!(!pulse(LEASE).is_healthy() && !pulse(LEASE).is_alive(), "nobody works there");
    }
}
