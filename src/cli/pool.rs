//! `longshore pool list|pause|resume`

use std::collections::BTreeMap;

use clap::Subcommand;
use longshore_jobs::job::Pool;
use longshore_jobs::ledger::{Db, pools};
use longshore_jobs::model::Timestamp;

use super::output::Columns;
use super::{Failure, existing_ledger, open_ledger, say};
use crate::config::Config;
use crate::queue::pauses::Pauses;

#[derive(Debug, Subcommand)]
pub(super) enum PoolCommand {
    /// Every pool: its concurrency, and whether it is paused.
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
    let paused: BTreeMap<Pool, Timestamp> = pools::paused(db).await?.into_iter().collect();
    let mut columns = Columns::with_heads(&["pool", "concurrency", "state"]);
    for (pool, concurrency) in &config.pools {
        let state = paused.get(pool).map_or_else(|| "open".to_owned(), |since| format!("paused since {since}"));
        columns.row(vec![pool.to_string(), concurrency.to_string(), state]);
    }
    say(columns);
    Ok(())
}

async fn set_paused(db: &Db, pool: Pool, paused: bool) -> Result<(), Failure> {
    let state = if paused { "paused" } else { "open" };
    let moved = Pauses::new(db.clone()).set(pool, paused, Timestamp::system_now()).await?;
    let before = if moved { "" } else { " as before" };
    say(format_args!("{pool} is {state}{before}.\n"));
    Ok(())
}
