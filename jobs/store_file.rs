//! verified → done: adopts the bytes as a blob of the org, or joins the blob that the org has.
//!
//! Before: the row is `verified`. The bytes are copied out of staging first, pinned to the verified version, and then one
//! transaction writes file, blob, upload and report delta; whoever loses a race removes its own copy. A second run finds
//! `done` and only sees to it that staging is empty. It ends when the org has the file, or goes back to `arrived` when the
//! bytes changed under us.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fold_reports::FoldReports;
use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::blobs;
use crate::ledger::files::{self, Stored};
use crate::model::file::{Blob, BlobState};
use crate::model::{Digest, Status, Timestamp, Upload, keys};
use crate::outside::{BucketError, ObjectHead};
use crate::verify_upload::{Hashing, hash_in_time, look_again, pinned};

/// Stores one verified upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreFile {
    /// The upload.
    pub upload: Uuid,
}

impl Job for StoreFile {
    const KIND: &'static str = "store_file";
    const POOL: Pool = Pool::Store;
    /// A copy of 5 GB that the server does not hash has to be read once more.
    const TIME_LIMIT: Duration = Duration::from_secs(2 * 3600);

    fn subject(&self) -> Uuid {
        self.upload
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let Some(upload) = ctx.upload(self.upload).await? else {
            return Ok(End::Moot);
        };
        match (upload.status, pinned(&upload), upload.verified_sha256) {
            (Status::Verified, Some(version), Some(digest)) => store(ctx, upload, &version, digest).await,
            (Status::Done | Status::Rejected, ..) => {
                ctx.bucket.delete(&[upload.object_key]).await?;
                Ok(End::Moot)
            }
            _ => Ok(End::Moot),
        }
    }
}

const LEAVING: JobError =
    JobError::Snooze { wait: Duration::from_secs(5), why: "the org's blob with these bytes is being removed" };

async fn store(ctx: &Context, upload: Upload, version: &ObjectHead, digest: Digest) -> Result<End, JobError> {
    let blob = blobs::find(&ctx.db, upload.org_id, digest).await?;
    if blob.as_ref().is_some_and(|blob| blob.state == BlobState::Deleting) {
        return Err(LEAVING);
    }
    let intact = match &blob {
        Some(blob) => ctx.bucket.head(&blob.object_key).await?.is_some_and(|head| head.size == blob.size),
        None => false,
    };
    if intact {
        return settle(ctx, upload, None).await;
    }
    let Some(copy) = copy_out(ctx, &upload, version, digest).await? else {
        return look_again(ctx, &upload).await;
    };
    match blob {
        Some(blob) => restore(ctx, upload, &blob, copy).await,
        None => settle(ctx, upload, Some(copy)).await,
    }
}

/// Copies the version to a key of its own; `None` when the version is gone or the copy is not the verified bytes.
async fn copy_out(
    ctx: &Context,
    upload: &Upload,
    version: &ObjectHead,
    digest: Digest,
) -> Result<Option<String>, JobError> {
    let key = keys::blob(upload.org_id, digest);
    let copied = match ctx.bucket.copy(version, &key).await {
        Err(BucketError::Changed { .. } | BucketError::Missing { .. }) => return Ok(None),
        copied => copied?,
    };
    let copied = match copied {
        Some(copied) => Ok(Some(copied)),
        None => hash_copy(ctx, &key).await,
    };
    if matches!(copied, Ok(Some(copied)) if copied == digest) {
        return Ok(Some(key));
    }
    // The next attempt makes a copy of its own, whatever became of this one.
    let removed = ctx.bucket.delete(&[key]).await;
    copied?;
    removed?;
    Ok(None)
}

/// The digest of the copy, for servers that do not tell it; `None` when the copy is gone again.
async fn hash_copy(ctx: &Context, key: &str) -> Result<Option<Digest>, JobError> {
    let Some(head) = ctx.bucket.head(key).await? else {
        return Ok(None);
    };
    match hash_in_time(ctx, &head).await {
        Ok(digest) => Ok(Some(digest)),
        Err(Hashing::Gone) => Ok(None),
        Err(Hashing::Failed(error)) => Err(error),
    }
}

