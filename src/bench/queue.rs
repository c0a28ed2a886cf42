//! The queue alone: no-op jobs on the engine of the configuration.

use std::sync::Arc;

use longshore_jobs::job::{Context, Limits};
use longshore_jobs::ledger::Db;
use longshore_jobs::outside::{BoxError, SystemClock};

use super::figures::{Value, percentile};
use super::{Figures, bench_folder};
use crate::config::{Config, DatabaseEngine, QueueEngine};
use crate::metrics;
use crate::queue::bench::{self, CHUNK, Load, Measured, SLOTS};
use crate::queue::engine::Engine;
use crate::queue::nowhere::Nowhere;
use crate::queue::sql::SqlQueue;

/// What each engine is to do: drained per second, p50 and p99 from push to start in milliseconds.
struct Aims {
    pushed: &'static str,
    drained: &'static str,
    p50: &'static str,
    p99: &'static str,
}

/// On SQLite. Elsewhere the aims are ratios to other systems, which `ops/bench/compare` shows.
const ON_SQLITE: Aims = Aims { pushed: "100000", drained: "40000", p50: "1.5 ms", p99: "10 ms" };

/// Pushes, drains, and pushes one by one onto the idle queue, which holds nothing else.
pub(crate) async fn queue(config: &Config, load: &Load) -> Result<Figures, BoxError> {
    // Counting is part of what a job costs.
    metrics::install()?;
    // The engines of the configuration are opened here and nowhere else in the benches; what a bench writes goes away with it.
    let (DatabaseEngine::Sqlite(_), QueueEngine::Database) = (&config.database, &config.queue);
    let folder = bench_folder(config)?;
    let db = Db::open_sqlite(&folder.path().join("bench.db")).await?;
    let engine: Arc<dyn Engine> = Arc::new(SqlQueue::new(db.clone(), Arc::new(SystemClock)));
    let measured = bench::measure(&context(db.clone(), &engine), &engine, load).await;
    db.close().await;
    Ok(show("SQLite", load, &measured?, &ON_SQLITE))
}

fn context(db: Db, engine: &Arc<dyn Engine>) -> Context {
    Context {
        db,
        bucket: Arc::new(Nowhere),
        queue: Arc::<dyn Engine>::clone(engine),
        clock: Arc::new(SystemClock),
        limits: Limits::default(),
    }
}

fn show(engine: &str, load: &Load, measured: &Measured, aims: &Aims) -> Figures {
    let mut figures = Figures::default();
    figures.set("queue", engine);
    figures.set("payload", format!("{} bytes", load.payload));
    figures.set("jobs in a push", CHUNK);
    figures.set("slots of the one worker", SLOTS);
    for round in &measured.rounds {
        let jobs = round.jobs as u64;
        let what = format!("bulk pushed, {jobs} jobs");
        figures.add(format!("pushed_{jobs}"), what, Value::rate(jobs, round.pushed)).aim(aims.pushed);
        let what = format!("drained, {jobs} waiting");
        figures.add(format!("drained_{jobs}"), what, Value::rate(jobs, round.drained)).aim(aims.drained);
    }
    let mut delays = measured.delays.clone();
    delays.sort_unstable();
    let what = format!("push to start p50, idle, {} pushes", delays.len());
    figures.add("delay_p50", what, Value::delay(percentile(&delays, 0.5))).aim(aims.p50);
    figures.add("delay_p99", "push to start p99", Value::delay(percentile(&delays, 0.99))).aim(aims.p99);
    figures
}
