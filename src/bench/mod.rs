//! What this machine does, measured on the real parts: each bench prints its figures beside what they compare to.
//!
//! `ops/bench/README.md` keeps the figures that were seen, with the machine that they were seen on.

mod files;
mod intake;
mod verify;

use std::fmt;
use std::time::Duration;

use longshore_jobs::outside::BoxError;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Roles};
use crate::client::Api;
use crate::config::Config;
use crate::{first_key, metrics};

pub(crate) use files::files;
pub(crate) use intake::intake;
pub(crate) use verify::verify;

/// A table of figures, each with what was aimed at.
#[derive(Default)]
pub(crate) struct Figures {
    rows: Vec<[String; 3]>,
}

impl Figures {
    fn add(&mut self, what: impl Into<String>, figure: impl Into<String>, aim: impl Into<String>) {
        self.rows.push([what.into(), figure.into(), aim.into()]);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (first, second) = (width(0), width(1));
        for [what, figure, aim] in &self.rows {
            let aim = if aim.is_empty() { String::new() } else { format!("   aim {aim}") };
            writeln!(f, "{what:<first$}  {figure:>second$}{aim}")?;
        }
        Ok(())
    }
}

/// The queue alone: no-op jobs on a ledger of their own.
pub(crate) async fn queue(config: &Config) -> Result<crate::queue::bench::Figures, BoxError> {
    // Counting is part of what a job costs.
    metrics::install()?;
    crate::queue::bench::run(bench_folder(config)?.path()).await
}

/// A server of the bench's own, on a free port and a folder that goes with it.
struct OwnServer {
    api: Api,
    url: String,
    token: String,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    _folder: TempDir,
}

impl OwnServer {
    /// Everything in this process, as `up` would have it, on the disk of the data folder.
    async fn start(config: &Config) -> Result<Self, BoxError> {
        let folder = bench_folder(config)?;
        let config = config.clone().moved_to(folder.path()).on_free_port();
        let app = App::open(config, Roles::all(), metrics::install()?).await?;
        let ctx = app.context();
        let token =
            first_key::make(&ctx.db, None, ctx.now()).await?.ok_or("a new ledger makes a first key")?.to_string();
        let (url, stop) = (app.url().to_owned(), CancellationToken::new());
        let api = Api::new(url.parse()?, token.clone());
        let serving = tokio::spawn(app.run(stop.clone()));
        Ok(Self { api, url, token, stop, serving, _folder: folder })
    }

    async fn end(self) -> Result<(), BoxError> {
        self.stop.cancel();
        Ok(self.serving.await??)
    }
}

/// A folder beside the data, so that its disk is the one that is measured. Removed when dropped.
fn bench_folder(config: &Config) -> std::io::Result<TempDir> {
    crate::folder::make(&config.data_dir)?;
    tempfile::Builder::new().prefix("bench-").tempdir_in(&config.data_dir)
}

/// Forgets the peak so far, so that [`peak_memory`] tells of what comes. Without effect where the system has no such thing.
fn forget_peak_memory() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        tracing::debug!(%error, "the peak of memory is that of the whole run");
    }
}

/// The most memory that the process has had resident, in bytes; `None` where the system does not tell.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

#[expect(clippy::cast_precision_loss, reason = "rates are for reading")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn milliseconds(length: Duration) -> String {
    format!("{:.2} ms", length.as_secs_f64() * 1e3)
}

/// The value below which this share of them lies.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list of some thousands"
    )]
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}
