//! lines of a batch → issued or done: makes uploads of the next few hundred, with their policies.
//!
//! Before: the batch has lines that are no uploads yet. A line whose bytes the org has is done at once; one whose `ref` stands
//! for an earlier upload makes no new one. A second run, or one at the same time, finds the lines gone and is moot. It ends
//! when no line is left: as long as there are, it puts itself on again, in the bulk lane and behind whoever waits there.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fold_reports::FoldReports;
use crate::issue_policy::terms;
use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::births::{Birth, Born};
use crate::ledger::lines::{self, Chunk};
use crate::ledger::{batches, blobs};
use crate::model::file::Blob;
use crate::model::line::ids_behind;
use crate::model::{Batch, Digest, Line, Status, Upload};

/// How many lines become uploads in one run: as many as keep the ledger's one writer for some milliseconds, since a person's
/// upload may have to wait for it a few times.
pub const CHUNK: usize = 200;

/// How many blobs are looked at in the bucket at once.
const HEADS: usize = 16;

/// Makes uploads of a batch's lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssueBatch {
    /// The batch.
    pub batch: Uuid,
}

impl Job for IssueBatch {
    const KIND: &'static str = "issue_batch";
    const POOL: Pool = Pool::Issue;

    fn subject(&self) -> Uuid {
        self.batch
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let (batch, chunk) = (batches::find(&ctx.db, self.batch).await?, lines::first(&ctx.db, self.batch).await?);
        let (Some(batch), Some(chunk)) = (batch, chunk) else {
            return Ok(End::Moot);
        };
        let position = chunk.position;
        let births = births(ctx, &batch, chunk).await?;
        let (now, sizes) = (ctx.now(), births.iter().map(|birth| birth.known).collect::<Vec<_>>());
        let times = (now, now + ctx.limits.resume_after);
        let Some(expanded) = Box::pin(lines::expand(&ctx.db, &batch, (position, births), times)).await? else {
            return Ok(End::Moot);
        };
        let mut jobs = Vec::new();
        if expanded.more {
            jobs.push(NewJob::of(&self, Lane::Bulk, now));
        }
        if expanded.born.contains(&Born::Done) {
            count_saved(expanded.born.iter().zip(sizes));
            let fold = FoldReports { org: Some(batch.org_id) };
            jobs.push(NewJob::of(&fold, Lane::Interactive, now + FoldReports::DELAY));
        }
        if !jobs.is_empty() {
            ctx.queue.push(jobs).await?;
        }
        Ok(End::Done)
    }
}

/// The chunk's uploads as they are to be: each with a policy, and with the size of the blob that makes it needless.
async fn births(ctx: &Context, batch: &Batch, chunk: Chunk) -> Result<Vec<Birth>, JobError> {
    let parsed: Vec<Line> = serde_json::from_str(&chunk.lines).map_err(|error| JobError::GiveUp(error.into()))?;
    let known = known(ctx, batch, &parsed).await?;
    let ids = ids_behind(lines::last_upload(&ctx.db, batch.id).await?, parsed.len());
    let mut births = Vec::with_capacity(parsed.len());
    for (line, id) in parsed.into_iter().zip(ids) {
        births.push(birth(ctx, line.upload(id, batch, ctx.now()), &known).await?);
    }
    Ok(births)
}

async fn birth(ctx: &Context, upload: Upload, known: &HashMap<Digest, i64>) -> Result<Birth, JobError> {
    let policy = ctx.bucket.sign(terms(ctx, &upload)).await?;
    let size = upload.sha256.and_then(|sha256| known.get(&sha256).copied());
    // The door has compared the sizes. Where the blob came later, the bucket refuses what does not fit.
    let known = size.filter(|size| upload.size.is_none_or(|declared| declared == *size));
    let text = serde_json::to_string(&policy).expect("a policy is a map of strings");
    let upload =
        Upload { status: Status::Issued, policy: Some(text), policy_expires_at: Some(policy.expires_at), ..upload };
    Ok(Birth { upload, known, poll_at: Some(ctx.now() + ctx.limits.first_poll) })
}

/// The sizes of those bytes that the org has and that are whole in the bucket.
async fn known(ctx: &Context, batch: &Batch, lines: &[Line]) -> Result<HashMap<Digest, i64>, JobError> {
    let digests: HashSet<Digest> = lines.iter().filter_map(|line| line.sha256).collect();
    let blobs = blobs::live(&ctx.db, batch.org_id, &digests.into_iter().collect::<Vec<_>>()).await?;
    let looked = stream::iter(blobs).map(|blob| is_whole(ctx, blob)).buffer_unordered(HEADS);
    let whole: Vec<Option<Blob>> = looked.try_collect().await?;
    Ok(whole.into_iter().flatten().map(|blob| (blob.sha256, blob.size)).collect())
}

async fn is_whole(ctx: &Context, blob: Blob) -> Result<Option<Blob>, JobError> {
    let head = ctx.bucket.head(&blob.object_key).await?;
    Ok(head.is_some_and(|head| head.size == blob.size).then_some(blob))
}

fn count_saved<'b>(born: impl Iterator<Item = (&'b Born, Option<i64>)>) {
    let saved: i64 = born.filter(|(born, _)| **born == Born::Done).filter_map(|(_, size)| size).sum();
    metrics::counter!("longshore_dedupe_bytes_saved_total").increment(u64::try_from(saved).unwrap_or(0));
}
