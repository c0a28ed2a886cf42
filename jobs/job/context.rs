//! What a job works with.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Job, Lane, NewJob};
use crate::ledger::{Db, LedgerError, batches, uploads};
use crate::model::{Batch, Timestamp, TraceParent, Upload};
use crate::outside::{Bucket, Clock, Queue, QueueError};

/// What every job gets to work with.
#[derive(Clone)]
pub struct Context {
    /// The ledger.
    pub db: Db,
    /// Where the objects are.
    pub bucket: Arc<dyn Bucket>,
    /// Where the next job goes.
    pub queue: Arc<dyn Queue>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// How long and how much.
    pub limits: Limits,
}

impl Context {
    /// Now, by the context's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The upload that a run is about, whose lines say from here on which trace it belongs to.
    pub(crate) async fn upload(&self, id: Uuid) -> Result<Option<Upload>, LedgerError> {
        let upload = uploads::find(&self.db, id).await?;
        show_trace(upload.as_ref().and_then(|upload| upload.traceparent));
        Ok(upload)
    }

    /// As [`Context::upload`], of a batch.
    pub(crate) async fn batch(&self, id: Uuid) -> Result<Option<Batch>, LedgerError> {
        let batch = batches::find(&self.db, id).await?;
        show_trace(batch.as_ref().and_then(|batch| batch.traceparent));
        Ok(batch)
    }

    /// Puts one job on, due at once.
    pub async fn push<J: Job>(&self, job: &J) -> Result<(), QueueError> {
        self.queue.push(vec![NewJob::of(job, Lane::Interactive, self.now())]).await
    }

    /// Puts the upload's next job on, due at once: behind what a person waits for, if it is one of a batch.
    pub async fn push_next<J: Job>(&self, upload: &Upload, job: &J) -> Result<(), QueueError> {
        let lane = if upload.batch_id.is_some() { Lane::Bulk } else { Lane::Interactive };
        self.queue.push(vec![NewJob::of(job, lane, self.now())]).await
    }
}

/// For runs that load their row by other ways.
pub(crate) fn show_trace(traceparent: Option<TraceParent>) {
    if let Some(parent) = traceparent {
        parent.show();
    }
}

/// Lengths and amounts that an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The shortest life of a policy; large uploads get more.
    pub policy_life: Duration,
    /// The largest object in bytes.
    pub max_size: i64,
    /// How long after its policy an upload may still be on its way before it expires.
    pub expiry_grace: Duration,
    /// How long a row may stand before its job is put on again the first time.
    pub resume_after: Duration,
    /// How old an object that nobody needs must be before the sweep takes notice of it.
    pub sweep_min_age: Duration,
    /// How long a blob's object without a row is kept after the sweep has first seen it.
    pub sweep_restore_window: Duration,
    /// Whether the scheduled sweep removes such objects after that, or only reports them.
    pub sweep_applies: bool,
    /// How long after its policy an upload without a notice is looked for in the bucket the first time.
    pub first_poll: Duration,
    /// How long bytes that no file refers to are kept.
    pub blob_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            policy_life: Duration::from_secs(900),
            max_size: crate::model::upload::MAX_SIZE,
            expiry_grace: Duration::from_secs(3600),
            resume_after: Duration::from_secs(60),
            sweep_min_age: Duration::from_secs(24 * 3600),
            sweep_restore_window: Duration::from_secs(7 * 24 * 3600),
            sweep_applies: false,
            first_poll: Duration::from_secs(60),
            blob_grace: Duration::from_secs(24 * 3600),
        }
    }
}
