//! The last tick of each schedule: whoever moves it forward is the one who pushes the job, so a fleet ticks once.

use super::{Db, LedgerError};
use crate::model::Timestamp;

/// When the schedule last ticked; `None` when it never has.
pub async fn last_tick(db: &Db, name: &str) -> Result<Option<Timestamp>, LedgerError> {
    let query = "select last_tick from schedules where name = $1";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(name).fetch_optional(c).await)?)
}

/// Moves the last tick forward to `tick`. `false` when somebody else has moved it that far.
pub async fn claim_tick(db: &Db, name: &'static str, tick: Timestamp) -> Result<bool, LedgerError> {
    db.write_one(move |mut tx| {
        Box::pin(async move {
            let query = "insert into schedules (name, last_tick)
                values ($1, $2)
                on conflict (name) do update set last_tick = excluded.last_tick
                where schedules.last_tick < excluded.last_tick";
            let done = sql!(tx.on(), c => sqlx::query(query).bind(name).bind(tick).execute(c).await?.rows_affected());
            Ok(done == 1)
        })
    })
    .await
}
