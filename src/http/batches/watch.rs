//! Waits for a batch to be over.

use std::time::Duration;

use longshore_jobs::ledger::{Db, LedgerError, batches};
use longshore_jobs::model::Batch;
use longshore_jobs::model::batch::Progress;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How often the counts are read again although no end was announced: another process may have moved an upload.
const READ_AGAIN: Duration = Duration::from_millis(250);
/// The least time between two reads, however fast uploads come to their ends.
const REST: Duration = Duration::from_millis(50);

/// The batch once each of its tasks has ended, or as it is after `longest`.
pub async fn until_over(db: &Db, mut batch: Batch, longest: Duration) -> Result<Batch, LedgerError> {
    let deadline = Instant::now() + longest;
    let mut ends = db.moves().ends();
    while Instant::now() < deadline {
        ends.mark_unchanged();
        let progress = Progress::of(&batch, &batches::counts(db, batch.id).await?);
        if progress.is_over() {
            break;
        }
        let read = Instant::now();
        // Whether an end was announced or it is only time to look again, the counts say how it stands.
        drop(timeout_at(deadline.min(read + READ_AGAIN), ends.changed()).await);
        sleep_until(deadline.min(read + REST)).await;
        batch = batches::find(db, batch.id).await?.unwrap_or(batch);
    }
    Ok(batch)
}
