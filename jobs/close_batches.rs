//! Closes prefix batches whose policy ended a while ago, and rejects what their manifests have promised and nobody has sent.
//!
//! Before: the policy's end and a grace have passed, since a slow post that began in time may land later. A last listing has the
//! first word: as long as it finds an object without an upload, the batch stays open for the next run. A second run goes on
//! with what is missing. It ends when every batch that is due was looked at once. Whatever lands later is removed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::ledger::{listings, manifests, prefixes};
use crate::list_batch::list_page;
use crate::model::Batch;
use crate::model::upload::ArrivedVia;

/// How many batches are read at once.
const PAGE: i64 = 100;
/// How many missing files are written together.
const TOGETHER: i64 = 500;

/// Closes what is due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CloseBatches {}

impl Job for CloseBatches {
    const KIND: &'static str = "close_batches";
    const POOL: Pool = Pool::Upkeep;
    /// A million promised files that nobody sent take a while.
    const TIME_LIMIT: Duration = Duration::from_secs(1800);

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let before = ctx.now() - ctx.limits.expiry_grace;
        let (mut after, mut failed) = (None, None);
        loop {
            let due = listings::due_to_close(&ctx.db, before, after, PAGE).await?;
            let Some(last) = due.last().and_then(|batch| Some((batch.policy_expires_at?, batch.id))) else {
                break;
            };
            for batch in &due {
                // One whose objects cannot be listed keeps nobody else's open.
                if let Err(error) = close(ctx, batch).await {
                    failed = failed.or(Some(error));
                }
            }
            after = Some(last);
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(if after.is_none() { End::Moot } else { End::Done }),
        }
    }
}

async fn close(ctx: &Context, batch: &Batch) -> Result<(), JobError> {
    if is_waited_for(ctx, batch).await? {
        return Ok(());
    }
    reject_missing(ctx, batch).await?;
    if listings::close(&ctx.db, batch, ctx.now()).await? {
        tracing::info!(batch = %batch.id, "closed");
        manifests::remove(&ctx.db, batch.id, None).await?;
    }
    Ok(())
}

/// Whether an object lies there that is no upload yet.
async fn is_waited_for(ctx: &Context, batch: &Batch) -> Result<bool, JobError> {
    let (mut after, mut found) = (None, 0);
    loop {
        let (new, next) = list_page(ctx, batch, after.as_deref(), ArrivedVia::Poll).await?;
        found += new;
        after = next;
        if after.is_none() {
            return Ok(found > 0);
        }
    }
}

async fn reject_missing(ctx: &Context, batch: &Batch) -> Result<(), JobError> {
    if batch.manifest.is_none() {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        let missing = manifests::missing(&ctx.db, batch, &after, TOGETHER).await?;
        let Some(last) = missing.last() else { return Ok(()) };
        after.clone_from(&last.path);
        prefixes::miss(&ctx.db, batch, missing, ctx.now()).await?;
    }
}
