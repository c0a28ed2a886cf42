//! Pause flags of pools: they hold for every process on the ledger, and outlive a queue that forgets.

use super::{Db, LedgerError};
use crate::job::Pool;
use crate::model::Timestamp;

/// Pauses a pool, or lets it go on. `false` when it was so already.
pub async fn set_paused(db: &Db, pool: Pool, paused: bool, now: Timestamp) -> Result<bool, LedgerError> {
    let since = paused.then_some(now);
    db.write_one(move |mut tx| {
        Box::pin(async move {
            let query = "insert into pools (name, paused_at)
                values ($1, $2)
                on conflict (name) do update set paused_at = excluded.paused_at
                where (pools.paused_at is null) <> (excluded.paused_at is null)";
            let done = sql!(tx.on(), c => sqlx::query(query).bind(pool).bind(since).execute(c).await?.rows_affected());
            Ok(done == 1)
        })
    })
    .await
}

/// The pools that are paused, and since when.
pub async fn paused(db: &Db) -> Result<Vec<(Pool, Timestamp)>, LedgerError> {
    let query = "select name, paused_at from pools where paused_at is not null order by name";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).fetch_all(c).await)?)
}
