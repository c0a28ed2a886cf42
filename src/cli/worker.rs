//! `longshore worker`

use std::str::FromStr;

use clap::Args;
use longshore_jobs::job::Pool;

use super::Failure;
use super::serve::serve;
use crate::app::Roles;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct WorkerArgs {
    /// Only these pools; default: all.
    #[arg(long, value_delimiter = ',', value_name = "POOLS")]
    pub(super) pools: Vec<Pool>,
    /// How many jobs of a pool at once, for example verify=8; may be given several times.
    #[arg(long, value_delimiter = ',', value_name = "POOL=N")]
    pub(super) concurrency: Vec<Concurrency>,
}

/// `verify=8`
#[derive(Clone, Debug)]
pub(super) struct Concurrency {
    pool: Pool,
    jobs: String,
}

impl FromStr for Concurrency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pool, jobs) = text.split_once('=').ok_or("write a pool and a number, as verify=8")?;
        let pool = pool.parse().map_err(|error: longshore_jobs::model::UnknownWord| error.to_string())?;
        Ok(Self { pool, jobs: jobs.to_owned() })
    }
}

impl WorkerArgs {
    /// The concurrencies as settings; numbers are checked there.
    pub(super) fn settings(&self) -> Vec<(String, String)> {
        self.concurrency.iter().map(|given| (format!("pools.{}", given.pool), given.jobs.clone())).collect()
    }

    /// The pools to work on.
    pub(super) fn chosen_pools(&self) -> Vec<Pool> {
        if self.pools.is_empty() { Pool::ALL.to_vec() } else { self.pools.clone() }
    }
}

pub(super) async fn run(config: Config, args: WorkerArgs) -> Result<(), Failure> {
    serve(config, Roles { intake: false, pools: args.chosen_pools(), schedule: true }).await
}
