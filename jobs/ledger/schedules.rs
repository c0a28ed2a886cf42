//! The last tick of each schedule: whoever moves it forward is the one who pushes the job, so a fleet ticks once.

use super::{Db, LedgerError};
use crate::model::Timestamp;

/// When the schedule last ticked; `None` when it never has.
pub async fn last_tick(db: &Db, name: &str) -> Result<Option<Timestamp>, LedgerError> {
    let query = "select last_tick from schedules where name = $1";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(name).fetch_optional(c).await)?)
}

/// When each schedule last ticked, of those that ever have.
pub async fn last_ticks(db: &Db) -> Result<Vec<(String, Timestamp)>, LedgerError> {
    let query = "select name, last_tick from schedules order by name";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).fetch_all(c).await)?)
}

/// Moves the last tick from `seen` to `tick`. `false` when somebody else has moved it since.
pub async fn claim_tick(
    db: &Db,
    name: &'static str,
    seen: Option<Timestamp>,
    tick: Timestamp,
) -> Result<bool, LedgerError> {
    let query = match seen {
        Some(_) => "update schedules set last_tick = $2 where name = $1 and last_tick = $3",
        None => "insert into schedules (name, last_tick) select $1, $2 where $3 is null on conflict do nothing",
    };
    db.write_one(move |mut tx| {
        Box::pin(async move {
            let done = sql!(tx.on(), c => sqlx::query(query)
                .bind(name)
                .bind(tick)
                .bind(seen)
                .execute(c)
                .await?
                .rows_affected());
            Ok(done == 1)
        })
    })
    .await
}
