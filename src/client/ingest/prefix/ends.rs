//! The ends of a prefix batch's files, waited for as a whole.

use std::time::Instant;

use uuid::Uuid;

use super::Posted;
use crate::client::ingest::Run;
use crate::client::ingest::journey::{BETWEEN, NOTICE, WAIT, settling};
use crate::client::ingest::outcome::Outcome;
use crate::client::transport::ApiError;

/// Waits for the batch as a whole for as long as it moves, and tells the ends.
pub(super) async fn await_ends(run: &Run, id: Uuid, mut posted: Posted) -> Result<(), ApiError> {
    let patience = settling(posted.values().map(|landed| landed.ready.size).sum());
    let (mut wait, mut deadline, mut left) = (NOTICE, Instant::now() + patience, None);
    while !posted.is_empty() {
        let asked = Instant::now();
        let batch = run.api.batch(id, Some(wait)).await?;
        let stands = left.replace((batch.pending, batch.running)) == Some((batch.pending, batch.running));
        if batch.is_over() || stands {
            tell_ends(run, id, &mut posted).await?;
        }
        if batch.is_over() || asked >= deadline {
            break;
        }
        if !stands {
            deadline = asked + patience;
        }
        if wait == NOTICE {
            run.api.batch_callback(id).await?;
            wait = WAIT;
        }
        tokio::time::sleep(BETWEEN.saturating_sub(asked.elapsed())).await;
    }
    for landed in posted.into_values() {
        let reason = "the server has not seen to it in a long while: run again to go on".to_owned();
        run.tell(Outcome::short(landed, None, reason)).await;
    }
    Ok(())
}

async fn tell_ends(run: &Run, batch: Uuid, posted: &mut Posted) -> Result<(), ApiError> {
    let mut after = None;
    loop {
        let page = run.api.batch_uploads(batch, after.as_deref()).await?;
        for upload in page.uploads {
            if !upload.status.is_final() && !upload.attention {
                continue;
            }
            if let Some(landed) = posted.remove(&upload.filename) {
                run.tell(Outcome::of(landed, upload, run.is_pinned())).await;
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}
