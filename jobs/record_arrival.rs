//! issued → arrived: a notice, a callback or the poller says that the object is there, and a HEAD confirms it.
//!
//! Before: the row exists; `requested` and `expired` will do too, since a notice may be faster or later than we are. A second
//! run, as after a doubled notice, finds `arrived` and sees to it that the next job is on, or finds `verified` and leaves it
//! to `verify_upload`, which has put on its own. Bytes that come for an upload that has ended are removed: a policy can be
//! replayed until it expires, and the ref of an expired upload may stand for another one by then. It ends when the row
//! knows the version that arrived.

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
        let Some(upload) = ctx.upload(self.upload).await? else {
            count(self.via, "unknown_key");
            return Ok(End::Moot);
        };
        record(ctx, upload, self.via).await
    }
}

/// What an arrival means for an upload that stands, however its row came to be.
pub(crate) async fn record(ctx: &Context, upload: Upload, via: ArrivedVia) -> Result<End, JobError> {
    match upload.status {
        Status::Requested | Status::Issued | Status::Expired => arrive(ctx, &upload, via).await,
        Status::Arrived => {
            count(via, "duplicate");
            ctx.push_next(&upload, &VerifyUpload { upload: upload.id }).await?;
            Ok(End::Moot)
        }
        Status::Verified => {
            count(via, "duplicate");
            Ok(End::Moot)
        }
        Status::Done | Status::Rejected | Status::Cancelled => {
            count(via, "stale");
            ctx.bucket.delete(&[upload.object_key]).await?;
            Ok(End::Moot)
        }
    }
}

async fn arrive(ctx: &Context, upload: &Upload, via: ArrivedVia) -> Result<End, JobError> {
    let Some(head) = ctx.bucket.head(&upload.object_key).await? else {
        count(via, "stale");
        return Ok(End::Moot);
    };
    let now = ctx.now();
    if !uploads::arrive(&ctx.db, upload.id, &head, via, (now, now + ctx.limits.resume_after)).await? {
        return stays(ctx, upload, via).await;
    }
    applied(via, now.since(head.modified_at));
    ctx.push_next(upload, &VerifyUpload { upload: upload.id }).await?;
    Ok(End::Done)
}

/// The row was not moved: somebody was faster, or the client has asked again under the same ref, and that upload stands.
async fn stays(ctx: &Context, upload: &Upload, via: ArrivedVia) -> Result<End, JobError> {
    if !uploads::is_superseded(&ctx.db, upload.id).await? {
        count(via, "duplicate");
        return Ok(End::Moot);
    }
    count(via, "stale");
    tracing::info!(upload = %upload.id, "late bytes are removed: their ref stands for another upload");
    ctx.bucket.delete(std::slice::from_ref(&upload.object_key)).await?;
    Ok(End::Moot)
}

/// An arrival was noted, so long after the object was there.
pub(crate) fn applied(via: ArrivedVia, lag: Duration) {
    count(via, "applied");
    metrics::histogram!("longshore_completion_lag_seconds", "source" => via.as_str()).record(lag.as_secs_f64());
}

