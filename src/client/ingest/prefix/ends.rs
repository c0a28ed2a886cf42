//! The ends of a prefix batch's files, waited for as a whole.
//!
//! That a batch is over says that what it knows of has ended. A file whose notice is on its way is none of that yet, so every name
//! is waited for until a listing has shown it, or the batch is closed and will not.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::Posted;
use crate::client::ingest::Run;
use crate::client::ingest::content::Ready;
use crate::client::ingest::journey::{BETWEEN, NOTICE, WAIT, settling};
use crate::client::ingest::outcome::Outcome;
use crate::client::transport::ApiError;

/// The longest time between two listings of a batch that is over, which a server does not wait for any more.
const RARELY: Duration = Duration::from_secs(5);

/// Waits for the batch as a whole for as long as it moves, and tells the ends. Returns what it was closed to before it saw it.
pub(super) async fn await_ends(run: &Run, id: Uuid, mut posted: Posted) -> Result<Vec<Ready>, ApiError> {
    let patience = settling(posted.values().map(|landed| landed.ready.size).sum());
    let (mut wait, mut pause) = (NOTICE, BETWEEN);
    let (mut deadline, mut left) = (Instant::now() + patience, None);
    while !posted.is_empty() {
        let asked = Instant::now();
        let batch = run.api.batch(id, Some(wait)).await?;
        let stands = left.replace((batch.pending, batch.running)) == Some((batch.pending, batch.running));
        if batch.is_over() || stands {
            let open = tell_ends(run, id, &mut posted).await?;
            if open == 0 && batch.closed_at.is_some() {
                return Ok(posted.into_values().map(|landed| landed.ready).collect());
            }
        }
        if posted.is_empty() || asked >= deadline {
            break;
        }
        if !stands {
            deadline = asked + patience;
        }
        if wait == NOTICE {
            run.api.batch_callback(id).await?;
            wait = WAIT;
        }
        tokio::time::sleep(pause.saturating_sub(asked.elapsed())).await;
        pause = if batch.is_over() { RARELY.min(pause * 2) } else { BETWEEN };
    }
    for landed in posted.into_values() {
        let reason = "the server has not seen to it in a long while: run again to go on".to_owned();
        run.tell(Outcome::short(landed, None, reason)).await;
    }
    Ok(Vec::new())
}

/// Returns how many of the others the batch knows of.
async fn tell_ends(run: &Run, batch: Uuid, posted: &mut Posted) -> Result<usize, ApiError> {
    let (mut open, mut after) = (0, None);
    loop {
        let page = run.api.batch_uploads(batch, after.as_deref()).await?;
        for upload in page.uploads {
            if !upload.status.is_final() && !upload.attention {
                open += usize::from(posted.contains_key(&upload.filename));
            } else if let Some(landed) = posted.remove(&upload.filename) {
                run.tell_end(landed, upload).await;
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(open);
        }
    }
}
