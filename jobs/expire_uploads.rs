//! requested, issued → expired: for uploads whose policy ended a while ago and for which nothing came; → rejected for those
//! that a manifest has promised.
//!
//! Before: the policy's end and a grace have passed, since a slow upload that began in time may land later. A HEAD has the last
//! word: an object whose every notice was lost arrives instead. A look that fails leaves its row as it is and keeps nobody
//! else's from being taken. A second run finds the rows moved. It ends when every row that is due was looked at once.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::{manifests, uploads};
use crate::model::Upload;
use crate::model::upload::ArrivedVia;
use crate::record_arrival::RecordArrival;

/// How many rows are read at once.
const PAGE: i64 = 500;
/// How many HEAD requests are under way together.
const TOGETHER: usize = 16;

/// Expires what is due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExpireUploads {}

impl Job for ExpireUploads {
    const KIND: &'static str = "expire_uploads";
    const POOL: Pool = Pool::Upkeep;
    /// A batch of a million that nobody sent comes due at once.
    const TIME_LIMIT: Duration = Duration::from_secs(1800);

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let before = ctx.now() - ctx.limits.expiry_grace;
        let (mut after, mut failed) = (None, None);
        loop {
            let due = uploads::due_to_expire(&ctx.db, before, after, PAGE).await?;
            let Some(last) = due.last().and_then(|row| Some((row.policy_expires_at?, row.id))) else {
                break;
            };
            failed = failed.or(expire_page(ctx, &due).await?);
            after = Some(last);
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(if after.is_none() { End::Moot } else { End::Done }),
        }
    }
}

/// Expires what has no object and lets the others arrive. Returns the first error of a look, when all have been taken.
async fn expire_page(ctx: &Context, due: &[Upload]) -> Result<Option<JobError>, JobError> {
    let looks: Vec<_> = due.iter().map(|upload| expire(ctx, upload)).collect();
    let looked: Vec<_> = stream::iter(looks).buffer_unordered(TOGETHER).collect().await;
    let (mut late, mut failed) = (Vec::new(), None);
    for look in looked {
        match look {
            Ok(arrival) => late.extend(arrival),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if !late.is_empty() {
        ctx.queue.push(late).await?;
    }
    Ok(failed)
}

/// Expires one upload; its arrival, when the object is there after all.
async fn expire(ctx: &Context, upload: &Upload) -> Result<Option<NewJob>, JobError> {
    if ctx.bucket.head(&upload.object_key).await?.is_none() {
        if is_promised(ctx, upload).await? {
            manifests::miss(&ctx.db, upload, ctx.now()).await?;
        } else {
            uploads::expire(&ctx.db, upload, ctx.now()).await?;
        }
        return Ok(None);
    }
    let arrival = RecordArrival { upload: upload.id, via: ArrivedVia::Poll };
    Ok(Some(NewJob::of(&arrival, Lane::Bulk, ctx.now())))
}

/// Whether a manifest names the file, so that it is missing and not merely late.
async fn is_promised(ctx: &Context, upload: &Upload) -> Result<bool, JobError> {
    let Some(batch) = upload.batch_id else { return Ok(false) };
    Ok(manifests::expected(&ctx.db, batch, &upload.filename).await?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::batches;
    use crate::model::upload::Reason;
    use crate::model::{Batch, Status};
    use crate::testkit::World;

    crate::on_every_engine! {
        an_upload_expires_after_its_policy_and_the_grace,
        bytes_that_nobody_told_of_arrive_instead_of_expiring,
        what_a_manifest_names_is_missing_where_another_expires,
        a_renewed_policy_is_not_expired_by_its_former_end,
        more_arrivals_than_a_page_neither_spin_nor_hide_what_is_behind_them,
        a_look_that_fails_holds_up_no_other_and_is_told_last,
    }

    async fn an_upload_expires_after_its_policy_and_the_grace(world: World) {
        let upload = world.issued().await;

        world.clock.advance(Duration::from_secs(900 + 3599));
        ExpireUploads {}.run(&world.ctx).await.unwrap();
        assert_eq!(world.upload(upload.id).await.status, Status::Issued);

        world.clock.advance(Duration::from_secs(2));
        ExpireUploads {}.run(&world.ctx).await.unwrap();
        assert_eq!(world.upload(upload.id).await.status, Status::Expired);
    }

    async fn bytes_that_nobody_told_of_arrive_instead_of_expiring(world: World) {
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, b"silent");

        world.clock.advance(Duration::from_secs(5000));
        ExpireUploads {}.run(&world.ctx).await.unwrap();
        world.drain().await;

        assert_eq!(world.upload(upload.id).await.status, Status::Done);
    }

    async fn what_a_manifest_names_is_missing_where_another_expires(world: World) {
        let batch = Batch::each((world.org, Uuid::nil()), None, 2, world.ctx.now());
        batches::insert(&world.ctx.db, batch.clone(), Vec::new(), None).await.unwrap();
        for filename in ["named", "unnamed"] {
            let row = Upload { filename: filename.to_owned(), batch_id: Some(batch.id), ..world.requested() };
            world.issue(row).await;
        }
        world.pin(&batch, &[("named", b"bytes")]).await;

        world.clock.advance(Duration::from_secs(5000));
        ExpireUploads {}.run(&world.ctx).await.unwrap();

        let files = world.files_of(&batch).await;
        assert_eq!(files[0], ("named".to_owned(), Status::Rejected, Some(Reason::ObjectMissing)));
        assert_eq!(files[1], ("unnamed".to_owned(), Status::Expired, None));
    }

    async fn a_renewed_policy_is_not_expired_by_its_former_end(world: World) {
        let seen = world.issued().await;
        let now = world.ctx.now();
        uploads::renew(&world.ctx.db, seen.id, now + Duration::from_secs(9000), now, now).await.unwrap();

        world.clock.advance(Duration::from_secs(5000));
        let expired = uploads::expire(&world.ctx.db, &seen, world.ctx.now()).await.unwrap();

        assert!(!expired);
    }

    async fn more_arrivals_than_a_page_neither_spin_nor_hide_what_is_behind_them(world: World) {
        let count = usize::try_from(PAGE).unwrap();
        let rows: Vec<Upload> = (0..=count).map(|_| world.requested()).collect();
        uploads::insert(&world.ctx.db, rows.clone()).await.unwrap();
        for row in &rows[..count] {
            world.bucket.land(&row.object_key, b"silent");
        }

        world.clock.advance(Duration::from_secs(5000));
        assert_eq!(ExpireUploads {}.run(&world.ctx).await.unwrap(), End::Done);

        assert_eq!(world.upload(rows[count].id).await.status, Status::Expired);
        let waiting = world.queue.waiting();
        assert_eq!((waiting.len(), waiting.contains(&"expire_uploads")), (count, false));
    }

    async fn a_look_that_fails_holds_up_no_other_and_is_told_last(world: World) {
        let (sick, silent, lost) = (world.issued().await, world.issued().await, world.issued().await);
        world.bucket.land(&silent.object_key, b"silent");
        world.bucket.break_key(&sick.object_key);

        world.clock.advance(Duration::from_secs(5000));
        let ended = ExpireUploads {}.run(&world.ctx).await;

        assert!(matches!(ended, Err(JobError::Retry(_))));
        assert_eq!(world.upload(sick.id).await.status, Status::Issued);
        assert_eq!(world.upload(lost.id).await.status, Status::Expired);
        assert_eq!(world.queue.waiting(), ["record_arrival"]);
    }
}
