//! The only wiring: what a configuration becomes, how its parts start, and in which order they end.

mod engines;
mod patience;
mod start_error;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::job::{Context, Pool};
use longshore_jobs::ledger::dead_letters;
use longshore_jobs::outside::{Clock, SystemClock};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::engines::{Notices, Store, engines_of, take_over};
use self::patience::patiently;
use crate::config::Config;
use crate::folder::{DataFolder, FolderError, Lock};
use crate::http::admin::desk::{Desk, Setup};
use crate::http::gauges::{self, Reading};
use crate::http::operations::Check;
use crate::http::{self, Http, Operations, Settings};
use crate::listen::{self, Bounds};
use crate::queue::engine::Engine;
use crate::queue::workers::{Pulse, Workers};
use crate::schedule::{self, Schedule};
use crate::systemd::Systemd;
use crate::{metrics, notices};

pub(crate) use self::engines::{as_queue, open_bucket_beside, open_ledger, open_queue, s3_options, sqs_options};
pub(crate) use self::start_error::StartError;

/// A few blocks of a disk.
const PROBE_SIZE: usize = 64 * 1024;
/// What a door may take beyond the time that requests have.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// Which parts a process runs.
#[derive(Clone, Debug)]
pub(crate) struct Roles {
    /// Answers HTTP and receives notices.
    pub(crate) intake: bool,
    /// Runs the jobs of these pools.
    pub(crate) pools: Vec<Pool>,
    /// Ticks the schedules.
    pub(crate) schedule: bool,
}

impl Roles {
    /// Everything in one process.
    pub(crate) fn all() -> Self {
        Self { intake: true, pools: Pool::ALL.to_vec(), schedule: true }
    }

    /// Whether other processes have to do what this one does not.
    fn are_shared(&self) -> bool {
        !self.intake || self.pools.is_empty()
    }
}

/// A process that is about to serve. Its address is bound and its ledger open; nothing runs yet.
pub(crate) struct App {
    ctx: Context,
    config: Config,
    roles: Roles,
    engine: Arc<dyn Engine>,
    store: Store,
    notices: Notices,
    listener: Option<TcpListener>,
    metrics_listener: Option<TcpListener>,
    metrics: PrometheusHandle,
    /// What is kept in files is ours as long as we serve.
    _held: Option<Files>,
    url: String,
}

/// The files of a process that keeps something on this machine: nobody else serves from them.
struct Files {
    folder: DataFolder,
    _ledger: Option<Lock>,
}

impl Files {
    /// Takes the data folder; `None` when all of it is kept on servers, which any number of processes may share.
    fn claim(config: &Config) -> Result<Option<DataFolder>, FolderError> {
        config.is_local().then(|| DataFolder::claim(&config.data_dir)).transpose()
    }

    /// Takes the ledger's file too, once it is there.
    fn with_ledger(folder: DataFolder, config: &Config) -> Result<Self, FolderError> {
        let ledger = config.database.file().map(|file| Lock::beside("the ledger", file)).transpose()?;
        Ok(Self { folder, _ledger: ledger })
    }
}

impl App {
    /// Takes what is kept in files, opens everything and binds the address. Servers that do not answer yet are waited for.
    pub(crate) async fn open(config: Config, roles: Roles, metrics: PrometheusHandle) -> Result<Self, StartError> {
        check_bucket(&config, &roles)?;
        let folder = Files::claim(&config)?;
        let db = patiently(|| open_ledger(&config)).await?;
        let files = folder.map(|folder| Files::with_ledger(folder, &config)).transpose()?;
        let listener = if roles.intake { Some(bind(config.listen).await?) } else { None };
        let metrics_listener = match config.metrics_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let bound = listener.as_ref().and_then(|listener| listener.local_addr().ok()).unwrap_or(config.listen);
        let url = config.public_url(bound);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut store = patiently(|| Store::open(&config, &url)).await?;
        let notices = Notices::open(&config, &mut store, roles.intake).await?;
        let engine = patiently(|| open_queue(&config, &db, &clock, &roles.pools)).await?;
        take_over(&config, &engine).await?;
        let ctx = Context { db, bucket: store.bucket(), queue: as_queue(&engine), clock, limits: config.limits };
        // Before anybody is told the address: from now on a client may connect, and is answered once we run.
        if let Some(files) = files.as_ref().filter(|_| listener.is_some()) {
            files.folder.announce(&url)?;
        }
        Ok(Self { _held: files, ctx, config, roles, engine, store, notices, listener, metrics_listener, metrics, url })
    }

