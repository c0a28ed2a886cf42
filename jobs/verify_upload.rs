//! arrived → verified or rejected: hashes the object and compares it with what the client declared.
//!
//! Before: the row is `arrived` and names the version to read; every read is pinned to it, because a policy can be replayed
//! and the bytes changed while they are hashed. A second run finds `verified` and only sees to it that the next job is on.
//! It ends when the row is `verified` with the computed digest, or `rejected` with the reason and the object gone.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::ledger::{manifests, uploads};
use crate::model::upload::{MAX_CHANGES, Reason};
use crate::model::{Digest, Status, Upload};
use crate::outside::{Body, BucketError, ObjectHead};
use crate::store_file::{StoreFile, settled};

/// How much is read from a local file at once: 1 MiB is where reading stops to be the limit.
const READ_SIZE: usize = 1 << 20;

/// Hashes one upload's object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerifyUpload {
    /// The upload.
    pub upload: Uuid,
}

impl Job for VerifyUpload {
    const KIND: &'static str = "verify_upload";
    const POOL: Pool = Pool::Verify;
    /// For the largest object; each has a limit of its own by its size.
    const TIME_LIMIT: Duration = Duration::from_secs(2 * 3600);

    fn subject(&self) -> Uuid {
        self.upload
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let Some(upload) = ctx.upload(self.upload).await? else {
            return Ok(End::Moot);
        };
        match (upload.status, pinned(&upload)) {
            (Status::Arrived, Some(version)) => verify(ctx, &upload, &version).await,
            (Status::Verified, _) => {
                ctx.push_next(&upload, &StoreFile { upload: upload.id }).await?;
                Ok(End::Moot)
            }
            _ => Ok(End::Moot),
        }
    }
}

/// The version that arrived, as a HEAD would show it.
pub(crate) fn pinned(upload: &Upload) -> Option<ObjectHead> {
    Some(ObjectHead {
        key: upload.object_key.clone(),
        size: upload.arrived_size?,
        etag: upload.etag.clone()?,
        content_type: upload.content_type.clone(),
        modified_at: upload.arrived_at?,
    })
}

async fn verify(ctx: &Context, upload: &Upload, version: &ObjectHead) -> Result<End, JobError> {
    if let Some(reason) = wrong_size(ctx, upload, version.size) {
        return reject(ctx, upload, reason).await;
    }
    let digest = match hash_in_time(ctx, version).await {
        Ok(digest) => digest,
        Err(Hashing::Gone) => return look_again(ctx, upload).await,
        Err(Hashing::Failed(error)) => return Err(error),
    };
    if upload.sha256.is_some_and(|declared| declared != digest) {
        return reject_digest(ctx, upload, digest).await;
    }
    let now = ctx.now();
    let times = (now, now + ctx.limits.resume_after);
    if !uploads::verify(&ctx.db, (upload.id, upload.batch_id), version.etag.clone(), digest, times).await? {
        return differs(ctx, upload, digest).await;
    }
    ctx.push_next(upload, &StoreFile { upload: upload.id }).await?;
    Ok(End::Done)
}

/// The row was not moved: the manifest of its batch pins other bytes, or somebody was faster.
async fn differs(ctx: &Context, upload: &Upload, digest: Digest) -> Result<End, JobError> {
    let Some(batch) = upload.batch_id else { return Ok(End::Moot) };
    match manifests::expected(&ctx.db, batch, &upload.filename).await? {
        Some(pinned) if pinned != digest => reject_digest(ctx, upload, digest).await,
        _ => Ok(End::Moot),
    }
}

/// The digest is kept, for whoever asks what came instead.
async fn reject_digest(ctx: &Context, upload: &Upload, found: Digest) -> Result<End, JobError> {
    let found = Upload { verified_sha256: Some(found), ..upload.clone() };
    reject(ctx, &found, Reason::DigestMismatch).await
}

fn wrong_size(ctx: &Context, upload: &Upload, found: i64) -> Option<Reason> {
    if found > ctx.limits.max_size {
        return Some(Reason::TooLarge);
    }
    upload.size.filter(|&declared| declared != found).map(|_| Reason::SizeMismatch)
}

