//! Verify of a large object on the local bucket, against SHA-256 over the same file and nothing else.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use longshore_jobs::job::{Context, End, Job as _, Limits};
use longshore_jobs::ledger::{Db, orgs, uploads};
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::model::{Digest, Status, Upload, keys};
use longshore_jobs::outside::{Body, BoxError, Bucket, Clock, ObjectHead, Queue, SystemClock};
use longshore_jobs::verify_upload::VerifyUpload;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::apart::bench_folder;
use super::figures::Value;
use super::{Figures, forget_peak_memory, peak_memory};
use crate::bucket::local::{LocalBucket, Options};
use crate::config::Config;
use crate::queue::sql::SqlQueue;

const CHUNK: usize = 1 << 20;

/// Verifies an object of so many bytes, in turn with the raw hash, so many times each.
pub(crate) async fn verify(config: &Config, size: u64, rounds: u32) -> Result<Figures, BoxError> {
    let folder = bench_folder(config)?;
    let ctx = context(folder.path(), open_local(folder.path()).await?).await?;
    let (org, head) = put_object(&ctx, size).await?;
    let (mut raw, mut verified) = (Vec::new(), Vec::new());
    hash_raw(&ctx, &head).await?;
    forget_peak_memory();
    let before = peak_memory();
    for _ in 0..rounds {
        raw.push(hash_raw(&ctx, &head).await?);
        verified.push(run_job(&ctx, &head, org).await?);
    }
    let grown = peak_memory().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(figures(&head, median(raw), median(verified), grown))
}

fn figures(head: &ObjectHead, raw: Duration, verified: Duration, grown: Option<u64>) -> Figures {
    let mut figures = Figures::default();
    let size = head.size.unsigned_abs();
    figures.add("verified", format!("verify_upload, {size} bytes"), Value::throughput(size, verified));
    figures.add("hashed", "sha2 over the same file", Value::throughput(size, raw));
    let share = raw.as_secs_f64() / verified.as_secs_f64() * 100.0;
    figures.add("share", "verify against sha2", Value::Percent(share)).aim("90 %");
    if let Some(grown) = grown {
        figures.add("memory_grown", "memory grown by verifying", Value::memory(grown)).aim("under 64 MiB");
    }
    figures
}

async fn open_local(folder: &Path) -> Result<Arc<dyn Bucket>, BoxError> {
    let (events, _) = mpsc::channel(1);
    let options = Options::new("http://127.0.0.1:1/bucket".parse()?);
    Ok(Arc::new(LocalBucket::open(&folder.join("bucket"), options, events).await?))
}

/// What a job gets: a ledger in the folder, and this bucket.
pub(super) async fn context(folder: &Path, bucket: Arc<dyn Bucket>) -> Result<Context, BoxError> {
    let db = Db::open_sqlite(&folder.join("bench.db")).await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let queue = Arc::new(SqlQueue::new(db.clone(), Arc::clone(&clock))) as Arc<dyn Queue>;
    Ok(Context { db, bucket, queue, clock, limits: Limits::default() })
}

/// An object of so many random bytes for the jobs of a new org.
pub(super) async fn put_object(ctx: &Context, size: u64) -> Result<(Uuid, ObjectHead), BoxError> {
    let org = orgs::create(&ctx.db, "bench".to_owned(), ctx.now()).await?.id;
    let key = keys::staging(org, Uuid::now_v7());
    Ok((org, ctx.bucket.put(&key, None, random(size)).await?.head))
}

fn random(size: u64) -> stream::BoxStream<'static, Result<Bytes, BoxError>> {
    let mut block = vec![0; CHUNK];
    rand::fill(&mut block[..]);
    let block = Bytes::from(block);
    let sizes = (0..size).step_by(CHUNK).map(move |at| usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK));
    stream::iter(sizes.map(move |length| Ok(block.slice(..length)))).boxed()
}

async fn hash_raw(ctx: &Context, head: &ObjectHead) -> Result<Duration, BoxError> {
    let Body::File(file) = ctx.bucket.read(head).await? else { return Err("the local bucket reads files".into()) };
    let started = Instant::now();
    std::hint::black_box(tokio::task::spawn_blocking(move || hash_file(file)).await??);
    Ok(started.elapsed())
}

fn hash_file(mut file: File) -> std::io::Result<Digest> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Digest::finish(hasher));
        }
        hasher.update(&buffer[..read]);
    }
}

/// The job from the row that it reads to the row that it leaves.
pub(super) async fn run_job(ctx: &Context, original: &ObjectHead, org: Uuid) -> Result<Duration, BoxError> {
    let key = keys::staging(org, Uuid::now_v7());
    ctx.bucket.copy(original, &key).await?;
    let head = ctx.bucket.head(&key).await?.ok_or("the copy is there")?;
    let id = arrived(ctx, &head, org).await?;
    let started = Instant::now();
    let ended = VerifyUpload { upload: id }.run(ctx).await?;
    let took = started.elapsed();
    match uploads::find(&ctx.db, id).await?.map(|row| row.status) {
        Some(Status::Verified) if ended == End::Done => {}
        other => return Err(format!("the object was not verified but {other:?}").into()),
    }
    Ok(took)
}

/// A row as `record_arrival` leaves it.
async fn arrived(ctx: &Context, head: &ObjectHead, org: Uuid) -> Result<Uuid, BoxError> {
    let now = ctx.now();
    let row = Upload { object_key: head.key.clone(), ..Upload::requested(org, Uuid::nil(), "bench".to_owned(), now) };
    let id = row.id;
    uploads::insert(&ctx.db, vec![row]).await?;
    uploads::arrive(&ctx.db, id, head, ArrivedVia::Notice, (now, now)).await?;
    Ok(id)
}

pub(super) fn median(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}
