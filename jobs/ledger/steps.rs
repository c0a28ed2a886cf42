//! The moves that every upload makes, made for many uploads with one statement: issue, arrive, verify.
//!
//! Each caller hands in one row's move and hears whether it was made. Under load the moves that wait are one compare-and-set
//! over a list; where nothing waits, the list has one entry. The list travels as JSON, and in one order, so that two processes
//! that move the same rows do not wait for each other in a ring. Its numbers are cast, as PostgreSQL wants it.
//!
//! `status || ''` is no condition for an index. PostgreSQL would start from the few rows that it believes to be in a state, by
//! statistics from before a hundred thousand of them got there, instead of looking up the ids.

use std::collections::{BTreeSet, HashSet};

use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::births::{Birth, Born, insert_all};
use super::engine::{Engine, Unit};
use super::files::Stored;
use super::gather::Gather;
use super::prefixes::{Object, Told, admit_all};
use super::refs::ref_stands;
use super::stores::{Store, store_all};
use super::{LedgerError, Tx};
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

pub(super) const ISSUE: &str = "update uploads
    set status = 'issued', policy = given.value ->> 'policy', policy_expires_at = cast(given.value ->> 'ends' as bigint),
        next_poll_at = cast(given.value ->> 'poll_at' as bigint), resume_at = null, resumes = 0,
        issued_at = cast(given.value ->> 'now' as bigint), updated_at = cast(given.value ->> 'now' as bigint)
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 'id')
      and (status || '' = 'requested' or (status || '' = 'issued' and policy is null))
    returning uploads.id";

/// requested, issued, expired → arrived.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Arrive {
    pub(super) id: String,
    pub(super) etag: String,
    pub(super) size: i64,
    pub(super) via: &'static str,
    pub(super) landed: Option<i64>,
    pub(super) now: i64,
    pub(super) resume_at: i64,
}

// An expired row whose ref has been taken again stays: moved, it would breach the unique index, and fail all who are moved
// together with it. Of two such rows in one list the later one goes first, and with it the ref. Where another process takes
// the ref during the statement, it does breach the index, and those in the list are asked again, each alone.
pub(super) const ARRIVE: &str = concat!(
    "update uploads
    set status = 'arrived', etag = given.value ->> 'etag', arrived_size = cast(given.value ->> 'size' as bigint),
        arrived_via = given.value ->> 'via', landed_at = cast(given.value ->> 'landed' as bigint),
        arrived_at = cast(given.value ->> 'now' as bigint), updated_at = cast(given.value ->> 'now' as bigint),
        next_poll_at = null, resume_at = cast(given.value ->> 'resume_at' as bigint), resumes = 0, policy = null
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 'id')
      and (status || '' in ('requested', 'issued') or (status = 'expired' and (client_ref is null or (
        not exists (
            select 1 from uploads other
            where other.org_id = uploads.org_id and other.client_ref = uploads.client_ref
              and ",
    ref_stands!("other"),
    ")
        and not exists (
            select 1
            from json_each($1) beside
            cross join uploads later
            where later.id = unhex(beside.value ->> 'id') and later.id > uploads.id and later.status = 'expired'
              and later.org_id = uploads.org_id and later.client_ref = uploads.client_ref)))))
    returning uploads.id"
);

/// arrived → verified, if the version is still the one that was hashed, and no other hash than its batch's manifest pins.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Verify {
    pub(super) id: String,
    #[serde(skip)]
    pub(super) batch: Option<Uuid>,
    pub(super) etag: String,
    pub(super) sha256: String,
    pub(super) now: i64,
    pub(super) resume_at: i64,
}

pub(super) const VERIFY: &str = "update uploads
    set status = 'verified', verified_sha256 = given.value ->> 'sha256',
        verified_at = cast(given.value ->> 'now' as bigint), updated_at = cast(given.value ->> 'now' as bigint),
        resume_at = cast(given.value ->> 'resume_at' as bigint), resumes = 0
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 'id') and status || '' = 'arrived' and etag = given.value ->> 'etag'
      and (batch_id is null or given.value ->> 'sha256' = coalesce((
        select m.sha256
        from batches b
        join manifest_lines m on m.batch_id = b.id and m.generation = b.manifest and m.path = uploads.filename
        where b.id = uploads.batch_id), given.value ->> 'sha256'))
    returning uploads.id";

pub(super) const FIND: &str = "select * from uploads where id in (select unhex(atom) from json_each($1))";

