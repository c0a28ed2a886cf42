//! Reading what there is about some few things.

use longshore_jobs::job::Pool;
use longshore_jobs::ledger::LedgerError;
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::QueuedJob;
use longshore_jobs::{roster, sql};
use serde_json::json;
use uuid::Uuid;

use super::SqlQueue;

/// By kind and subject, for which there is an index. For `= any (array[…])` see `held!`.
const ABOUT: [&str; 2] = [
    "select kind, subject, pool, state, run_at, attempts, error
    from json_each($1) given
    cross join jobs
    where jobs.kind = given.value ->> 0 and jobs.subject = unhex(given.value ->> 1)",
    "select kind, subject, pool, state, run_at, attempts, error
    from json_each($1) given
    cross join jobs
    where jobs.kind = any (array[given.value ->> 0]) and jobs.subject = any (array[unhex(given.value ->> 1)])",
];

/// Kind, subject, pool, state, due, attempts, error.
type Row = (String, Uuid, Pool, i64, Timestamp, i64, Option<String>);

pub(super) async fn about(queue: &SqlQueue, subjects: &[Uuid]) -> Result<Vec<QueuedJob>, LedgerError> {
    let kinds = roster::all().iter().map(|entry| entry.kind);
    let pairs = kinds.flat_map(|kind| subjects.iter().map(move |subject| json!([kind, subject.simple().to_string()])));
    let list = json!(pairs.collect::<Vec<_>>()).to_string();
    let reader = queue.db.reader();
    let query = reader.text(ABOUT[0], ABOUT[1]);
    let rows: Vec<Row> = sql!(reader, c => sqlx::query_as(query).bind(list).fetch_all(c).await)?;
    Ok(rows.into_iter().map(queued).collect())
}

fn queued((kind, subject, pool, state, due, attempts, error): Row) -> QueuedJob {
    let (max_attempts, attempts) = (roster::attempts(&kind), u32::try_from(attempts).unwrap_or(u32::MAX));
    QueuedJob { kind, subject, pool, is_running: state > 0, due, attempts, max_attempts, error }
}
