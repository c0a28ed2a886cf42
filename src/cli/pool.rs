//! `longshore pool list|pause|resume`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use longshore_jobs::job::Pool;
use longshore_jobs::ledger::{Db, dead_letters, pools, workers};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::{Clock, SystemClock};

use super::output::Columns;
use super::{Failure, existing_ledger, open_ledger, say};
use crate::app::open_queue;
use crate::config::Config;
use crate::queue::engine::Depth;
use crate::queue::pauses::Pauses;

#[derive(Debug, Subcommand)]
pub(super) enum PoolCommand {
    /// Every pool: whether it is paused, what waits, runs and is dead, and who works.
    List,
    /// Lets a pool start no more jobs, in every process; those that run go on.
    Pause {
        /// issue, arrive, verify, store, report or upkeep.
        pool: Pool,
    },
    /// Lets a paused pool go on.
    Resume {
        /// issue, arrive, verify, store, report or upkeep.
        pool: Pool,
    },
}

pub(super) async fn run(config: Config, command: PoolCommand) -> Result<(), Failure> {
    let db = match command {
        PoolCommand::Pause { .. } => open_ledger(&config).await?,
        _ => existing_ledger(&config).await?,
    };
    let ended = match command {
        PoolCommand::List => list(&db, &config).await,
        PoolCommand::Pause { pool } => set_paused(&db, pool, true).await,
        PoolCommand::Resume { pool } => set_paused(&db, pool, false).await,
    };
    db.close().await;
    ended
}

async fn list(db: &Db, config: &Config) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let queue = open_queue(config, db, &clock, &[])
        .await
        .map_err(|error| Failure::new("the queue cannot be reached").because(&error).hint("check queue_url"))?;
    let depths = queue.depths().await.map_err(|error| Failure::new("the queue does not answer").because(&error))?;
    let now = clock.now();
    let paused: BTreeMap<Pool, Timestamp> = pools::paused(db).await?.into_iter().collect();
    let dead: BTreeMap<Pool, i64> = dead_letters::count_by_pool(db).await?.into_iter().collect();
    let staffs = workers::by_pool(db, now).await?;
    let mut columns = Columns::with_heads(&HEADS);
    for pool in Pool::ALL {
        let jobs = Jobs::of(*pool, &depths);
        let staff = staffs.get(pool).copied().unwrap_or_default();
        columns.row(vec![
            pool.to_string(),
            jobs.waiting.to_string(),
            jobs.due.to_string(),
            jobs.running.to_string(),
            format!("{} s", jobs.oldest.as_secs()),
            dead.get(pool).copied().unwrap_or_default().to_string(),
            staff.workers.to_string(),
            staff.share.concurrency.to_string(),
            format!("{:.1}", staff.share.per_second),
            paused.get(pool).map_or_else(|| "open".to_owned(), |since| format!("paused since {since}")),
        ]);
    }
    say(columns);
    Ok(())
}

/// Slots are those of all workers together, and the rate is that of their last ten seconds.
const HEADS: [&str; 10] =
    ["pool", "waiting", "due", "running", "oldest", "dead", "workers", "slots", "per second", "state"];

/// The jobs of a pool, whatever their lane.
#[derive(Default)]
struct Jobs {
    waiting: u64,
    due: u64,
    running: u64,
    /// For how long the oldest of the due has been due.
    oldest: Duration,
}

impl Jobs {
    fn of(pool: Pool, depths: &[Depth]) -> Self {
        depths.iter().filter(|depth| depth.pool == pool).fold(Self::default(), |sum, lane| Self {
            waiting: sum.waiting + lane.waiting,
            due: sum.due + lane.due,
            running: sum.running + lane.running,
            oldest: sum.oldest.max(lane.oldest_age),
        })
    }
}

async fn set_paused(db: &Db, pool: Pool, paused: bool) -> Result<(), Failure> {
    let state = if paused { "paused" } else { "open" };
    let moved = Pauses::new(db.clone()).set(pool, paused, Timestamp::system_now()).await?;
    let before = if moved { "" } else { " as before" };
    let then =
        if paused { "; what a worker has taken already goes on, and others notice within some seconds" } else { "" };
    say(format_args!("{pool} is {state}{before}{then}.\n"));
    Ok(())
}
