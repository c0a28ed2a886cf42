//! What this machine does, measured on the real parts: each bench prints its figures beside what they compare to.
//!
//! `ops/bench/README.md` keeps the figures that were seen, with the machine that they were seen on.

mod cloud;
mod figures;
mod files;
mod intake;
pub(crate) mod light;
mod pipeline;
mod queue;
mod verify;
mod verify_far;

use longshore_jobs::outside::BoxError;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Roles};
use crate::client::Api;
use crate::config::Config;
use crate::{first_key, metrics};

pub(crate) use cloud::cloud;
pub(crate) use figures::Figures;
pub(crate) use files::files;
pub(crate) use intake::intake;
pub(crate) use pipeline::{Uploads, pipeline};
pub(crate) use queue::queue;
pub(crate) use verify::verify;
pub(crate) use verify_far::verify_far;

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
