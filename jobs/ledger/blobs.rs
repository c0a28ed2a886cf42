//! Blobs: the bytes that an org has, one row per content.

use serde_json::json;
use uuid::Uuid;

use super::{Db, LedgerError};
use crate::model::Digest;
use crate::model::file::Blob;

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