/// The blob's row stands but its object is gone: the copy takes its place.
async fn restore(ctx: &Context, upload: Upload, blob: &Blob, copy: String) -> Result<End, JobError> {
    tracing::error!(blob = %blob.id, key = blob.object_key, "a blob's object was missing; restored from a new upload");
    if !blobs::relocate(&ctx.db, blob, copy.clone()).await? {
        ctx.bucket.delete(&[copy]).await?;
    }
    settle(ctx, upload, None).await
}

/// The one transaction, and what has to be tidied behind it.
async fn settle(ctx: &Context, upload: Upload, copy: Option<String>) -> Result<End, JobError> {
    let (org, staged, size) = (upload.org_id, upload.object_key.clone(), upload.arrived_size.unwrap_or(0));
    let arrived_at = upload.arrived_at;
    let stored = files::store(&ctx.db, upload, copy.clone(), ctx.now()).await?;
    let mut useless = Vec::new();
    if stored != Stored::Adopted {
        useless.extend(copy);
    }
    match stored {
        Stored::Adopted => count(size, "done"),
        Stored::Joined => {
            count(size, "deduplicated");
            metrics::counter!("longshore_dedupe_bytes_saved_total").increment(u64::try_from(size).unwrap_or(0));
        }
        Stored::Lost | Stored::Leaving => {}
    }
    let mut folding = Ok(());
    if matches!(stored, Stored::Adopted | Stored::Joined) {
        useless.push(staged);
        settled(ctx, arrived_at);
        let fold = FoldReports { org: Some(org) };
        folding = ctx.queue.push(vec![NewJob::of(&fold, Lane::Interactive, ctx.now() + FoldReports::DELAY)]).await;
    }
    // Nobody else knows of the copy: a failed push must not leave it behind.
    if !useless.is_empty() {
        ctx.bucket.delete(&useless).await?;
    }
    folding?;
    match stored {
        Stored::Adopted | Stored::Joined => Ok(End::Done),
        Stored::Lost => Ok(End::Moot),
        Stored::Leaving => Err(LEAVING),
    }
}

/// Times an upload that was stored or rejected, from its arrival on.
pub(crate) fn settled(ctx: &Context, arrived_at: Option<Timestamp>) {
    if let Some(arrived_at) = arrived_at {
        let took = ctx.now().since(arrived_at);
        metrics::histogram!("longshore_upload_settle_seconds").record(took.as_secs_f64());
    }
}

