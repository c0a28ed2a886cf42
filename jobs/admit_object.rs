//! An object under a batch's prefix → arrived, or rejected: makes an upload of what a client has put where it was allowed to.
//!
//! Before: the batch is open. There need be no row for the object: its key is what it is known by. A second run, as after a
//! doubled notice, finds the row and goes the way of `record_arrival`. What comes for a closed batch is removed, as is what is
//! refused: more files than the batch allows, a path that climbs. It ends when the object has a row, or is gone.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::prefixes::{self, Admitted, Object};
use crate::model::keys;
use crate::model::upload::ArrivedVia;
use crate::outside::ObjectHead;
use crate::record_arrival::{applied, count, record};
use crate::verify_upload::VerifyUpload;

/// Looks at one object of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdmitObject {
    /// Where it is.
    pub key: String,
    /// Who says so.
    pub via: ArrivedVia,
}

impl Job for AdmitObject {
    const KIND: &'static str = "admit_object";
    const POOL: Pool = Pool::Arrive;

    /// By the key's SHA-256, as a UUID of version 8 (RFC 9562, appendix B.2).
    fn subject(&self) -> Uuid {
        let hash: [u8; 32] = Sha256::digest(self.key.as_bytes()).into();
        let (half, _) = hash.split_first_chunk().expect("32 bytes are more than 16");
        Builder::from_custom_bytes(*half).into_uuid()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let Some((batch, path)) = keys::batch_of(&self.key) else {
            count(self.via, "unknown_key");
            return Ok(End::Moot);
        };
        let Some(head) = ctx.bucket.head(&self.key).await? else {
            count(self.via, "stale");
            return Ok(End::Moot);
        };
        let content_type = mime_guess::from_path(path).first_raw().map(str::to_owned);
        let now = ctx.now();
        let resume_at = now + ctx.limits.resume_after;
        let object = Object { batch, head: head.clone(), content_type, via: self.via, now, resume_at };
        let admitted = prefixes::admit(&ctx.db, object).await?;
        follow(ctx, &head, self.via, admitted).await
    }
}

impl AdmitObject {
    /// The job for an object that was told of, one of very many.
    #[must_use]
    pub fn told(ctx: &Context, key: String, via: ArrivedVia) -> NewJob {
        NewJob::of(&Self { key, via }, Lane::Bulk, ctx.now())
    }
}

async fn follow(ctx: &Context, head: &ObjectHead, via: ArrivedVia, admitted: Admitted) -> Result<End, JobError> {
    match admitted {
        Admitted::Arrived(upload) => {
            applied(via, ctx.now().since(head.modified_at));
            ctx.queue.push(vec![NewJob::of(&VerifyUpload { upload }, Lane::Bulk, ctx.now())]).await?;
            Ok(End::Done)
        }
        Admitted::Rejected(upload, reason) => {
            count(via, "applied");
            tracing::info!(%upload, %reason, "rejected");
            ctx.bucket.delete(std::slice::from_ref(&head.key)).await?;
            Ok(End::Done)
        }
        Admitted::Stands => match prefixes::standing(&ctx.db, &[&head.key]).await?.pop() {
            Some(upload) => record(ctx, upload, via).await,
            None => Ok(End::Moot),
        },
        Admitted::Closed => {
            count(via, "stale");
            ctx.bucket.delete(std::slice::from_ref(&head.key)).await?;
            Ok(End::Moot)
        }
        // Perhaps it is one of another ledger's.
        Admitted::Unknown => {
            count(via, "unknown_key");
            Ok(End::Moot)
        }
    }
}