/// What is asked of uploads by many at once.
#[derive(Clone)]
pub(crate) struct Gathered {
    pub(super) find: Gather<Uuid, Option<Upload>>,
    pub(super) issue: Gather<Issue, bool>,
    pub(super) arrive: Gather<Arrive, bool>,
    pub(super) verify: Gather<Verify, bool>,
    pub(super) store: Gather<Store, Stored>,
    pub(super) insert: Gather<Birth, Born>,
    pub(super) admit: Gather<Object, Told>,
}

impl Gathered {
    pub(super) fn start(engine: &Engine) -> Self {
        let (finding, storing, inserting) = (engine.clone(), engine.clone(), engine.clone());
        let (admitting, verifying) = (engine.clone(), engine.clone());
        Self {
            find: Gather::new(move |ids| find(finding.clone(), ids)),
            issue: mover(engine, ISSUE, |issue: &Issue| &issue.id),
            arrive: mover(engine, ARRIVE, |arrive: &Arrive| &arrive.id),
            verify: Gather::new(move |verifies| verify_all(verifying.clone(), verifies)),
            store: Gather::new(move |stores| store_all(storing.clone(), stores)),
            insert: Gather::new(move |births| insert_all(inserting.clone(), births)),
            admit: Gather::new(move |objects| admit_all(admitting.clone(), objects)),
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

fn mover<M>(engine: &Engine, query: &'static str, id: fn(&M) -> &String) -> Gather<M, bool>
where
    M: Clone + Serialize + Send + Sync + 'static,
{
    let engine = engine.clone();
    Gather::new(move |moves: Vec<M>| {
        let engine = engine.clone();
        let (ids, list) = in_order(moves, id);
        async move {
            let moved: Vec<Uuid> = engine
                .write(Unit::Statement, move |mut tx| {
                    Box::pin(
                        async move { Ok(sql!(tx.on(), c => sqlx::query_scalar(query).bind(list).fetch_all(c).await)?) },
                    )
                })
                .await?;
            Ok(answers(&ids, moved))
        }
    })
}

/// The ids as they were asked for, and the list in the order of the ids.
fn in_order<M: Serialize>(mut moves: Vec<M>, id: fn(&M) -> &String) -> (Vec<String>, String) {
    let ids: Vec<String> = moves.iter().map(|one| id(one).clone()).collect();
    moves.sort_by(|one, other| id(one).cmp(id(other)));
    (ids, json!(moves).to_string())
}

/// Of two who make the same move at once, the first has made it.
fn answers(ids: &[String], moved: Vec<Uuid>) -> Vec<bool> {
    let mut moved: HashSet<String> = moved.into_iter().map(listed).collect();
    ids.iter().map(|id| moved.remove(id)).collect()
}

async fn verify_all(engine: Engine, verifies: Vec<Verify>) -> Result<Vec<bool>, LedgerError> {
    let batches: BTreeSet<Uuid> = verifies.iter().filter_map(|verify| verify.batch).collect();
    let (ids, list) = in_order(verifies, |verify| &verify.id);
    let locks = matches!(engine, Engine::Postgres(_)) && !batches.is_empty();
    let unit = if locks { Unit::Statements } else { Unit::Statement };
    let moved: Vec<Uuid> = engine
        .write(unit, move |mut tx| {
            Box::pin(async move {
                if locks {
                    keep_manifests(&mut tx, batches).await?;
                }
                Ok(sql!(tx.on(), c => sqlx::query_scalar(VERIFY).bind(list).fetch_all(c).await)?)
            })
        })
        .await?;
    Ok(answers(&ids, moved))
}

/// The batches' manifests stay as they are to the end of the transaction. `VERIFY` alone would read one that another is just
/// being put in place of, where whoever puts it there does not see yet what was verified.
async fn keep_manifests(tx: &mut Tx<'_>, batches: BTreeSet<Uuid>) -> Result<(), LedgerError> {
    // PostgreSQL's alone: SQLite has one writer. It stands in the way of nothing but `manifests::hold`.
    let query = "select 1 from batches where id in (select unhex(atom) from json_each($1)) order by id for key share";
    let list = json!(batches.into_iter().map(listed).collect::<Vec<_>>()).to_string();
    sql!(tx.on(), c => sqlx::query(query).bind(list).execute(c).await.map(drop))?;
    Ok(())
}

/// The rows in the order of the ids. The same row may have been asked for twice.
async fn find(engine: Engine, ids: Vec<Uuid>) -> Result<Vec<Option<Upload>>, LedgerError> {
    let list = json!(ids.iter().copied().map(listed).collect::<Vec<_>>()).to_string();
    let rows: Vec<Upload> = sql!(engine.reader(), c => sqlx::query_as(FIND).bind(list).fetch_all(c).await)?;
    Ok(ids.iter().map(|id| rows.iter().find(|row| row.id == *id).cloned()).collect())
}