    /// Where it is reached; no slash at its end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What jobs get.
    pub(crate) fn context(&self) -> &Context {
        &self.ctx
    }

    /// Serves until `stop`, then ends in good order: no new requests and ticks, then the notices that are left, then the jobs,
    /// then the ledger. Each gets the time that the shutdown may take, for ledger and bucket may be silent. A door that ends
    /// before its time ends all of it.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> std::io::Result<()> {
        let limit = self.config.shutdown_limit;
        let workers = self.start_workers().await;
        let mut doors = self.open_doors(&workers, &stop).await;
        if let Some(systemd) = Systemd::of_process() {
            let pulse = workers.pulse();
            doors.spawn(systemd.attend(move || pulse.is_alive(), stop.clone()));
        }
        let deaf = CancellationToken::new();
        let notices = AbortOnDropHandle::new(tokio::spawn(receive(self.ctx.clone(), self.notices, deaf.clone())));
        let ended_early = tokio::select! {
            // First: at a stop the doors end too.
            biased;
            () = stop.cancelled() => false,
            Some(ended) = doors.join_next() => {
                finish(ended);
                true
            }
        };
        stop.cancel();
        // A door for requests cuts them off at the limit by itself.
        ends_within(limit + LAST_STEPS, "the doors", close(doors)).await;
        deaf.cancel();
        ends_within(limit, "the notices", async { finish(notices.await) }).await;
        workers.shutdown(limit).await;
        ends_within(limit, "the bucket", self.store.close()).await;
        ends_within(limit, "the ledger", self.ctx.db.close()).await;
        tracing::info!("stopped");
        if ended_early { Err(std::io::Error::other("a part of the service ended by itself")) } else { Ok(()) }
    }

    /// Starts whatever takes in work, and the housekeeping of the metrics.
    async fn open_doors(&mut self, workers: &Workers, stop: &CancellationToken) -> JoinSet<()> {
        let bounds = Bounds::new(self.config.max_connections, self.config.shutdown_limit);
        let mut doors = JoinSet::new();
        doors.spawn(metrics::keep(self.metrics.clone(), stop.clone()));
        if self.roles.schedule {
            doors.spawn(schedule::run(self.ctx.clone(), schedules(&self.config), stop.clone()));
        }
        let mut checks = vec![queue_check(&self.engine)];
        checks.extend(workers_check(&self.roles.pools, workers.pulse()));
        checks.extend(inbox_check(&self.notices));
        checks.extend(self.config.bucket.folder().map(disk_check));
        let operations = Operations {
            metrics: self.metrics.clone(),
            more_checks: checks,
            readings: vec![queue_reading(&self.ctx, &self.engine)],
            desk: self.desk(workers),
        };
        let http = http(&self.ctx, &self.config, operations);
        http.warm_up().await;
        if let Some(listener) = self.metrics_listener.take() {
            let routes = http::metrics_router(Arc::clone(&http));
            doors.spawn(listen::serve(listener, routes, bounds, stop.clone()));
        }
        if let Some(listener) = self.listener.take() {
            http::start_at_zero();
            doors.spawn(listen::serve(listener, http::router(http, self.store.routes()), bounds, stop.clone()));
        }
        doors
    }

    /// A pool that is paused at it stands still at once in this process.
    fn desk(&self, workers: &Workers) -> Desk {
        let schedules = self.config.schedule.keys().cloned().collect();
        let setup = Setup { engines: engines_of(&self.config), schedules };
        Desk::new(Arc::clone(&self.engine), workers.pauses().clone(), setup)
    }

    async fn start_workers(&self) -> Workers {
        let slots = |pool| self.config.pools.get(&pool).copied().unwrap_or(1);
        Workers::start(self.ctx.clone(), Arc::clone(&self.engine), slots, &self.roles.pools).await
    }
}

