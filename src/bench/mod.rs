//! What this machine does, measured on the real parts: each bench prints its figures beside what they compare to.
//!
//! `ops/bench/README.md` keeps the figures that were seen, with the machine that they were seen on.

mod apart;
mod batch;
mod beside;
mod cloud;
mod console;
mod figures;
mod files;
mod intake;
pub(crate) mod light;
mod pipeline;
mod prefix;
mod queue;
mod reports;
mod scrape;
mod seed;
mod verify;
mod verify_far;

use longshore_jobs::job::Context;
use longshore_jobs::outside::BoxError;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use self::apart::Apart;
use crate::app::{App, Roles};
use crate::client::Api;
use crate::config::Config;
use crate::{first_key, metrics};

pub(crate) use batch::batch;
pub(crate) use cloud::cloud;
pub(crate) use figures::Figures;
pub(crate) use files::files;
pub(crate) use intake::intake;
pub(crate) use pipeline::{Uploads, pipeline};
pub(crate) use prefix::prefix;
pub(crate) use queue::queue;
pub(crate) use reports::reports;
pub(crate) use scrape::scrape;
pub(crate) use verify::verify;
pub(crate) use verify_far::verify_far;

/// A server of the bench's own, on a free port and in a place that goes with it.
struct OwnServer {
    api: Api,
    url: String,
    token: String,
    ctx: Context,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    place: Apart,
}

impl OwnServer {
    /// Everything in this process, as `up` would have it, on the database and queue of the configuration and a local bucket.
    async fn start(config: &Config) -> Result<Self, BoxError> {
        Self::start_on(config, metrics::install()?, async |_: &Context, _: &Config| Ok(())).await
    }

    /// As [`OwnServer::start`], on what `fill` puts into the ledger and the queue before it serves.
    async fn start_on(
        config: &Config,
        metrics: PrometheusHandle,
        fill: impl AsyncFnOnce(&Context, &Config) -> Result<(), BoxError>,
    ) -> Result<Self, BoxError> {
        let place = Apart::of(config).await?;
        let app = App::open(place.config.clone().on_free_port(), Roles::all(), metrics).await?;
        let ctx = app.context().clone();
        let token =
            first_key::make(&ctx.db, None, ctx.now()).await?.ok_or("a new ledger makes a first key")?.to_string();
        fill(&ctx, &place.config).await?;
        let (url, stop) = (app.url().to_owned(), CancellationToken::new());
        let api = Api::new(url.parse()?, token.clone());
        let serving = tokio::spawn(app.run(stop.clone()));
        Ok(Self { api, url, token, ctx, stop, serving, place })
    }

    async fn end(self) -> Result<(), BoxError> {
        self.stop.cancel();
        self.serving.await??;
        self.place.end().await
    }
}

/// Forgets the peak so far, so that [`peak_memory`] tells of what comes. Without effect where the system has no such thing.
fn forget_peak_memory() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        tracing::debug!(%error, "the peak of memory is that of the whole run");
    }
}

/// The most memory that the process has had resident, in bytes; `None` where the system does not tell.
fn peak_memory() -> Option<u64> {
    memory("VmHWM:")
}

/// The memory that the process has resident now, in bytes; `None` where the system does not tell.
fn resident_memory() -> Option<u64> {
    memory("VmRSS:")
}

fn memory(which: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(which))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
