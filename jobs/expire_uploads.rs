//! requested, issued → expired: for uploads whose policy ended a while ago and for which nothing came.
//!
//! Before: the policy's end and a grace have passed, since a slow upload that began in time may land later. A HEAD has the last
//! word: an object whose every notice was lost arrives instead. A second run finds the rows moved. It ends when no row is due.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::uploads;
use crate::model::Upload;
use crate::model::upload::ArrivedVia;
use crate::record_arrival::RecordArrival;

/// How many rows one run looks at.
const AT_ONCE: i64 = 500;

/// Expires what is due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExpireUploads {}

impl Job for ExpireUploads {
    const KIND: &'static str = "expire_uploads";
    const POOL: Pool = Pool::Upkeep;

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let due = uploads::due_to_expire(&ctx.db, ctx.now() - ctx.limits.expiry_grace, AT_ONCE).await?;
        let full = i64::try_from(due.len()).is_ok_and(|found| found == AT_ONCE);
        for upload in &due {
            expire(ctx, upload).await?;
        }
        if full {
            ctx.push(&Self {}).await?;
        }
        Ok(if due.is_empty() { End::Moot } else { End::Done })
    }
}

async fn expire(ctx: &Context, upload: &Upload) -> Result<(), JobError> {
    if ctx.bucket.head(&upload.object_key).await?.is_none() {
        uploads::expire(&ctx.db, upload, ctx.now()).await?;
        return Ok(());
    }
    let arrival = RecordArrival { upload: upload.id, via: ArrivedVia::Poll };
    ctx.queue.push(vec![NewJob::of(&arrival, Lane::Bulk, ctx.now())]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Status;
    use crate::testkit::World;

    #[tokio::test]
    async fn an_upload_expires_after_its_policy_and_the_grace() {
        let world = World::new().await;
        let upload = world.issued().await;

        world.clock.advance(Duration::from_secs(900 + 3599));
        ExpireUploads {}.run(&world.ctx).await.unwrap();
        assert_eq!(world.upload(upload.id).await.status, Status::Issued);

        world.clock.advance(Duration::from_secs(2));
        ExpireUploads {}.run(&world.ctx).await.unwrap();
        assert_eq!(world.upload(upload.id).await.status, Status::Expired);
    }

    #[tokio::test]
    async fn bytes_that_nobody_told_of_arrive_instead_of_expiring() {
        let world = World::new().await;
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, b"silent");

        world.clock.advance(Duration::from_secs(5000));
        ExpireUploads {}.run(&world.ctx).await.unwrap();
        world.drain().await;

        assert_eq!(world.upload(upload.id).await.status, Status::Done);
    }

    #[tokio::test]
    async fn a_renewed_policy_is_not_expired_by_its_former_end() {
        let world = World::new().await;
        let seen = world.issued().await;
        let now = world.ctx.now();
        uploads::renew(&world.ctx.db, seen.id, now + Duration::from_secs(9000), now, now).await.unwrap();

        world.clock.advance(Duration::from_secs(5000));
        let expired = uploads::expire(&world.ctx.db, &seen, world.ctx.now()).await.unwrap();

        assert!(!expired);
    }
}