/// Refuses a bucket that the processes which share the ledger cannot share: it would miss every object of theirs.
fn check_bucket(config: &Config, roles: &Roles) -> Result<(), StartError> {
    let (Some(folder), None) = (config.bucket.folder(), config.database.file()) else { return Ok(()) };
    let (bucket, ledger) = (folder.display().to_string(), config.database.to_string());
    if roles.are_shared() {
        return Err(StartError::BucketApart { bucket, ledger });
    }
    tracing::warn!(
        bucket,
        ledger,
        "no other process on this ledger can share the bucket, which is a folder of this one's"
    );
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

fn schedules(config: &Config) -> Vec<Schedule> {
    config.schedule.iter().filter_map(|(kind, cron)| Schedule::of(kind, cron.clone())).collect()
}

fn http(ctx: &Context, config: &Config, operations: Operations) -> Arc<Http> {
    let intake = &config.intake;
    let settings = Settings {
        wait: intake.wait,
        files_wait: intake.files_wait,
        max_body: intake.max_body,
        webhook_secret: config.inbox_secret,
    };
    Http::new(ctx.clone(), settings, operations)
}

fn queue_check(engine: &Arc<dyn Engine>) -> Check {
    let engine = Arc::clone(engine);
    Check::helpful("queue", move || {
        let engine = Arc::clone(&engine);
        async move { Ok(engine.next_due(Pool::Issue).await.map(drop)?) }
    })
}

/// Of this process's workers: one that works no pool has nothing to say of workers.
fn workers_check(pools: &[Pool], pulse: Pulse) -> Option<Check> {
    let check = move || {
        let healthy = pulse.is_healthy();
        async move { if healthy { Ok(()) } else { Err("a pool has lost its worker, or the worker its leases".into()) } }
    };
    (!pools.is_empty()).then(|| Check::helpful("workers", check))
}

/// Whether the bucket's folder takes a file; it has no name, so none is left.
fn disk_check(folder: &Path) -> Check {
    let folder = folder.to_owned();
    Check::sparing("disk", move || {
        let folder = folder.clone();
        async move {
            let write = move || tempfile::tempfile_in(folder)?.write_all(&[0; PROBE_SIZE]);
            Ok(spawn_blocking(write).await??)
        }
    })
}

fn inbox_check(notices: &Notices) -> Option<Check> {
    let Notices::Queue(inbox) = notices else { return None };
    let inbox = Arc::clone(inbox);
    Some(Check::helpful("inbox", move || {
        let inbox = Arc::clone(&inbox);
        async move { Ok(inbox.ping().await?) }
    }))
}

fn queue_reading(ctx: &Context, engine: &Arc<dyn Engine>) -> Reading {
    let engine = Arc::clone(engine);
    gauges::reading(ctx, move |ctx| {
        let engine = Arc::clone(&engine);
        async move {
            let (depths, dead) = tokio::join!(engine.depths(), dead_letters::count_by_pool(&ctx.db));
            metrics::show_queue(&depths?, &dead?);
            Ok(())
        }
    })
}

/// The notice door.
async fn receive(ctx: Context, from: Notices, stop: CancellationToken) {
    match from {
        Notices::From(inbox) => notices::receive(ctx, inbox, stop).await,
        Notices::Queue(inbox) => notices::receive(ctx, inbox, stop).await,
        Notices::Unwanted(inbox) => notices::discard(inbox, stop).await,
        Notices::Elsewhere => {}
    }
}

async fn close(mut doors: JoinSet<()>) {
    while let Some(ended) = doors.join_next().await {
        finish(ended);
    }
}

/// Waits for the end of a part, but not longer than it may take: then it is dropped.
async fn ends_within(limit: Duration, part: &str, end: impl Future<Output = ()>) {
    if timeout(limit, end).await.is_err() {
        tracing::warn!(part, ?limit, "not ended in time, and given up");
    }
}

fn finish(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a door has failed");
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Layered;

    use super::*;

    fn config(settings: &[(&str, &str)]) -> Config {
        let environment =
            settings.iter().map(|(name, value)| (format!("LONGSHORE_{name}"), (*value).to_owned())).collect();
        Config::load(Layered { environment, ..Layered::default() }).unwrap()
    }

    #[test]
    fn a_part_of_a_fleet_with_a_bucket_of_its_own_is_refused() {
        const LEDGER: (&str, &str) = ("DATABASE_URL", "postgres://me:pw@db/longshore");
        const S3: [(&str, &str); 2] = [("BUCKET_URL", "s3://acme"), ("INBOX_URL", "none:")];
        let worker = Roles { intake: false, ..Roles::all() };
        let intake = Roles { intake: true, pools: Vec::new(), schedule: false };

        for part in [&worker, &intake] {
            let refused = check_bucket(&config(&[LEDGER]), part).unwrap_err();
            assert!(matches!(refused, StartError::BucketApart { .. }));
            assert!(refused.to_string().contains("postgres://(hidden)@db/longshore"), "{refused}");

            check_bucket(&config(&[LEDGER, S3[0], S3[1]]), part).unwrap();
            check_bucket(&config(&[]), part).unwrap();
        }
        check_bucket(&config(&[LEDGER]), &Roles::all()).unwrap();
    }
}