/// Rejects the upload and removes its object. A crash in between leaves the object to `sweep_bucket`.
pub(crate) async fn reject(ctx: &Context, upload: &Upload, reason: Reason) -> Result<End, JobError> {
    if !uploads::reject(&ctx.db, upload, reason, ctx.now()).await? {
        return Ok(End::Moot);
    }
    settled(ctx, upload.arrived_at);
    ctx.bucket.delete(std::slice::from_ref(&upload.object_key)).await?;
    Ok(End::Done)
}

/// The version is gone: goes back to `arrived` with the one that is there now, or ends when there is none or it has changed
/// too often.
pub(crate) async fn look_again(ctx: &Context, upload: &Upload) -> Result<End, JobError> {
    let Some(head) = ctx.bucket.head(&upload.object_key).await? else {
        return reject(ctx, upload, Reason::ObjectMissing).await;
    };
    if upload.changes >= MAX_CHANGES {
        return reject(ctx, upload, Reason::ObjectChanged).await;
    }
    if uploads::arrive_again(&ctx.db, upload, &head, ctx.now()).await? {
        ctx.push_next(upload, &VerifyUpload { upload: upload.id }).await?;
    }
    Ok(End::Done)
}

/// Why there is no digest.
pub(crate) enum Hashing {
    /// The version is not there any more.
    Gone,
    /// A later attempt may succeed.
    Failed(JobError),
}

impl From<BucketError> for Hashing {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Missing { .. } | BucketError::Changed { .. } => Self::Gone,
            other => Self::Failed(other.into()),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("hashing {size} bytes took longer than {limit:?}")]
    Slow { size: i64, limit: Duration },
    #[error("read the object")]
    Local(#[source] std::io::Error),
    #[error("the object ended after {read} of {size} bytes")]
    Short { read: i64, size: i64 },
    #[error("the hashing thread was lost")]
    Thread(#[source] tokio::task::JoinError),
}

impl From<ReadError> for Hashing {
    fn from(error: ReadError) -> Self {
        Self::Failed(JobError::Retry(error.into()))
    }
}

/// An object above this size waits for its turn to be hashed.
const LARGE: i64 = 256 * 1024;

/// Two large objects per core at once, one of which may wait for its bytes: more would only take memory from each other.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    Semaphore::new(2 * cores)
});

/// Hashes the version, within a minute and a second more for each megabyte from when its first bytes are there: a bucket may
/// let a reader wait until others have come to their ends, which says nothing about this one.
pub(crate) async fn hash_in_time(ctx: &Context, version: &ObjectHead) -> Result<Digest, Hashing> {
    let size = version.size;
    let limit = Duration::from_secs(60 + u64::try_from(size).unwrap_or(0) / 1_000_000);
    let _turn = if size > LARGE { TURNS.acquire().await.ok() } else { None };
    let body = ctx.bucket.read(version).await?;
    let started = Instant::now();
    let hashed = tokio::time::timeout(limit, hash(body)).await;
    let (digest, read) = hashed.map_err(|_| ReadError::Slow { size, limit })??;
    if read != size {
        return Err(ReadError::Short { read, size }.into());
    }
    metrics::counter!("longshore_hash_bytes_total").increment(u64::try_from(read).unwrap_or(0));
    metrics::gauge!("longshore_hash_seconds_total").increment(started.elapsed().as_secs_f64());
    Ok(digest)
}

async fn hash(body: Body) -> Result<(Digest, i64), Hashing> {
    match body {
        Body::File(file) => Ok(hash_local(file).await?),
        Body::Stream(chunks) => hash_stream(chunks).await,
    }
}

/// Hashes a file on one blocking thread, which stops reading soon after this future is dropped.
async fn hash_local(file: File) -> Result<(Digest, i64), ReadError> {
    let unwanted = Arc::new(AtomicBool::new(false));
    let _waiting = SetOnDrop(Arc::clone(&unwanted));
    let hashed = tokio::task::spawn_blocking(move || hash_file(file, &unwanted)).await;
    hashed.map_err(ReadError::Thread)?.map_err(ReadError::Local)
}

