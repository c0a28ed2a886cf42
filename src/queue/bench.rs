//! How fast a queue is: no-op jobs through apalis with everything on, that is leases, uniqueness, `perform` and metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_jobs::job::{Context, Job as _, Lane, Limits, NewJob};
use longshore_jobs::ledger::Db;
use longshore_jobs::model::Timestamp;
use longshore_jobs::noop::Noop;
use longshore_jobs::outside::{BoxError, SystemClock};
use serde_json::json;
use uuid::Uuid;

use super::engine::{Engine, EngineError};
use super::nowhere::Nowhere;
use super::workers::Workers;

/// How many jobs one push takes.
pub const CHUNK: usize = 5_000;
/// Slots of the worker: two full batches.
pub const SLOTS: usize = 1_000;
/// Jobs that are pushed and drained before anything counts.
const WARM_UP: usize = 2_000;
/// Single pushes before any counts.
const FIRST_SINGLES: usize = 50;
/// Between single pushes, so that the queue is idle again.
const PAUSE: Duration = Duration::from_millis(4);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Load {
    /// In each round, so many jobs are pushed, and then drained.
    pub rounds: Vec<usize>,
    /// Single pushes onto the idle queue.
    pub singles: usize,
    /// Bytes of a job's payload, as JSON.
    pub payload: usize,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// In the order of the load.
    pub rounds: Vec<Round>,
    /// Of the single pushes: from just before the push until the body of the job has begun.
    pub delays: Vec<Duration>,
}

/// So many jobs, pushed while no worker ran, then drained.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// How many.
    pub jobs: usize,
    /// How long all pushes took.
    pub pushed: Duration,
    /// From the start of the worker until the queue was empty.
    pub drained: Duration,
}

/// Measures an engine that is empty and that nobody else works on.
pub async fn measure(ctx: &Context, engine: &Arc<dyn Engine>, load: &Load) -> Result<Measured, BoxError> {
    round(ctx, engine, WARM_UP, load.payload).await?;
    let mut rounds = Vec::with_capacity(load.rounds.len());
    for jobs in &load.rounds {
        rounds.push(round(ctx, engine, *jobs, load.payload).await?);
    }
    Ok(Measured { rounds, delays: delays(ctx, engine, load).await? })
}

/// What jobs that do nothing need.
pub fn context(db: Db, engine: &Arc<dyn Engine>) -> Context {
    Context {
        db,
        bucket: Arc::new(Nowhere),
        queue: Arc::<dyn Engine>::clone(engine),
        clock: Arc::new(SystemClock),
        limits: Limits::default(),
    }
}

async fn round(ctx: &Context, engine: &Arc<dyn Engine>, jobs: usize, payload: usize) -> Result<Round, BoxError> {
    let pushed = push(engine, jobs, payload).await?;
    let waiting: u64 = engine.depths().await?.iter().map(|depth| depth.waiting).sum();
    if waiting != jobs as u64 {
        return Err(format!("{jobs} jobs were pushed, but {waiting} wait").into());
    }
    let drained = drain(ctx, engine).await?;
    Ok(Round { jobs, pushed, drained })
}

async fn push(engine: &Arc<dyn Engine>, count: usize, payload: usize) -> Result<Duration, BoxError> {
    let started = Instant::now();
    for first in (0..count).step_by(CHUNK) {
        let jobs = (first..count.min(first + CHUNK)).map(|_| noop(Uuid::now_v7(), Lane::Bulk, payload));
        engine.push(jobs.collect()).await?;
    }
    Ok(started.elapsed())
}

/// A job that does nothing, with a payload of so many bytes: what it does not know it passes over.
fn noop(id: Uuid, lane: Lane, payload: usize) -> NewJob {
    let bare = json!({ "id": id, "padding": "" }).to_string();
    let padding = "x".repeat(payload.saturating_sub(bare.len()));
    let padded = json!({ "id": id, "padding": padding }).to_string();
    NewJob::revive(Noop::KIND, id, padded, lane, Timestamp::system_now()).expect("noop is on the roster")
}

async fn start(ctx: &Context, engine: &Arc<dyn Engine>) -> Workers {
    Workers::start(ctx.clone(), Arc::clone(engine), |_| SLOTS, &[Noop::POOL]).await
}

async fn drain(ctx: &Context, engine: &Arc<dyn Engine>) -> Result<Duration, BoxError> {
    let started = Instant::now();
    let workers = start(ctx, engine).await;
    while !is_empty(&**engine).await? {
        // To ask is work for the engine too: a fiftieth of the time is exact enough.
        tokio::time::sleep((started.elapsed() / 50).max(Duration::from_millis(5))).await;
    }
    let drained = started.elapsed();
    workers.shutdown(Duration::from_secs(5)).await;
    Ok(drained)
}

/// Counts only once nothing waits: a count of much that waits would slow down what is measured.
async fn is_empty(engine: &dyn Engine) -> Result<bool, EngineError> {
    Ok(engine.next_due(Noop::POOL).await?.is_none() && engine.depths().await?.is_empty())
}

async fn delays(ctx: &Context, engine: &Arc<dyn Engine>, load: &Load) -> Result<Vec<Duration>, BoxError> {
    let workers = start(ctx, engine).await;
    let mut delays = Vec::with_capacity(load.singles);
    for number in 0..FIRST_SINGLES + load.singles {
        let id = Uuid::now_v7();
        let job = noop(id, Lane::Interactive, load.payload);
        let mut waiter = ctx.db.moves().watch(id);
        let pushed = Instant::now();
        engine.push(vec![job]).await?;
        waiter.moved(|_| true).await;
        let delay = pushed.elapsed();
        if number >= FIRST_SINGLES {
            delays.push(delay);
        }
        tokio::time::sleep(PAUSE).await;
    }
    workers.shutdown(Duration::from_secs(5)).await;
    Ok(delays)
}

#[cfg(test)]
mod tests {
    use longshore_jobs::noop::Act;

    use super::*;

    #[test]
    fn a_padded_job_is_as_large_as_asked_for_and_still_does_nothing() {
        let id = Uuid::now_v7();
        let job = noop(id, Lane::Bulk, 200);
        assert_eq!(job.payload().len(), 200);
        let read: Noop = serde_json::from_str(job.payload()).unwrap();
        assert_eq!((read.id, read.act, job.subject()), (id, Act::Done, id));
    }
}
