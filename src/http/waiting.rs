//! Waits for an upload to get where an answer needs it.

use std::pin::pin;
use std::time::Duration;

use longshore_jobs::ledger::{Db, LedgerError, uploads};
use longshore_jobs::model::Upload;
use tokio::time::Instant;
use uuid::Uuid;

/// How often the row is read again although nothing was announced: another process may have moved it.
const READ_AGAIN: Duration = Duration::from_millis(250);

/// The row as soon as it is `ready`, or as it is after `longest`; `None` when there is none of that id.
pub async fn until(
    db: &Db,
    upload: Uuid,
    longest: Duration,
    ready: impl Fn(&Upload) -> bool + Send + Sync,
) -> Result<Option<Upload>, LedgerError> {
    let waiter = db.moves().watch(upload);
    let deadline = Instant::now() + longest;
    loop {
        let mut moved = pin!(waiter.moved());
        moved.as_mut().enable();
        let Some(row) = uploads::find(db, upload).await? else {
            return Ok(None);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || ready(&row) {
            return Ok(Some(row));
        }
        // Whether it was announced or is only time to look again, the row says how it stands.
        drop(tokio::time::timeout(left.min(READ_AGAIN), moved).await);
    }
}
