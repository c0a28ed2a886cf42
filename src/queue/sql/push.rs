//! Putting jobs on: each joins the job of its kind and subject that is there already.
//!
//! A push of very many is mostly of one kind, lane and time. What they share is bound once, and the rest travels as one flat
//! object of subjects and payloads: taking nested arrays apart took SQLite as long as storing them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use longshore_jobs::job::{Lane, NewJob, Pool};
use longshore_jobs::ledger::{Db, LedgerError, Tx};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::Clock;
use longshore_jobs::sql;

use super::bells::Bells;
use super::rank;
use crate::queue::counters::Enqueued;
use crate::queue::engine;

macro_rules! joining {
    ($insert:literal) => {
        concat!(
            "insert into jobs (kind, subject, pool, lane, run_at, payload, created_at) ",
            $insert,
            " from json_each($1)
    where true
    on conflict (kind, subject) do update set
        payload = excluded.payload,
        run_at = case when jobs.state = 0 and excluded.run_at < jobs.run_at then excluded.run_at else jobs.run_at end,
        lane = case when jobs.state = 0 and excluded.lane < jobs.lane then excluded.lane else jobs.lane end,
        again_at = case
            when jobs.state = 0 then null
            when jobs.again_at < excluded.run_at then jobs.again_at
            else excluded.run_at end,
        again_lane = case
            when jobs.state = 0 then null
            when jobs.again_lane < excluded.lane then jobs.again_lane
            else excluded.lane end"
        )
    };
}

const PUSH_ALIKE: &str = joining!("select $2, unhex(key), $3, $4, $5, atom, $6");
const PUSH_MIXED: &str = joining!(
    "select value ->> 2, unhex(value ->> 0), value ->> 3, cast(value ->> 4 as bigint), cast(value ->> 5 as bigint),
        value ->> 1, $2"
);

/// Jobs that share all but subject and payload.
struct Alike {
    kind: &'static str,
    pool: Pool,
    lane: Lane,
    due: Timestamp,
    /// `{subject: payload, …}`, open at its end.
    rows: String,
}

/// Pushes what several callers brought, in one go.
pub(super) async fn push_together(
    db: Db,
    clock: Arc<dyn Clock>,
    bells: Bells,
    pushes: Vec<Vec<NewJob>>,
) -> Result<Vec<()>, LedgerError> {
    let callers = vec![(); pushes.len()];
    let mut jobs = engine::join(pushes.into_iter().flatten().collect());
    // Two processes that push the same jobs do not wait for each other in a ring.
    jobs.sort_by_key(|job| (job.kind(), job.subject()));
    let (enqueued, mut pools) = (Enqueued::of(&jobs), HashMap::<Pool, Timestamp>::new());
    for job in &jobs {
        let due = pools.entry(job.pool()).or_insert(job.due());
        *due = job.due().min(*due);
    }
    let now = clock.now();
    match alike(&jobs) {
        _ if jobs.is_empty() => return Ok(callers),
        Some(alike) => db.write_hint(move |tx| Box::pin(store_alike(tx, alike, now))).await?,
        None => db.write_hint(move |tx| Box::pin(store_mixed(tx, jobs, now))).await?,
    }
    enqueued.count();
    pools.into_iter().for_each(|(pool, due)| bells.ring_for(pool, due));
    Ok(callers)
}

async fn store_alike(mut tx: Tx<'_>, alike: Alike, now: Timestamp) -> Result<(), LedgerError> {
    sql!(tx.on(), c => sqlx::query(PUSH_ALIKE)
        .bind(alike.rows + "}")
        .bind(alike.kind)
        .bind(alike.pool)
        .bind(rank(alike.lane))
        .bind(alike.due)
        .bind(now)
        .execute(c).await.map(drop))?;
    Ok(())
}

async fn store_mixed(mut tx: Tx<'_>, jobs: Vec<NewJob>, now: Timestamp) -> Result<(), LedgerError> {
    let rows: Vec<_> = jobs.iter().map(mixed_row).collect();
    let list = serde_json::to_string(&rows).expect("rows of text and numbers are JSON");
    sql!(tx.on(), c => sqlx::query(PUSH_MIXED).bind(list).bind(now).execute(c).await.map(drop))?;
    Ok(())
}

fn mixed_row(job: &NewJob) -> (String, &str, &str, &str, i64, i64) {
    let (pool, due) = (job.pool().as_str(), job.due().as_millis());
    (job.subject().simple().to_string(), job.payload(), job.kind(), pool, rank(job.lane()), due)
}

/// All jobs as one, if they share what an [`Alike`] shares; `None` when they differ.
fn alike(jobs: &[NewJob]) -> Option<Alike> {
    let first = jobs.first()?;
    let shared = |job: &NewJob| (job.kind(), job.lane(), job.due());
    if jobs.iter().any(|job| shared(job) != shared(first)) {
        return None;
    }
    let mut alike = Alike::of(first);
    jobs.iter().for_each(|job| alike.add(job));
    Some(alike)
}

impl Alike {
    fn of(job: &NewJob) -> Self {
        let (kind, pool, lane, due) = (job.kind(), job.pool(), job.lane(), job.due());
        Self { kind, pool, lane, due, rows: "{".to_owned() }
    }

    fn add(&mut self, job: &NewJob) {
        let comma = if self.rows.len() == 1 { "" } else { "," };
        let payload = serde_json::to_string(job.payload()).expect("a string is JSON");
        write!(self.rows, "{comma}\"{}\":{payload}", job.subject().simple()).expect("a string takes all");
    }
}
