//! requested → issued: signs the POST policy by which the client may put its bytes.
//!
//! Before: the row is `requested`, or `issued` with its policy cleared because the client asked for a fresh one. A second
//! run finds a policy and is moot. It ends when the row carries a policy, or has moved on because the bytes were faster.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::ledger::uploads;
use crate::model::policy::{Place, PolicyTerms};
use crate::model::upload::policy_life;
use crate::model::{Status, Upload};

/// Signs one upload's policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssuePolicy {
    /// The upload.
    pub upload: Uuid,
}

impl Job for IssuePolicy {
    const KIND: &'static str = "issue_policy";
    const POOL: Pool = Pool::Issue;

    fn subject(&self) -> Uuid {
        self.upload
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let Some(upload) = ctx.upload(self.upload).await?.filter(lacks_policy) else {
            return Ok(End::Moot);
        };
        let policy = ctx.bucket.sign(terms(ctx, &upload)).await?;
        let now = ctx.now();
        let issued = uploads::issue(&ctx.db, upload.id, policy, now + ctx.limits.first_poll, now).await?;
        Ok(if issued { End::Done } else { End::Moot })
    }
}

fn lacks_policy(upload: &Upload) -> bool {
    match upload.status {
        Status::Requested => true,
        Status::Issued => upload.policy.is_none(),
        _ => false,
    }
}

/// What the client may put: exactly what it has declared, until its time is over.
pub(crate) fn terms(ctx: &Context, upload: &Upload) -> PolicyTerms {
    PolicyTerms {
        place: Place::Key(upload.object_key.clone(), upload.id),
        min_size: upload.size.unwrap_or(0),
        max_size: upload.size.unwrap_or(ctx.limits.max_size),
        content_type: upload.content_type.clone(),
        sha256: upload.sha256,
        traceparent: upload.traceparent,
        expires_at: ctx.now() + policy_life(ctx.limits.policy_life, upload.size),
    }
}
