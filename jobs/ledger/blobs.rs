//! Blobs: the bytes that an org has, one row per content.

use serde_json::json;
use uuid::Uuid;

use super::gather::past_clashes;
use super::steps::listed;
use super::sweeps::Span;
use super::{Db, LedgerError, keepable};
use crate::model::file::{Blob, BlobState};
use crate::model::{Digest, Timestamp};

/// The org's blob with that digest, live or leaving; `None` when it has none.
pub async fn find(db: &Db, org: Uuid, sha256: Digest) -> Result<Option<Blob>, LedgerError> {
    let query = "select id, org_id, sha256, size, object_key, state, refs from blobs where org_id = $1 and sha256 = $2";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(org).bind(sha256).fetch_optional(c).await)?)
}

/// Which of these digests the org has live blobs with.
pub async fn live(db: &Db, org: Uuid, digests: &[Digest]) -> Result<Vec<Blob>, LedgerError> {
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let query = "select id, org_id, sha256, size, object_key, state, refs
        from blobs
        where org_id = $1 and sha256 in (select atom from json_each($2)) and state = 'live'";
    let list = json!(digests).to_string();
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(org).bind(list).fetch_all(c).await)?)
}

/// The blob of that id; `None` when there is none.
pub async fn by_id(db: &Db, id: Uuid) -> Result<Option<Blob>, LedgerError> {
    let query = "select id, org_id, sha256, size, object_key, state, refs from blobs where id = $1";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(id).fetch_optional(c).await)?)
}

/// What the sweep asks of a blob.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Named {
    /// Where its bytes are to be.
    pub object_key: String,
    /// Bytes.
    pub size: i64,
    /// Live or on its way out.
    pub state: BlobState,
    /// When its row was written.
    pub created_at: Timestamp,
}

/// The blobs whose keys lie in the span, in the order of their bytes.
pub async fn within(db: &Db, span: &Span, limit: i64) -> Result<Vec<Named>, LedgerError> {
    let query = "select object_key, size, state, created_at
        from blobs
        where object_key > $1 and object_key <= $2
        order by object_key
        limit $3";
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(keepable(&span.after))
        .bind(keepable(&span.to))
        .bind(limit)
        .fetch_all(c)
        .await)?)
}

/// The blobs that name these objects.
pub async fn naming(db: &Db, object_keys: &[String]) -> Result<Vec<Named>, LedgerError> {
    if object_keys.is_empty() {
        return Ok(Vec::new());
    }
    let query = "select object_key, size, state, created_at
        from blobs
        where object_key in (select atom from json_each($1))";
    let list = json!(object_keys.iter().map(|key| keepable(key)).collect::<Vec<_>>()).to_string();
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(list).fetch_all(c).await)?)
}

/// The entries whose bytes are to be at that key, at most so many, and how many there are.
pub async fn files_at(db: &Db, object_key: &str, limit: i64) -> Result<(Vec<Uuid>, i64), LedgerError> {
    let query = "select id, refs from blobs where object_key = $1";
    let blob: Option<(Uuid, i64)> =
        sql!(db.reader(), c => sqlx::query_as(query).bind(object_key).fetch_optional(c).await)?;
    let Some((blob, refs)) = blob else { return Ok((Vec::new(), 0)) };
    let query = "select id from files where blob_id = $1 order by id limit $2";
    let ids = sql!(db.reader(), c => sqlx::query_scalar(query).bind(blob).bind(limit).fetch_all(c).await)?;
    Ok((ids, refs))
}

/// The blob's object was gone and has been put back elsewhere. `false` when the row names another object by now.
pub async fn relocate(db: &Db, blob: &Blob, object_key: String) -> Result<bool, LedgerError> {
    let (id, old) = (blob.id, blob.object_key.clone());
    db.write_one(move |mut tx| {
        Box::pin(async move {
            let query = "update blobs set object_key = $3 where id = $1 and object_key = $2 and state = 'live'";
            let done = sql!(tx.on(), c => sqlx::query(query)
                .bind(id)
                .bind(old)
                .bind(object_key)
                .execute(c)
                .await?
                .rows_affected());
            Ok(done == 1)
        })
    })
    .await
}

/// A place in the list of [`due_to_collect`]: since when nothing refers to it, and which.
pub type Unreferenced = (Timestamp, Uuid);

/// Blobs that nothing has referred to since `before`, longest first, behind the place `after`; those whose removal was begun
/// are among them.
pub async fn due_to_collect(
    db: &Db,
    before: Timestamp,
    after: Option<Unreferenced>,
    limit: i64,
) -> Result<Vec<Unreferenced>, LedgerError> {
    let query = "select unreferenced_at, id
        from blobs
        where unreferenced_at <= $1 and refs = 0 and (unreferenced_at, id) > ($2, $3)
        order by unreferenced_at, id
        limit $4";
    let (since, id) = after.unwrap_or((Timestamp::from_millis(i64::MIN), Uuid::nil()));
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(before)
        .bind(since)
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await)?)
}

/// live → deleting, for those to which still nothing refers: from now on none of them can be joined. Returns them, and with
/// them those that were on their way out already.
pub async fn begin_removal(db: &Db, ids: &[Uuid], before: Timestamp) -> Result<Vec<Blob>, LedgerError> {
    let query = "update blobs
        set state = 'deleting'
        where id in (select unhex(atom) from json_each($1)) and refs = 0 and unreferenced_at <= $2
        returning id, org_id, sha256, size, object_key, state, refs";
    let list = json!(ids.iter().copied().map(listed).collect::<Vec<_>>()).to_string();
    past_clashes(|| {
        let list = list.clone();
        db.write_one(move |mut tx| {
            Box::pin(async move {
                Ok(sql!(tx.on(), c => sqlx::query_as(query).bind(list).bind(before).fetch_all(c).await)?)
            })
        })
    })
    .await
}

/// The rows of blobs whose objects are gone go too. Returns the sizes of those that were still there.
pub async fn remove(db: &Db, leaving: &[Blob]) -> Result<Vec<i64>, LedgerError> {
    let query = "delete from blobs
        where id in (select unhex(atom) from json_each($1)) and state = 'deleting' and refs = 0
        returning size";
    let list = json!(leaving.iter().map(|blob| listed(blob.id)).collect::<Vec<_>>()).to_string();
    past_clashes(|| {
        let list = list.clone();
        db.write_one(move |mut tx| {
            Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query_scalar(query).bind(list).fetch_all(c).await)?) })
        })
    })
    .await
}
