//! New rows of uploads: however they begin their way, and however many, with one statement.

use serde_json::{Value, json};
use uuid::Uuid;

use super::Tx;
use super::steps::{listed, millis};
use crate::model::{Timestamp, Upload};

const INSERT: &str = "insert into uploads
    (id, org_id, user_id, status, reason, filename, size, arrived_size, content_type, sha256, verified_sha256, target_kind,
     target_number, client_ref, metadata, object_key, policy, policy_expires_at, next_poll_at, etag, arrived_via, changes,
     file_id, deduplicated, resume_at, resumes, created_at, updated_at, arrived_at, batch_id,
     issued_at, landed_at, verified_at, stored_at, traceparent)
    select unhex(value ->> 0), unhex(value ->> 1), unhex(value ->> 2), value ->> 3, value ->> 4, value ->> 5,
        cast(value ->> 6 as bigint), cast(value ->> 7 as bigint), value ->> 8, value ->> 9, value ->> 10, value ->> 11,
        value ->> 12, value ->> 13, value ->> 14, value ->> 15, value ->> 16, cast(value ->> 17 as bigint),
        cast(value ->> 18 as bigint), value ->> 19, value ->> 20, cast(value ->> 21 as bigint), unhex(value ->> 22),
        cast(value ->> 23 as boolean), cast(value ->> 24 as bigint), cast(value ->> 25 as bigint),
        cast(value ->> 26 as bigint), cast(value ->> 27 as bigint), cast(value ->> 28 as bigint), unhex(value ->> 29),
        cast(value ->> 30 as bigint), cast(value ->> 31 as bigint), cast(value ->> 32 as bigint),
        cast(value ->> 33 as bigint), value ->> 34
    from json_each($1)
    where true
    on conflict do nothing
    returning id";

/// Adds the rows as they are, each with the time at which its object is looked for first. Those that something unique does not
/// let in are left out; returns the ids of the others.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    rows: impl IntoIterator<Item = (&Upload, Option<Timestamp>)>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let rows: Vec<Value> = rows.into_iter().map(|(row, poll_at)| row_listed(row, poll_at)).collect();
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let list = json!(rows).to_string();
    sql!(tx.on(), c => sqlx::query_scalar(INSERT).bind(list).fetch_all(c).await)
}

fn row_listed(row: &Upload, poll_at: Option<Timestamp>) -> Value {
    json!([
        listed(row.id),
        listed(row.org_id),
        listed(row.user_id),
        row.status,
        row.reason,
        row.filename,
        row.size,
        row.arrived_size,
        row.content_type,
        row.sha256,
        row.verified_sha256,
        row.target_kind,
        row.target_number,
        row.client_ref,
        row.metadata,
        row.object_key,
        row.policy,
        row.policy_expires_at.map(millis),
        poll_at.map(millis),
        row.etag,
        row.arrived_via,
        row.changes,
        listed(row.file_id),
        row.deduplicated,
        row.resume_at.map(millis),
        row.resumes,
        millis(row.created_at),
        millis(row.updated_at),
        row.arrived_at.map(millis),
        row.batch_id.map(listed),
        row.issued_at.map(millis),
        row.landed_at.map(millis),
        row.verified_at.map(millis),
        row.stored_at.map(millis),
        row.traceparent.map(|parent| parent.to_string()),
    ])
}
