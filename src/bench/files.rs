//! Small files, end to end: ask for a policy, post the form, notice, verify, store; client and server in one process.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use longshore_jobs::model::Digest;
use longshore_jobs::outside::BoxError;
use tokio_util::sync::CancellationToken;

use super::apart::bench_folder;
use super::figures::Value;
use super::{Figures, OwnServer, peak_memory};
use crate::client::ingest::{self, IngestOptions, Progress};
use crate::config::Config;

/// Ingests so many random files of so many bytes, beside a plain loop that hashes and copies them.
pub(crate) async fn files(config: &Config, count: u64, size: usize, concurrency: usize) -> Result<Figures, BoxError> {
    let folder = bench_folder(config)?;
    let source = folder.path().join("source");
    fs::create_dir(&source)?;
    for number in 0..count {
        let mut bytes = vec![0; size];
        rand::fill(&mut bytes[..]);
        fs::write(source.join(format!("{number:08}.bin")), bytes)?;
    }
    let plain = copy_plainly(&source, &folder.path().join("copy"))?;

    let server = OwnServer::start(config).await?;
    let options = IngestOptions::of(vec![source], concurrency);
    let summary = ingest::run(server.api.clone(), options, Progress::silent(), CancellationToken::new()).await;
    server.end().await?;
    if !summary.is_complete() {
        return Err(summary.to_string().into());
    }
    let took = summary.elapsed;
    let mut figures = Figures::default();
    figures.set("files at once", concurrency);
    let what = format!("files of {size} bytes ingested, {count} files");
    figures.add("ingested", what, Value::rate(count, took)).aim("1000");
    figures.add("copied_plainly", "hash, copy and fsync in a loop, the same files", Value::rate(count, plain));
    if let Some(peak) = peak_memory() {
        figures.add("peak_memory", "peak memory of client and server", Value::memory(peak));
    }
    Ok(figures)
}

/// What one thread without any pipeline takes to hash and copy the files, each one safe on disk.
fn copy_plainly(from: &Path, to: &Path) -> std::io::Result<Duration> {
    fs::create_dir(to)?;
    let started = Instant::now();
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let bytes = fs::read(entry.path())?;
        std::hint::black_box(Digest::of(&bytes));
        let mut copy = fs::File::create_new(to.join(entry.file_name()))?;
        copy.write_all(&bytes)?;
        copy.sync_all()?;
    }
    Ok(started.elapsed())
}
