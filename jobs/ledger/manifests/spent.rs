//! Manifests whose lines nobody will need any more: one that never came into force, as its sender went away, or that of a batch
//! that has long been closed and none of whose uploads can be verified any more.
//!
//! The table is walked from one manifest to the next by its key; none of them is read.

use std::time::Duration;

use uuid::Uuid;

use super::super::{Db, LedgerError, batches};
use super::AT_ONCE;
use crate::model::batch::Count;
use crate::model::{Batch, Status, Timestamp};

/// How long a manifest may be on its way in.
pub const UNFINISHED: Duration = Duration::from_secs(24 * 3600);
/// How long the lines of a closed batch are kept.
pub const CLOSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Lines that belong together: their batch and generation.
pub type Place = (Uuid, i64);

/// The place before the first one.
pub const BEFORE_ALL: Place = (Uuid::nil(), i64::MIN);

/// The place behind that one; `None` behind the last.
pub async fn next(db: &Db, (batch, generation): Place) -> Result<Option<Place>, LedgerError> {
    let query = "select batch_id, generation
        from manifest_lines
        where (batch_id, generation) > ($1, $2)
        order by batch_id, generation
        limit 1";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(batch).bind(generation).fetch_optional(c).await)?)
}

/// Removes the lines at a place if nobody will need them any more, some thousands at a time. Whether it did.
pub async fn forget(db: &Db, (batch, generation): Place, now: Timestamp) -> Result<bool, LedgerError> {
    let holds = batches::find(db, batch).await?.filter(|row| row.manifest == Some(generation));
    let is_spent = match &holds {
        Some(row) => is_over(db, row, now).await?,
        None => super::began_at(generation) + UNFINISHED <= now,
    };
    match holds {
        _ if !is_spent => {}
        Some(_) => remove(db, (batch, generation)).await?,
        None => super::remove(db, batch, Some(generation)).await?,
    }
    Ok(is_spent)
}

/// Whether the batch has long been closed, and none of its uploads will be verified any more.
async fn is_over(db: &Db, batch: &Batch, now: Timestamp) -> Result<bool, LedgerError> {
    if batch.closed_at.is_none_or(|closed| now < closed + CLOSED) {
        return Ok(false);
    }
    Ok(!batches::counts(db, batch.id).await?.iter().any(may_be_verified))
}

/// An expired upload may come back.
const fn may_be_verified(count: &Count) -> bool {
    count.uploads > 0 && !matches!(count.status, Status::Done | Status::Rejected | Status::Cancelled)
}

/// Whether or not they hold.
async fn remove(db: &Db, (batch, generation): Place) -> Result<(), LedgerError> {
    let query = "delete from manifest_lines
        where (batch_id, generation, path) in (
            select batch_id, generation, path
            from manifest_lines
            where batch_id = $1 and generation = $2
            limit $3)";
    loop {
        let removed = db.write_one(move |mut tx| {
            Box::pin(async move {
                Ok(sql!(tx.on(), c => sqlx::query(query)
                    .bind(batch)
                    .bind(generation)
                    .bind(AT_ONCE)
                    .execute(c)
                    .await?
                    .rows_affected()))
            })
        });
        if removed.await? < AT_ONCE.unsigned_abs() {
            return Ok(());
        }
    }
}
