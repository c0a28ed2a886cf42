//! Taking back the jobs of workers that are gone.
//!
//! A job that ran when its worker died is blamed with a crash; one that was merely claimed is not. At the cap it dies even if
//! it has been pushed again meanwhile: what took that many workers down waits for an operator, not for a signal.

use std::collections::HashMap;

use longshore_jobs::job::Pool;
use longshore_jobs::ledger::{LedgerError, Tx, dead_letters};
use longshore_jobs::model::Timestamp;
use longshore_jobs::sql;

use super::SqlQueue;
use super::settle::Remains;
use crate::queue::engine::{CRASH_CAP, CRASHED};

macro_rules! burying {
    ($lock:literal) => {
        concat!(
            "delete from jobs
    where id in (
        select id from jobs
        where state > 0 and lease_until <= $1 and state = 2 and crashes + 1 >= $2 ",
            $lock,
            ")
    returning kind, subject, pool, lane, payload, attempts, crashes + 1 as crashes"
        )
    };
}

macro_rules! taking_back {
    ($lock:literal) => {
        concat!(
            "update jobs set
        crashes = crashes + case when state = 2 then 1 else 0 end,
        losses = losses + 1,
        state = 0,
        run_at = case when again_at < run_at then again_at else run_at end,
        lane = case when again_lane < lane then again_lane else lane end,
        again_at = null, again_lane = null, token = null, lease_until = null, worker = null
    where id in (select id from jobs where state > 0 and lease_until <= $1 ",
            $lock,
            ")
    returning pool"
        )
    };
}

/// On PostgreSQL every process rescues, and none waits for what another has in hand: its owner stores the outcome after all,
/// or the next beat comes to it.
const BURY_CRASHED: [&str; 2] = [burying!(""), burying!("for update skip locked")];
const TAKE_BACK: [&str; 2] = [taking_back!(""), taking_back!("for update skip locked")];

/// Takes back what is leased until `expired` or earlier.
pub(super) async fn reclaim(queue: &SqlQueue, expired: Timestamp) -> Result<HashMap<Pool, u64>, LedgerError> {
    if !anything_leased(queue, expired).await? {
        return Ok(HashMap::new());
    }
    let now = queue.clock.now();
    let pools = queue.db.write(move |tx| Box::pin(take_back(tx, expired, now))).await?;
    let mut rescued = HashMap::new();
    for pool in pools {
        *rescued.entry(pool).or_default() += 1;
    }
    rescued.keys().for_each(|pool| queue.bells.ring(*pool));
    Ok(rescued)
}

/// A read, so that the many beats at which nothing is to be rescued leave the writer alone.
async fn anything_leased(queue: &SqlQueue, expired: Timestamp) -> Result<bool, LedgerError> {
    let query = "select exists (select 1 from jobs where state > 0 and lease_until <= $1)";
    Ok(sql!(queue.db.reader(), c => sqlx::query_scalar(query).bind(expired).fetch_one(c).await)?)
}

async fn take_back(mut tx: Tx<'_>, expired: Timestamp, now: Timestamp) -> Result<Vec<Pool>, LedgerError> {
    let (query, cap) = (tx.on().text(BURY_CRASHED[0], BURY_CRASHED[1]), i64::from(CRASH_CAP));
    let crashed: Vec<Remains> = sql!(tx.on(), c => sqlx::query_as(query).bind(expired).bind(cap).fetch_all(c).await?);
    let mut pools: Vec<Pool> = crashed.iter().map(Remains::pool).collect();
    for remains in crashed {
        let error = remains.crash_told();
        dead_letters::insert(&mut tx, &remains.into_letter(CRASHED, error, now)).await?;
    }
    let query = tx.on().text(TAKE_BACK[0], TAKE_BACK[1]);
    let rows: Vec<Pool> = sql!(tx.on(), c => sqlx::query_scalar(query).bind(expired).fetch_all(c).await?);
    pools.extend(rows);
    Ok(pools)
}
