//! Removes the bytes that no file has referred to for a while.
//!
//! Before: the blob's last file was deleted, and the grace has passed. The row moves to `deleting` by compare-and-set, so that
//! nobody can refer to the blob again; after that commit its object goes, and then the row. A second run finds the row in
//! `deleting` and goes on from there, whatever the first came to. Who brings the same bytes meanwhile waits until the row is gone.
//! It ends when every blob that is due was taken once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::ledger::blobs::{self, Unreferenced};
use crate::model::Timestamp;

/// How many go at once: one request to the bucket.
const PAGE: i64 = 500;

/// Collects what is due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CollectBlobs {}

impl Job for CollectBlobs {
    const KIND: &'static str = "collect_blobs";
    const POOL: Pool = Pool::Upkeep;
    /// A million files that were deleted together come due at once.
    const TIME_LIMIT: Duration = Duration::from_secs(1800);

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let before = ctx.now() - ctx.limits.blob_grace;
        let (mut after, mut removed, mut failed) = (None, 0, None);
        loop {
            let due = blobs::due_to_collect(&ctx.db, before, after, PAGE).await?;
            let Some(&last) = due.last() else {
                break;
            };
            match collect_page(ctx, before, &due).await {
                Ok(gone) => removed += gone,
                // An object that cannot be removed keeps no others from going. A second one looks like an outage, in which
                // no more blobs should get as far as `deleting`.
                Err(error) if failed.is_some() => return Err(error),
                Err(error) => failed = Some(error),
            }
            after = Some(last);
        }
        if removed > 0 {
            tracing::info!(removed, "blobs that no file referred to were removed");
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(if removed == 0 { End::Moot } else { End::Done }),
        }
    }
}

async fn collect_page(ctx: &Context, before: Timestamp, due: &[Unreferenced]) -> Result<usize, JobError> {
    let ids: Vec<Uuid> = due.iter().map(|(_, id)| *id).collect();
    let leaving = blobs::begin_removal(&ctx.db, &ids, before).await?;
    if leaving.is_empty() {
        return Ok(0);
    }
    let keys: Vec<String> = leaving.iter().map(|blob| blob.object_key.clone()).collect();
    ctx.bucket.delete(&keys).await?;
    let sizes = blobs::remove(&ctx.db, &leaving).await?;
    metrics::counter!("longshore_blobs_collected_total").increment(sizes.len() as u64);
    let bytes = sizes.iter().map(|size| size.unsigned_abs()).sum();
    metrics::counter!("longshore_blob_bytes_collected_total").increment(bytes);
    Ok(sizes.len())
}
