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

use super::rank;
use crate::queue::engine::{self, Wakes};

const PUSH: &str = "insert into jobs (kind, subject, pool, lane, run_at, payload, created_at)
    select $2, unhex(key), $3, $4, $5, value, $6
    from json_each($1)
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
            else excluded.lane end";

/// Jobs that share all but subject and payload.
struct Alike {
    kind: &'static str,
    pool: Pool,
    lane: Lane,
    due: Timestamp,
    /// `{subject: payload, …}`, open at its end.
    rows: String,
    count: u64,
}

/// Pushes what several callers brought, in one go.
pub(super) async fn push_together(
    db: Db,
    clock: Arc<dyn Clock>,
    wakes: Wakes,
    pushes: Vec<Vec<NewJob>>,
) -> Result<Vec<()>, LedgerError> {
    let callers = vec![(); pushes.len()];
    let now = clock.now();
    let groups = group(&engine::join(pushes.into_iter().flatten().collect()), now);
    let told: Vec<_> = groups.iter().map(|alike| (alike.kind, alike.pool, alike.count)).collect();
    match groups.len() {
        0 => return Ok(callers),
        1 => db.write_hint(move |tx| Box::pin(store(tx, groups, now))).await?,
        _ => db.write_hints(move |tx| Box::pin(store(tx, groups, now))).await?,
    }
    for (kind, pool, count) in told {
        metrics::counter!("longshore_jobs_enqueued_total", "kind" => kind).increment(count);
        wakes.wake(pool);
    }
    Ok(callers)
}

async fn store(mut tx: Tx<'_>, groups: Vec<Alike>, now: Timestamp) -> Result<(), LedgerError> {
    for alike in groups {
        sql!(tx.on(), c => sqlx::query(PUSH)
            .bind(alike.rows + "}")
            .bind(alike.kind)
            .bind(alike.pool)
            .bind(rank(alike.lane))
            .bind(alike.due)
            .bind(now)
            .execute(c)
            .await?);
    }
    Ok(())
}

/// Those that are due by now are all due now: pushes of one moment need not differ by a millisecond.
fn group(jobs: &[NewJob], now: Timestamp) -> Vec<Alike> {
    let mut places = HashMap::new();
    let mut groups: Vec<Alike> = Vec::new();
    for job in jobs {
        let due = job.due().max(now);
        let place = *places.entry((job.kind(), job.lane(), due)).or_insert_with(|| {
            groups.push(Alike::of(job, due));
            groups.len() - 1
        });
        groups[place].add(job);
    }
    groups
}

impl Alike {
    fn of(job: &NewJob, due: Timestamp) -> Self {
        let (kind, pool, lane) = (job.kind(), job.pool(), job.lane());
        Self { kind, pool, lane, due, rows: "{".to_owned(), count: 0 }
    }

    fn add(&mut self, job: &NewJob) {
        let comma = if self.count == 0 { "" } else { "," };
        let payload = serde_json::to_string(job.payload()).expect("a string is JSON");
        write!(self.rows, "{comma}\"{}\":{payload}", job.subject().simple()).expect("a string takes all");
        self.count += 1;
    }
}
