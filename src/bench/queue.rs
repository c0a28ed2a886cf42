//! The queue alone: no-op jobs on the engine of the configuration.

use std::sync::Arc;

use longshore_jobs::job::Job as _;
use longshore_jobs::noop::Noop;
use longshore_jobs::outside::{BoxError, Clock, SystemClock};

use super::Figures;
use super::apart::Apart;
use super::figures::{Value, percentile};
use crate::app::{open_ledger, open_queue};
use crate::config::{Config, DatabaseEngine, QueueEngine};
use crate::metrics;
use crate::queue::bench::{self, CHUNK, Load, Measured, SLOTS};

/// What each engine is to do: drained per second, p50 and p99 from push to start in milliseconds.
struct Aims {
    pushed: &'static str,
    drained: &'static str,
    p50: &'static str,
    p99: &'static str,
}

/// Where the aims are ratios to other systems, which `ops/bench/compare` shows.
const ON_SERVERS: Aims = Aims { pushed: "", drained: "", p50: "", p99: "" };
const ON_SQLITE: Aims = Aims { pushed: "100000", drained: "40000", p50: "1.5 ms", p99: "10 ms" };

/// Pushes, drains, and pushes one by one onto the idle queue, which holds nothing else.
pub(crate) async fn queue(config: &Config, load: &Load) -> Result<Figures, BoxError> {
    // Counting is part of what a job costs.
    metrics::install()?;
    let place = Apart::of(config).await?;
    let (db, clock) = (open_ledger(&place.config).await?, Arc::new(SystemClock) as Arc<dyn Clock>);
    let engine = open_queue(&place.config, &db, &clock, &[Noop::POOL]).await?;
    let measured = bench::measure(&bench::context(db.clone(), &engine), &engine, load).await;
    db.close().await;
    place.end().await?;
    let (name, aims) = match (&config.queue, &config.database) {
        (QueueEngine::Redis(_), _) => ("Redis", &ON_SERVERS),
        (QueueEngine::Database, DatabaseEngine::Postgres(_)) => ("PostgreSQL", &ON_SERVERS),
        (QueueEngine::Database, DatabaseEngine::Sqlite(_)) => ("SQLite", &ON_SQLITE),
    };
    Ok(show(name, load, &measured?, aims))
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