/// Tells a thread that nobody waits for it any more: a blocking thread cannot be aborted.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn hash_file(mut file: File, unwanted: &AtomicBool) -> std::io::Result<(Digest, i64)> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let mut buffer = vec![0; length.clamp(1, READ_SIZE)];
    let (mut hasher, mut total) = (Sha256::new(), 0_i64);
    loop {
        if unwanted.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("nobody waits for the digest any more"));
        }
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((Digest::finish(hasher), total));
        }
        hasher.update(&buffer[..read]);
        total += i64::try_from(read).unwrap_or(i64::MAX);
    }
}

/// Hashes chunk after chunk on blocking threads, reading the next while one is hashed.
async fn hash_stream(
    mut chunks: BoxStream<'static, Result<bytes::Bytes, BucketError>>,
) -> Result<(Digest, i64), Hashing> {
    let (mut hasher, mut total) = (Sha256::new(), 0_i64);
    let mut next = chunks.next().await;
    while let Some(chunk) = next {
        let chunk = chunk?;
        total += i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        let hashing = tokio::task::spawn_blocking(move || {
            hasher.update(&chunk);
            hasher
        });
        next = chunks.next().await;
        hasher = hashing.await.map_err(ReadError::Thread)?;
    }
    Ok((Digest::finish(hasher), total))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::ledger::manifests::Held;
    use crate::model::Batch;
    use crate::testkit::World;

    crate::on_every_engine! {
        other_bytes_than_declared_are_rejected_and_removed,
        another_size_than_declared_is_rejected_without_reading,
        an_object_over_the_limit_is_rejected,
        no_bytes_at_all_are_a_file,
        an_object_that_vanishes_before_it_is_read_is_missing,
        bytes_that_change_before_they_are_read_are_read_anew,
        bytes_that_keep_changing_are_rejected,
        other_bytes_than_a_manifest_pins_are_rejected,
        a_manifest_cannot_pin_other_bytes_than_are_stored,
        a_later_manifest_takes_the_place_of_the_former,
    }

    /// A batch's file of these bytes, all the way through.
    async fn sent(world: &World, batch: &Batch, path: &str, bytes: &[u8]) -> (Status, Option<Reason>) {
        let key = world.land_in(batch, path, bytes);
        world.notice_of(&key).await;
        world.drain().await;
        let files = world.files_of(batch).await;
        files.iter().find(|file| file.0 == path).map(|file| (file.1, file.2)).unwrap()
    }

    async fn other_bytes_than_a_manifest_pins_are_rejected(world: World) {
        let batch = world.prefix_batch(10).await;
        assert_eq!(world.pin(&batch, &[("a", b"a"), ("b", b"b")]).await, Held::Yes);

        assert_eq!(sent(&world, &batch, "a", b"a").await, (Status::Done, None));
        assert_eq!(sent(&world, &batch, "b", b"x").await, (Status::Rejected, Some(Reason::DigestMismatch)));
        assert_eq!(sent(&world, &batch, "c", b"x").await, (Status::Done, None));
        assert!(world.staged_keys().is_empty());
    }

    async fn a_manifest_cannot_pin_other_bytes_than_are_stored(world: World) {
        let batch = world.prefix_batch(10).await;
        assert_eq!(world.pin(&batch, &[("b", b"former")]).await, Held::Yes);
        sent(&world, &batch, "a", b"a").await;

        assert_eq!(world.pin(&batch, &[("a", b"x"), ("b", b"x")]).await, Held::Stored("a".to_owned()));

        let expected = manifests::expected(&world.ctx.db, batch.id, "b").await.unwrap();
        assert_eq!(expected, Some(Digest::of(b"former")));
        assert_eq!(world.batch(batch.id).await.manifest_lines, Some(1));
    }

    async fn a_later_manifest_takes_the_place_of_the_former(world: World) {
        let batch = world.prefix_batch(10).await;
        world.pin(&batch, &[("a", b"former"), ("b", b"b")]).await;
        world.pin(&batch, &[("a", b"later")]).await;
        manifests::remove(&world.ctx.db, batch.id, None).await.unwrap();

        assert_eq!(manifests::expected(&world.ctx.db, batch.id, "b").await.unwrap(), None);
        assert_eq!(sent(&world, &batch, "a", b"later").await, (Status::Done, None));
        let left = "select count(*) from manifest_lines";
        let left: i64 = sql!(world.ctx.db.reader(), c => sqlx::query_scalar(left).fetch_one(c).await).unwrap();
        assert_eq!(left, 1);
    }

    async fn other_bytes_than_declared_are_rejected_and_removed(world: World) {
        let upload = world.issue(Upload { sha256: Some(Digest::of(b"promised")), ..world.requested() }).await;

        world.bucket.land(&upload.object_key, b"delivery");
        world.notice(&upload).await;
        world.drain().await;

        let upload = world.upload(upload.id).await;
        assert_eq!((upload.status, upload.reason), (Status::Rejected, Some(Reason::DigestMismatch)));
        assert!(world.bucket.keys().is_empty());
    }

    async fn another_size_than_declared_is_rejected_without_reading(world: World) {
        let upload = world.issue(Upload { size: Some(3), ..world.requested() }).await;

        world.bucket.land(&upload.object_key, b"four");
        world.notice(&upload).await;
        world.drain().await;

        assert_eq!(world.upload(upload.id).await.reason, Some(Reason::SizeMismatch));
    }

    async fn an_object_over_the_limit_is_rejected(mut world: World) {
        world.ctx.limits.max_size = 4;
        let upload = world.issued().await;

        world.bucket.land(&upload.object_key, b"five!");
        world.notice(&upload).await;
        world.drain().await;

        assert_eq!(world.upload(upload.id).await.reason, Some(Reason::TooLarge));
    }

    async fn no_bytes_at_all_are_a_file(world: World) {
        let upload = world.uploaded(b"").await;
        assert_eq!((upload.status, upload.known_sha256()), (Status::Done, Some(Digest::of(b""))));
    }

    async fn an_object_that_vanishes_before_it_is_read_is_missing(world: World) {
        let upload = arrived(&world, b"gone").await;

        world.ctx.bucket.delete(std::slice::from_ref(&upload.object_key)).await.unwrap();
        world.drain().await;

        assert_eq!(world.upload(upload.id).await.reason, Some(Reason::ObjectMissing));
    }

    async fn bytes_that_change_before_they_are_read_are_read_anew(world: World) {
        let upload = arrived(&world, b"first").await;

        world.bucket.land(&upload.object_key, b"second");
        world.drain().await;

        let upload = world.upload(upload.id).await;
        assert_eq!((upload.status, upload.changes), (Status::Done, 1));
        assert_eq!(upload.verified_sha256, Some(Digest::of(b"second")));
    }

    async fn bytes_that_keep_changing_are_rejected(world: World) {
        let upload = arrived(&world, b"0").await;
        let job = VerifyUpload { upload: upload.id };

        for round in 1..=MAX_CHANGES + 1 {
            world.bucket.land(&upload.object_key, round.to_string().as_bytes());
            assert_eq!(job.clone().run(&world.ctx).await.unwrap(), End::Done);
        }

        let upload = world.upload(upload.id).await;
        assert_eq!((upload.status, upload.reason), (Status::Rejected, Some(Reason::ObjectChanged)));
    }

    #[tokio::test]
    async fn a_file_is_not_read_on_when_nobody_waits_for_its_digest() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut hashing = Box::pin(hash_local(File::from(std::os::fd::OwnedFd::from(reader))));
        assert!(futures_util::poll!(&mut hashing).is_pending(), "the pipe has no end yet");

        drop(hashing);

        // Much more than fits into a pipe, so somebody reads it all, or the other end is closed.
        let refused = (0..256).find_map(|_| writer.write_all(&[7; 4096]).err());
        assert_eq!(refused.map(|error| error.kind()), Some(std::io::ErrorKind::BrokenPipe));
    }

    /// An upload whose arrival is recorded and whose bytes nobody has read yet.
    async fn arrived(world: &World, bytes: &[u8]) -> Upload {
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, bytes);
        let via = crate::model::upload::ArrivedVia::Notice;
        crate::record_arrival::RecordArrival { upload: upload.id, via }.run(&world.ctx).await.unwrap();
        world.upload(upload.id).await
    }
}
