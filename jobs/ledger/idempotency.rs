//! Idempotency keys: each written in the transaction that makes what it stands for, so that of the same request many times
//! over one makes it. On PostgreSQL the others wait at the key for that one's commit.

use uuid::Uuid;

use super::{Db, LedgerError, Tx};
use crate::model::idempotency::{IdempotencyKey, KEY_LIFE};
use crate::model::{Digest, Timestamp};

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The same request has made this upload or batch.
    Made(Uuid),
    /// It came with another body.
    OtherBody,
}

/// What the key stands for; `None` when it is new or was forgotten.
pub async fn find(db: &Db, key: &IdempotencyKey) -> Result<Option<Standing>, LedgerError> {
    let query = "select made, body_sha256
        from idempotency_keys
        where org_id = $1 and route = $2 and key = $3 and created_at > $4";
    let found: Option<(Uuid, Digest)> = sql!(db.reader(), c => sqlx::query_as(query)
        .bind(key.org_id)
        .bind(key.route)
        .bind(&key.key)
        .bind(key.sent_at - KEY_LIFE)
        .fetch_optional(c)
        .await)?;
    Ok(found.map(|(made, body)| if body == key.body_sha256 { Standing::Made(made) } else { Standing::OtherBody }))
}

/// Writes down what the key stands for, first of all in a transaction that makes it. [`LedgerError::Repeated`] when it
/// stands for something already.
pub(super) async fn claim(tx: &mut Tx<'_>, key: &IdempotencyKey, made: Uuid) -> Result<(), LedgerError> {
    let query = "insert into idempotency_keys (org_id, route, key, body_sha256, made, created_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (org_id, route, key) do update
        set body_sha256 = excluded.body_sha256, made = excluded.made, created_at = excluded.created_at
        where idempotency_keys.created_at <= $7";
    let claimed = sql!(tx.on(), c => sqlx::query(query)
        .bind(key.org_id)
        .bind(key.route)
        .bind(&key.key)
        .bind(key.body_sha256)
        .bind(made)
        .bind(key.sent_at)
        .bind(key.sent_at - KEY_LIFE)
        .execute(c)
        .await?
        .rows_affected());
    if claimed == 0 { Err(LedgerError::Repeated) } else { Ok(()) }
}

/// Writes down that the key stands for what was there already. [`LedgerError::Repeated`] as with anything new.
pub async fn keep(db: &Db, key: IdempotencyKey, stands: Uuid) -> Result<(), LedgerError> {
    db.write_one(move |mut tx| Box::pin(async move { claim(&mut tx, &key, stands).await })).await
}

/// Forgets keys that were written down until `before`, at most so many. Returns how many.
pub async fn forget(db: &Db, before: Timestamp, limit: i64) -> Result<u64, LedgerError> {
    // PostgreSQL, which looks again at a row that was claimed anew meanwhile, looks at the outer conditions alone.
    let query = "delete from idempotency_keys
        where created_at <= $1 and (org_id, route, key) in (
            select org_id, route, key from idempotency_keys where created_at <= $1 order by created_at limit $2)";
    db.write_one(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query(query).bind(before).bind(limit).execute(c).await?.rows_affected()))
        })
    })
    .await
}