fn count(size: i64, outcome: &'static str) {
    metrics::counter!("longshore_upload_bytes_total", "outcome" => outcome).increment(u64::try_from(size).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::births::{self, Birth};
    use crate::ledger::uploads;
    use crate::testkit::World;

    crate::on_every_engine! {
        same_bytes_twice_are_two_entries_and_one_blob,
        two_stores_at_once_leave_one_blob_and_no_copy,
        the_same_upload_stored_twice_at_once_is_stored_once,
        bytes_that_change_after_they_were_verified_are_verified_anew,
        a_blob_whose_object_is_gone_is_restored_from_the_next_upload,
        a_copy_that_could_not_be_hashed_is_not_left_behind,
        the_copy_of_bytes_that_the_org_has_goes_even_if_the_fold_cannot_be_put_on,
        known_bytes_need_no_upload,
    }

    async fn same_bytes_twice_are_two_entries_and_one_blob(world: World) {
        let first = world.uploaded(b"same").await;
        let second = world.uploaded(b"same").await;

        assert_eq!((first.deduplicated, second.deduplicated), (Some(false), Some(true)));
        assert_eq!(world.entries_of(b"same").await, 2);
        assert_eq!((world.blob_keys().len(), world.staged_keys().len()), (1, 0));
        let report = world.report().await;
        assert_eq!((report.files, report.bytes, report.unique_files, report.unique_bytes), (2, 8, 1, 4));
    }

    async fn two_stores_at_once_leave_one_blob_and_no_copy(world: World) {
        let (one, two) = (verified(&world, b"twins").await, verified(&world, b"twins").await);

        let job = |upload: &Upload| StoreFile { upload: upload.id }.run(&world.ctx);
        let (first, second) = tokio::join!(job(&one), job(&two));

        assert_eq!((first.unwrap(), second.unwrap()), (End::Done, End::Done));
        assert_eq!((world.blob_keys().len(), world.staged_keys().len()), (1, 0));
        assert_eq!(world.report().await.unique_files, 1);
    }

    async fn the_same_upload_stored_twice_at_once_is_stored_once(world: World) {
        let upload = verified(&world, b"once").await;

        let job = || StoreFile { upload: upload.id }.run(&world.ctx);
        let (first, second) = tokio::join!(job(), job());

        assert!(first.is_ok() && second.is_ok());
        assert_eq!((world.blob_keys().len(), world.staged_keys().len()), (1, 0));
        assert_eq!(world.report().await.files, 1);
    }

    async fn bytes_that_change_after_they_were_verified_are_verified_anew(world: World) {
        let upload = verified(&world, b"checked").await;

        world.bucket.land(&upload.object_key, b"swapped");
        world.ctx.push(&StoreFile { upload: upload.id }).await.unwrap();
        world.drain().await;

        let upload = world.upload(upload.id).await;
        assert_eq!((upload.status, upload.verified_sha256), (Status::Done, Some(Digest::of(b"swapped"))));
        assert_eq!((world.entries_of(b"checked").await, world.entries_of(b"swapped").await), (0, 1));
        assert_eq!(world.blob_keys().len(), 1);
    }

    async fn a_blob_whose_object_is_gone_is_restored_from_the_next_upload(world: World) {
        world.uploaded(b"precious").await;
        world.ctx.bucket.delete(&world.blob_keys()).await.unwrap();

        let again = world.uploaded(b"precious").await;

        assert_eq!(again.status, Status::Done);
        let blob = blobs::find(&world.ctx.db, world.org, Digest::of(b"precious")).await.unwrap().unwrap();
        assert_eq!((world.blob_keys(), blob.refs), (vec![blob.object_key], 2));
    }

    async fn a_copy_that_could_not_be_hashed_is_not_left_behind(world: World) {
        let upload = verified(&world, b"copied").await;
        world.bucket.hash_no_copies();
        world.bucket.break_key(keys::BLOBS);

        let ended = StoreFile { upload: upload.id }.run(&world.ctx).await;

        assert!(matches!(ended, Err(JobError::Retry(_))));
        assert!(world.blob_keys().is_empty());
        assert_eq!(world.upload(upload.id).await.status, Status::Verified);
    }

    async fn the_copy_of_bytes_that_the_org_has_goes_even_if_the_fold_cannot_be_put_on(world: World) {
        let late = verified(&world, b"shared").await;
        let copy = copy_out(&world.ctx, &late, &pinned(&late).unwrap(), Digest::of(b"shared")).await.unwrap().unwrap();
        world.uploaded(b"shared").await;
        world.queue.refuse(1);

        let ended = settle(&world.ctx, late.clone(), Some(copy.clone())).await;

        assert!(matches!(ended, Err(JobError::Retry(_))));
        assert_eq!(world.upload(late.id).await.status, Status::Done);
        assert!(!world.bucket.keys().contains(&copy));
        assert!(world.staged_keys().is_empty());
    }

    async fn known_bytes_need_no_upload(world: World) {
        world.uploaded(b"known").await;

        let row = Upload { sha256: Some(Digest::of(b"known")), ..world.requested() };
        let born = births::ask(&world.ctx.db, Birth::requested(row.clone(), Some(5))).await.unwrap().unwrap();

        let stored = world.upload(row.id).await;
        assert_eq!((born.status, born.deduplicated), (Status::Done, Some(true)));
        assert_eq!((stored.status, stored.deduplicated), (Status::Done, Some(true)));
        let report = world.report().await;
        assert_eq!((report.files, report.unique_files), (2, 1));
    }

    /// An upload that is verified and not stored yet.
    async fn verified(world: &World, bytes: &[u8]) -> Upload {
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, bytes);
        let via = crate::model::upload::ArrivedVia::Notice;
        crate::record_arrival::RecordArrival { upload: upload.id, via }.run(&world.ctx).await.unwrap();
        crate::verify_upload::VerifyUpload { upload: upload.id }.run(&world.ctx).await.unwrap();
        world.queue.forget();
        uploads::find(&world.ctx.db, upload.id).await.unwrap().unwrap()
    }
}
