//! Verify from a server that is far away: one plain stream beside `verify_upload` with its ranges.
//!
//! The light server answers after 30 ms and sends 80 MB/s a stream, as S3 does to a machine in its region, from a process of
//! its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use futures_util::StreamExt as _;
use longshore_jobs::job::Context;
use longshore_jobs::outside::{BoxError, Bucket, ObjectHead};
use reqwest::Client;
use sha2::{Digest as _, Sha256};

use super::apart::bench_folder;
use super::cloud::CloudProcess;
use super::figures::Value;
use super::verify::{context, median, put_object, run_job};
use super::{Figures, forget_peak_memory, peak_memory};
use crate::bucket::s3::{Options, S3Bucket};
use crate::client::choose_cryptography;
use crate::config::Config;

const FIRST_BYTE: &str = "30ms";
const BANDWIDTH: &str = "80MB/s";
const BUCKET: &str = "bench";

/// Verifies an object of so many bytes, in turn with the one stream, so many times each.
pub(crate) async fn verify_far(config: &Config, size: u64, rounds: u32) -> Result<Figures, BoxError> {
    let flags = ["--first-byte", FIRST_BYTE, "--bandwidth", BANDWIDTH, "--max-memory"].map(str::to_owned);
    let room = size.saturating_add(size / 4).max(1 << 28);
    let server = CloudProcess::start(flags.into_iter().chain([room.to_string()]).collect()).await?;
    let folder = bench_folder(config)?;
    let ctx = context(folder.path(), open_bucket(&server.url).await?).await?;
    let (org, head) = put_object(&ctx, size).await?;
    forget_peak_memory();
    let before = peak_memory();
    let (mut plain, mut verified) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(stream_plainly(&ctx, &head).await?);
        verified.push(run_job(&ctx, &head, org).await?);
    }
    let grown = peak_memory().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(figures(size, median(plain), median(verified), grown))
}

/// The server asks nobody who he is, but a request has to be signed.
async fn open_bucket(url: &str) -> Result<Arc<dyn Bucket>, BoxError> {
    let anybody = Credentials::new("any", "any", None, None, "bench");
    let options = Options {
        credentials: Some(SharedCredentialsProvider::new(anybody)),
        endpoint: Some(url.parse()?),
        path_style: true,
        ..Options::new(BUCKET)
    };
    Ok(Arc::new(S3Bucket::open(options).await?))
}

/// What anybody would write first: one GET, hashed as it comes.
async fn stream_plainly(ctx: &Context, head: &ObjectHead) -> Result<Duration, BoxError> {
    choose_cryptography();
    let client = Client::builder().no_proxy().tls_certs_only([]).build()?;
    let url = ctx.bucket.presign_get(&head.key, "bench.bin", Duration::from_secs(600)).await?;
    let started = Instant::now();
    let answer = client.get(url).send().await?.error_for_status()?;
    let (mut hasher, mut size, mut chunks) = (Sha256::new(), 0, answer.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        size += chunk.len() as u64;
        hasher.update(&chunk);
    }
    std::hint::black_box(hasher.finalize());
    if size != head.size.unsigned_abs() {
        return Err(format!("{size} bytes came of {}", head.size).into());
    }
    Ok(started.elapsed())
}

fn figures(size: u64, plain: Duration, verified: Duration, grown: Option<u64>) -> Figures {
    let mut figures = Figures::default();
    figures.set("server", format!("{FIRST_BYTE} to the first byte, {BANDWIDTH} a stream"));
    figures.add("verified", format!("verify_upload, {size} bytes"), Value::throughput(size, verified));
    figures.add("streamed", "one stream with sha2", Value::throughput(size, plain));
    let times = plain.as_secs_f64() / verified.as_secs_f64();
    figures.add("times", "verify against one stream", Value::Times(times)).aim("5 x");
    if let Some(grown) = grown {
        figures.add("memory_grown", "memory grown by verifying", Value::memory(grown)).aim("under 128 MiB");
    }
    figures
}
