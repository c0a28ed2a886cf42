//! Waits for a batch to be over.

use std::time::Duration;

use longshore_jobs::ledger::{Db, LedgerError, batches};
use longshore_jobs::model::Batch;
use longshore_jobs::model::batch::Progress;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How often the counts are read again although no end was announced: uploads that are moved many at a time announce none.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// The least time between two reads, however fast uploads come to their ends: mostly they are of other batches.
const REST: Duration = Duration::from_millis(250);

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
        pause(&mut ends, deadline).await;
        batch = batches::find(db, batch.id).await?.unwrap_or(batch);
    }
    Ok(batch)
}

/// Until an end has been announced or it is only time to look again: the counts say how it stands.
async fn pause(ends: &mut Receiver<()>, deadline: Instant) {
    let read = Instant::now();
    drop(timeout_at(deadline.min(read + READ_AGAIN), ends.changed()).await);
    sleep_until(deadline.min(read + REST)).await;
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;
    use tokio::time::interval;

    use super::*;

    #[tokio::test]
    async fn ends_of_others_do_not_make_a_waiter_read_all_the_time() {
        let (bell, mut ends) = watch::channel(());
        let ringing = tokio::spawn(async move {
            let mut beats = interval(Duration::from_millis(5));
            loop {
                beats.tick().await;
                bell.send_replace(());
            }
        });

        let (deadline, mut reads) = (Instant::now() + 2 * REST, 0);
        while Instant::now() < deadline {
            ends.mark_unchanged();
            reads += 1;
            pause(&mut ends, deadline).await;
        }

        ringing.abort();
        assert!(reads <= 2, "{reads}");
    }
}
