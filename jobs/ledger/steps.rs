//! The moves that every upload makes, made for many uploads with one statement: issue, arrive, verify.
//!
//! Each caller hands in one row's move and hears whether it was made. Under load the moves that wait are one compare-and-set
//! over a list; where nothing waits, the list has one entry. The list travels as JSON, which is where engines differ:
//! PostgreSQL unfolds it with `json_to_recordset`.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Value, json};
use sqlx::SqlitePool;
use uuid::Uuid;

use super::LedgerError;
use super::files::Stored;
use super::gather::Gather;
use super::sqlite::{Sqlite, Unit};
use super::stores::{Store, store_all};
use crate::model::{Timestamp, Upload};

/// requested → issued, and issued → issued for a row whose policy was cleared.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Issue {
    pub(super) id: String,
    pub(super) policy: String,
    pub(super) ends: i64,
    pub(super) poll_at: i64,
    pub(super) now: i64,
}

const ISSUE: &str = "update uploads
    set status = 'issued', policy = given.value ->> 'policy', policy_expires_at = given.value ->> 'ends',
        next_poll_at = given.value ->> 'poll_at', resume_at = null, resumes = 0, updated_at = given.value ->> 'now'
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 'id')
      and (status = 'requested' or (status = 'issued' and policy is null))
    returning uploads.id";

/// requested, issued, expired → arrived.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Arrive {
    pub(super) id: String,
    pub(super) etag: String,
    pub(super) size: i64,
    pub(super) via: &'static str,
    pub(super) now: i64,
    pub(super) resume_at: i64,
}

// An expired row whose ref has been taken again stays: moved, it would breach the unique index, and fail all who are moved
// together with it. Of two such rows in one list the later one goes first, and with it the ref.
const ARRIVE: &str = "update uploads
    set status = 'arrived', etag = given.value ->> 'etag', arrived_size = given.value ->> 'size',
        arrived_via = given.value ->> 'via', arrived_at = given.value ->> 'now', updated_at = given.value ->> 'now',
        next_poll_at = null, resume_at = given.value ->> 'resume_at', resumes = 0, policy = null
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 'id')
      and (status in ('requested', 'issued') or (status = 'expired' and (client_ref is null or (
        not exists (
            select 1 from uploads other
            where other.org_id = uploads.org_id and other.client_ref = uploads.client_ref
              and other.status not in ('rejected', 'expired', 'cancelled'))
        and not exists (
            select 1
            from json_each($1) beside
            cross join uploads later
            where later.id = unhex(beside.value ->> 'id') and later.id > uploads.id and later.status = 'expired'
              and later.org_id = uploads.org_id and later.client_ref = uploads.client_ref)))))
    returning uploads.id";

/// arrived → verified, if the version is still the one that was hashed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verify {
    pub(super) id: String,
    pub(super) etag: String,
    pub(super) sha256: String,
    pub(super) now: i64,
    pub(super) resume_at: i64,
}

const VERIFY: &str = "update uploads
    set status = 'verified', verified_sha256 = given.value ->> 'sha256', updated_at = given.value ->> 'now',
        resume_at = given.value ->> 'resume_at', resumes = 0
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 'id') and status = 'arrived' and etag = given.value ->> 'etag'
    returning uploads.id";

const INSERT: &str = "insert into uploads
    (id, org_id, user_id, status, filename, size, content_type, sha256, target_kind, target_number, client_ref, metadata,
     object_key, policy_expires_at, file_id, resume_at, created_at, updated_at)
    select unhex(value ->> 0), unhex(value ->> 1), unhex(value ->> 2), value ->> 3, value ->> 4, value ->> 5, value ->> 6,
        value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13,
        unhex(value ->> 14), value ->> 15, value ->> 16, value ->> 17
    from json_each($1)
    where true
    on conflict do nothing
    returning id";