pub(crate) fn count(via: ArrivedVia, disposition: &'static str) {
    metrics::counter!("longshore_notices_total", "source" => via.as_str(), "disposition" => disposition).increment(1);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::files;
    use crate::testkit::World;

    crate::on_every_engine! {
        second_notice_changes_nothing,
        a_notice_may_be_faster_than_the_policy,
        a_callback_proves_nothing_while_the_object_is_not_there,
        bytes_replayed_onto_a_finished_upload_are_removed,
        late_bytes_for_a_cancelled_upload_are_removed,
        late_bytes_revive_an_expired_upload,
        late_bytes_whose_ref_was_taken_again_are_removed_and_fail_nobody,
        of_late_bytes_under_one_ref_at_once_only_one_upload_comes_back,
    }

    async fn second_notice_changes_nothing(world: World) {
        let done = world.uploaded(b"bytes").await;
        assert_eq!(done.status, Status::Done);

        world.notice(&done).await;
        world.drain().await;

        let after = world.upload(done.id).await;
        assert_eq!((after.status, after.updated_at), (Status::Done, done.updated_at));
        assert_eq!(world.entries_of(b"bytes").await, 1);
        assert_eq!(world.report().await.files, 1);
    }

    async fn a_notice_may_be_faster_than_the_policy(world: World) {
        let row = world.requested();
        uploads::insert(&world.ctx.db, vec![row.clone()]).await.unwrap();
        world.bucket.land(&row.object_key, b"early");

        world.notice(&row).await;
        world.drain().await;

        assert_eq!(world.upload(row.id).await.status, Status::Done);
    }

    async fn a_callback_proves_nothing_while_the_object_is_not_there(world: World) {
        let upload = world.issued().await;

        world.ctx.push(&RecordArrival { upload: upload.id, via: ArrivedVia::Callback }).await.unwrap();
        world.drain().await;

        assert_eq!(world.upload(upload.id).await.status, Status::Issued);
    }

    async fn bytes_replayed_onto_a_finished_upload_are_removed(world: World) {
        let done = world.uploaded(b"first").await;
        world.bucket.land(&done.object_key, b"replayed");

        world.notice(&done).await;
        world.drain().await;

        assert!(world.staged_keys().is_empty());
        let file = files::find(&world.ctx.db, done.file_id).await.unwrap().unwrap();
        assert_eq!(file.sha256, crate::model::Digest::of(b"first"));
    }

    async fn late_bytes_for_a_cancelled_upload_are_removed(world: World) {
        let upload = world.issued().await;
        assert!(uploads::cancel(&world.ctx.db, upload.id, world.ctx.now()).await.unwrap());

        world.bucket.land(&upload.object_key, b"late");
        world.notice(&upload).await;
        world.drain().await;

        assert_eq!(world.upload(upload.id).await.status, Status::Cancelled);
        assert_eq!((world.staged_keys(), world.blob_keys()), (Vec::new(), Vec::new()));
        assert_eq!(world.report().await.files, 0);
    }

    async fn late_bytes_revive_an_expired_upload(world: World) {
        let upload = world.issued().await;
        world.clock.advance(Duration::from_secs(10_000));
        world.ctx.push(&crate::expire_uploads::ExpireUploads {}).await.unwrap();
        world.drain().await;
        assert_eq!(world.upload(upload.id).await.status, Status::Expired);

        world.bucket.land(&upload.object_key, b"late");
        world.notice(&upload).await;
        world.drain().await;

        assert_eq!(world.upload(upload.id).await.status, Status::Done);
    }

    /// Uploads under one ref, each of which expired before the next was asked for, and bytes for all of them.
    async fn expired_under_one_ref(world: &World, count: usize) -> Vec<Upload> {
        let mut rows = Vec::new();
        for _ in 0..count {
            let upload = world.issue(Upload { client_ref: Some("invoice-7".to_owned()), ..world.requested() }).await;
            world.clock.advance(Duration::from_secs(10_000));
            assert!(uploads::expire(&world.ctx.db, &upload, world.ctx.now()).await.unwrap());
            world.bucket.land(&upload.object_key, b"late");
            rows.push(upload);
        }
        rows
    }

    async fn late_bytes_whose_ref_was_taken_again_are_removed_and_fail_nobody(world: World) {
        let late = expired_under_one_ref(&world, 1).await.remove(0);
        let again = world.issue(Upload { client_ref: Some("invoice-7".to_owned()), ..world.requested() }).await;
        let stranger = world.issued().await;
        world.bucket.land(&stranger.object_key, b"unrelated");

        let arrival = |upload: &Upload| RecordArrival { upload: upload.id, via: ArrivedVia::Notice }.run(&world.ctx);
        let (moot, done) = tokio::join!(arrival(&late), arrival(&stranger));

        assert_eq!((moot.unwrap(), done.unwrap()), (End::Moot, End::Done));
        assert_eq!(world.upload(late.id).await.status, Status::Expired);
        assert_eq!(world.upload(again.id).await.status, Status::Issued);
        assert_eq!(world.staged_keys(), [stranger.object_key]);
    }

    async fn of_late_bytes_under_one_ref_at_once_only_one_upload_comes_back(world: World) {
        let [first, second] = expired_under_one_ref(&world, 2).await.try_into().unwrap();
        let now = world.ctx.now();
        let head = world.ctx.bucket.head(&first.object_key).await.unwrap().unwrap();

        // Made by one statement, the later one comes back; by two, whichever was first. Never both: they would share the ref.
        let arrive = |upload: &Upload| {
            let (db, id, head) = (world.ctx.db.clone(), upload.id, head.clone());
            async move { uploads::arrive(&db, id, &head, ArrivedVia::Notice, (now, now)).await }
        };
        let (one, two) = tokio::join!(arrive(&first), arrive(&second));

        let (one, two) = (one.unwrap(), two.unwrap());
        assert!(one != two, "{one} {two}");
        let left = if one { &second } else { &first };
        assert!(uploads::is_superseded(&world.ctx.db, left.id).await.unwrap());
    }
}
