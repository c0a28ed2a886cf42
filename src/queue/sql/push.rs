//! Putting jobs on: one statement for all, in which each joins the job of its kind and subject that is there already.

use std::collections::HashMap;

use longshore_jobs::job::{NewJob, Pool};
use longshore_jobs::ledger::LedgerError;
use longshore_jobs::sql;

use super::{SqlQueue, json, rank};
use crate::queue::engine;

const PUSH: &str = "insert into jobs (kind, subject, pool, lane, run_at, payload, max_attempts, created_at)
    select value ->> 0, unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, $2
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

pub(super) async fn push(queue: &SqlQueue, jobs: Vec<NewJob>) -> Result<(), LedgerError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let mut kinds: HashMap<(&'static str, Pool), u64> = HashMap::new();
    for job in &jobs {
        *kinds.entry((job.kind(), job.pool())).or_default() += 1;
    }
    store(queue, rows(&engine::join(jobs))).await?;
    for (kind, pool) in kinds.keys() {
        metrics::counter!("longshore_jobs_enqueued_total", "kind" => *kind).increment(kinds[&(*kind, *pool)]);
        queue.wakes.wake(*pool);
    }
    Ok(())
}

async fn store(queue: &SqlQueue, rows: String) -> Result<(), LedgerError> {
    let now = queue.clock.now();
    queue
        .db
        .write_one(move |mut tx| {
            Box::pin(async move {
                sql!(tx.on(), c => sqlx::query(PUSH).bind(rows).bind(now).execute(c).await?);
                Ok(())
            })
        })
        .await
}

fn rows(jobs: &[NewJob]) -> String {
    let rows: Vec<_> = jobs
        .iter()
        .map(|job| {
            let due = job.due().as_millis();
            let subject = job.subject().simple();
            (job.kind(), subject, job.pool(), rank(job.lane()), due, job.payload(), job.max_attempts())
        })
        .collect();
    json(&rows)
}