/// What is asked of uploads by many at once.
#[derive(Clone)]
pub(crate) struct Gathered {
    pub(super) find: Gather<Uuid, Option<Upload>>,
    pub(super) issue: Gather<Issue, bool>,
    pub(super) arrive: Gather<Arrive, bool>,
    pub(super) verify: Gather<Verify, bool>,
    pub(super) store: Gather<Store, Stored>,
    pub(super) insert: Gather<Upload, bool>,
}

impl Gathered {
    pub(super) fn start(engine: &Sqlite) -> Self {
        let (readers, storing, inserting) = (engine.reader().clone(), engine.clone(), engine.clone());
        Self {
            find: Gather::new(move |ids| find(readers.clone(), ids)),
            issue: mover(engine, ISSUE, |issue: &Issue| &issue.id),
            arrive: mover(engine, ARRIVE, |arrive: &Arrive| &arrive.id),
            verify: mover(engine, VERIFY, |verify: &Verify| &verify.id),
            store: Gather::new(move |stores| store_all(storing.clone(), stores)),
            insert: Gather::new(move |rows| insert(inserting.clone(), rows)),
        }
    }
}

/// How an id is written in a list.
pub(super) fn listed(id: Uuid) -> String {
    id.simple().to_string()
}

/// A time as it is written in a list.
pub(super) const fn millis(time: Timestamp) -> i64 {
    time.as_millis()
}

fn mover<M>(engine: &Sqlite, query: &'static str, id: fn(&M) -> &String) -> Gather<M, bool>
where
    M: Clone + Serialize + Send + Sync + 'static,
{
    let engine = engine.clone();
    Gather::new(move |moves: Vec<M>| {
        let (engine, list) = (engine.clone(), json!(moves).to_string());
        let ids: Vec<String> = moves.iter().map(|one| id(one).clone()).collect();
        async move {
            let moved: Vec<Uuid> = engine
                .write(Unit::Statement, move |c| {
                    Box::pin(async move { Ok(sqlx::query_scalar(query).bind(list).fetch_all(c).await?) })
                })
                .await?;
            // Of two who make the same move at once, the first has made it.
            let mut moved: HashSet<String> = moved.into_iter().map(listed).collect();
            Ok(ids.iter().map(|id| moved.remove(id)).collect())
        }
    })
}

/// New rows, as many as are not in conflict with what stands. `false` for the others.
async fn insert(engine: Sqlite, rows: Vec<Upload>) -> Result<Vec<bool>, LedgerError> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let list = json!(rows.iter().map(new_row).collect::<Vec<_>>()).to_string();
    let inserted: Vec<Uuid> = engine
        .write(Unit::Statement, move |c| {
            Box::pin(async move { Ok(sqlx::query_scalar(INSERT).bind(list).fetch_all(c).await?) })
        })
        .await?;
    Ok(ids.iter().map(|id| inserted.contains(id)).collect())
}

/// What a door knows of an upload that was just asked for; everything else is null or zero.
fn new_row(row: &Upload) -> Value {
    json!([
        listed(row.id),
        listed(row.org_id),
        listed(row.user_id),
        row.status,
        row.filename,
        row.size,
        row.content_type,
        row.sha256,
        row.target_kind,
        row.target_number,
        row.client_ref,
        row.metadata,
        row.object_key,
        row.policy_expires_at.map(millis),
        listed(row.file_id),
        row.resume_at.map(millis),
        millis(row.created_at),
        millis(row.updated_at),
    ])
}

/// The rows in the order of the ids. The same row may have been asked for twice.
async fn find(readers: SqlitePool, ids: Vec<Uuid>) -> Result<Vec<Option<Upload>>, LedgerError> {
    let query = "select * from uploads where id in (select unhex(value) from json_each($1))";
    let list = json!(ids.iter().copied().map(listed).collect::<Vec<_>>()).to_string();
    let rows: Vec<Upload> = sqlx::query_as(query).bind(list).fetch_all(&readers).await?;
    Ok(ids.iter().map(|id| rows.iter().find(|row| row.id == *id).cloned()).collect())
}
