//! issued → arrived: a notice, a callback or the poller says that the object is there, and a HEAD confirms it.
//!
//! Before: the row exists; `requested` and `expired` will do too, since a notice may be faster or later than we are. A second
//! run, as after a doubled notice, only sees to it that the next job is on. Bytes that come for an upload that has ended are
//! removed: a policy can be replayed until it expires. It ends when the row knows the version that arrived.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::ledger::uploads;
use crate::model::upload::ArrivedVia;
use crate::model::{Status, Upload};
use crate::verify_upload::VerifyUpload;

/// Looks whether one upload's object is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordArrival {
    /// The upload.
    pub upload: Uuid,
    /// Who says so.
    pub via: ArrivedVia,
}

impl Job for RecordArrival {
    const KIND: &'static str = "record_arrival";
    const POOL: Pool = Pool::Arrive;

    fn subject(&self) -> Uuid {
        self.upload
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let Some(upload) = uploads::find(&ctx.db, self.upload).await? else {
            return Ok(End::Moot);
        };
        match upload.status {
            Status::Requested | Status::Issued | Status::Expired => arrive(ctx, &upload, self.via).await,
            Status::Arrived => {
                ctx.push(&VerifyUpload { upload: upload.id }).await?;
                Ok(End::Moot)
            }
            Status::Verified => Ok(End::Moot),
            Status::Done | Status::Rejected | Status::Cancelled => {
                ctx.bucket.delete(&[upload.object_key]).await?;
                Ok(End::Moot)
            }
        }
    }
}

async fn arrive(ctx: &Context, upload: &Upload, via: ArrivedVia) -> Result<End, JobError> {
    let Some(head) = ctx.bucket.head(&upload.object_key).await? else {
        return Ok(End::Moot);
    };
    let now = ctx.now();
    if !uploads::arrive(&ctx.db, upload.id, &head, via, (now, now + ctx.limits.resume_after)).await? {
        return Ok(End::Moot);
    }
    let lag: Duration = now.since(head.modified_at);
    metrics::histogram!("longshore_completion_lag_seconds", "source" => via.as_str()).record(lag.as_secs_f64());
    ctx.push(&VerifyUpload { upload: upload.id }).await?;
    Ok(End::Done)
}
