//! How fast the queue is: no-op jobs through apalis with everything on, that is leases, uniqueness, `perform` and metrics.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_jobs::job::{Context, Job as _, Lane, Limits, NewJob};
use longshore_jobs::ledger::Db;
use longshore_jobs::model::Timestamp;
use longshore_jobs::noop::Noop;
use longshore_jobs::outside::{BoxError, SystemClock};
use uuid::Uuid;

use super::engine::{Engine, EngineError};
use super::nowhere::Nowhere;
use super::sql::SqlQueue;
use super::workers::Workers;

/// How many jobs one push takes.
const CHUNK: usize = 5_000;
/// Slots of the worker: two full batches.
const SLOTS: usize = 1_000;
/// Single pushes onto the idle queue.
const SINGLES: usize = 500;

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    what: String,
    figure: String,
    aim: &'static str,
}

/// Measures the queue on a new SQLite ledger in the folder.
pub async fn run(folder: &Path) -> Result<Figures, BoxError> {
    let db = Db::open_sqlite(&folder.join("bench.db")).await?;
    let engine: Arc<dyn Engine> = Arc::new(SqlQueue::new(db.clone(), Arc::new(SystemClock)));
    let figures = measure(&context(db.clone(), &engine), &engine, [20_000, 500_000]).await;
    db.close().await;
    figures
}

/// Measures an engine whose queue is empty, with so many jobs waiting.
pub(super) async fn measure(ctx: &Context, engine: &Arc<dyn Engine>, waiting: [usize; 2]) -> Result<Figures, BoxError> {
    let mut figures = Figures::default();
    for jobs in waiting {
        let pushed = push(engine, jobs).await?;
        figures.add_rate(format!("bulk pushed/s, {jobs} jobs"), jobs, pushed, "100000");
        let drained = drain(ctx, engine).await?;
        figures.add_rate(format!("drained/s, {jobs} waiting"), jobs, drained, "40000");
    }
    let mut delays = delays(ctx, engine).await?;
    delays.sort_unstable();
    figures.add_delay("push to start p50, idle", delays[SINGLES / 2], "1.5 ms");
    figures.add_delay("push to start p99, idle", delays[SINGLES * 99 / 100], "10 ms");
    Ok(figures)
}

/// What jobs that do nothing need.
pub(super) fn context(db: Db, engine: &Arc<dyn Engine>) -> Context {
    Context {
        db,
        bucket: Arc::new(Nowhere),
        queue: Arc::<dyn Engine>::clone(engine),
        clock: Arc::new(SystemClock),
        limits: Limits::default(),
    }
}

async fn push(engine: &Arc<dyn Engine>, count: usize) -> Result<Duration, BoxError> {
    let started = Instant::now();
    for chunk in 0..count.div_ceil(CHUNK) {
        let now = Timestamp::system_now();
        let size = CHUNK.min(count - chunk * CHUNK);
        engine.push((0..size).map(|_| NewJob::of(&Noop::new(Uuid::now_v7()), Lane::Bulk, now)).collect()).await?;
    }
    Ok(started.elapsed())
}

async fn start(ctx: &Context, engine: &Arc<dyn Engine>) -> Workers {
    Workers::start(ctx.clone(), Arc::clone(engine), |_| SLOTS, &[Noop::POOL]).await
}

async fn drain(ctx: &Context, engine: &Arc<dyn Engine>) -> Result<Duration, BoxError> {
    let started = Instant::now();
    let workers = start(ctx, engine).await;
    while !is_empty(&**engine).await? {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let drained = started.elapsed();
    workers.shutdown(Duration::from_secs(5)).await;
    Ok(drained)
}

/// Counts only once nothing waits: a count of much that waits would slow down what is measured.
async fn is_empty(engine: &dyn Engine) -> Result<bool, EngineError> {
    Ok(engine.next_due(Noop::POOL).await?.is_none() && engine.depths().await?.is_empty())
}

/// From just before the push until the body of the job has begun.
async fn delays(ctx: &Context, engine: &Arc<dyn Engine>) -> Result<Vec<Duration>, BoxError> {
    let workers = start(ctx, engine).await;
    let mut delays = Vec::with_capacity(SINGLES);
    for _ in 0..SINGLES {
        let noop = Noop::new(Uuid::now_v7());
        let mut waiter = ctx.db.moves().watch(noop.id);
        let pushed = Instant::now();
        ctx.push(&noop).await?;
        waiter.moved(|_| true).await;
        delays.push(pushed.elapsed());
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    workers.shutdown(Duration::from_secs(5)).await;
    Ok(delays)
}

impl Figures {
    fn add_rate(&mut self, what: String, jobs: usize, took: Duration, aim: &'static str) {
        let jobs = u32::try_from(jobs).map_or(f64::MAX, f64::from);
        self.rows.push(Row { what, figure: format!("{:.0}", jobs / took.as_secs_f64()), aim });
    }

    fn add_delay(&mut self, what: &str, delay: Duration, aim: &'static str) {
        let figure = format!("{:.2} ms", delay.as_secs_f64() * 1e3);
        self.rows.push(Row { what: what.to_owned(), figure, aim });
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<32} {:>12} {:>12}", "SQLite queue", "measured", "aim")?;
        for Row { what, figure, aim } in &self.rows {
            writeln!(f, "{what:<32} {figure:>12} {aim:>12}")?;
        }
        Ok(())
    }
}
