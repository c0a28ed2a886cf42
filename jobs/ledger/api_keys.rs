//! API keys. The ledger never sees a secret, only its SHA-256.

use uuid::Uuid;

use super::{Db, LedgerError};
use crate::model::Timestamp;
use crate::model::org::ApiKey;

const COLUMNS_BY_KEY: &str =
    "select key, org_id, user_id, name, scopes, secret_hash, created_at, expires_at, revoked_at
    from api_keys
    where key = $1";

/// Adds a key. [`LedgerError::is_taken`] when there is one of that name for the public half.
pub async fn insert(db: &Db, row: ApiKey) -> Result<(), LedgerError> {
    db.write_one(move |mut tx| {
        Box::pin(async move {
            let query = "insert into api_keys
                (key, org_id, user_id, name, scopes, secret_hash, created_at, expires_at, revoked_at)
                values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
            sql!(tx.on(), c => sqlx::query(query)
                .bind(row.key)
                .bind(row.org_id)
                .bind(row.user_id)
                .bind(row.name)
                .bind(row.scopes)
                .bind(row.secret_hash)
                .bind(row.created_at)
                .bind(row.expires_at)
                .bind(row.revoked_at)
                .execute(c).await.map(drop))?;
            Ok(())
        })
    })
    .await
}

/// The key with that public half, whether it stands or not; `None` when there is none.
pub async fn find(db: &Db, key: &str) -> Result<Option<ApiKey>, LedgerError> {
    Ok(sql!(db.reader(), c => sqlx::query_as(COLUMNS_BY_KEY).bind(key).fetch_optional(c).await)?)
}

/// The keys of an org, oldest first.
pub async fn list(db: &Db, org: Uuid) -> Result<Vec<ApiKey>, LedgerError> {
    let query = "select key, org_id, user_id, name, scopes, secret_hash, created_at, expires_at, revoked_at
        from api_keys
        where org_id = $1
        order by created_at, key";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(org).fetch_all(c).await)?)
}

/// Whether a key without an end was ever made, revoked or not.
pub async fn any_lasting(db: &Db) -> Result<bool, LedgerError> {
    let query = "select exists (select 1 from api_keys where expires_at is null)";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).fetch_one(c).await)?)
}

/// Takes a key back for good. `false` when there is no such key or it was taken back before.
pub async fn revoke(db: &Db, key: String, now: Timestamp) -> Result<bool, LedgerError> {
    db.write_one(move |mut tx| {
        Box::pin(async move {
            let query = "update api_keys set revoked_at = $2 where key = $1 and revoked_at is null";
            let done = sql!(tx.on(), c => sqlx::query(query).bind(key).bind(now).execute(c).await?.rows_affected());
            Ok(done == 1)
        })
    })
    .await
}
