//! The only wiring: what a configuration becomes, how its parts start, and in which order they end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use longshore_jobs::job::{Context, Pool};
use longshore_jobs::ledger::{Db, LedgerError, dead_letters};
use longshore_jobs::model::policy::Credentials;
use longshore_jobs::outside::{Bucket, Clock, Queue, SystemClock};
use metrics_exporter_prometheus::{BuildError, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::bucket::local::{self, LocalBucket};
use crate::config::{BucketEngine, Config, DatabaseEngine, InboxEngine, QueueEngine};
use crate::folder::{self, DataFolder, FolderError, Lock};
use crate::http::operations::{Check, Reading};
use crate::http::{self, Http, Settings};
use crate::inbox::LocalInbox;
use crate::listen::{self, Bounds};
use crate::queue::engine::{Engine, EngineError};
use crate::queue::sql::SqlQueue;
use crate::queue::workers::{Pulse, Workers};
use crate::schedule::{self, Schedule};
use crate::{metrics, notices};

/// How many events of the local bucket may wait for the notice door before posts do.
const EVENTS: usize = 10_000;

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
}

/// A process that is about to serve. Its address is bound and its ledger open; nothing runs yet.
pub(crate) struct App {
    ctx: Context,
    config: Config,
    roles: Roles,
    engine: Arc<dyn Engine>,
    bucket: Arc<LocalBucket>,
    events: mpsc::Receiver<String>,
    listener: Option<TcpListener>,
    metrics_listener: Option<TcpListener>,
    metrics: PrometheusHandle,
    /// Ours as long as we serve.
    _held: (DataFolder, Lock),
    url: String,
}

/// The process cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The data folder is in use or cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The ledger does not open.
    #[error("open the ledger")]
    Ledger(#[from] LedgerError),
    /// The address is taken or not ours.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The bucket does not open.
    #[error("open the bucket")]
    Bucket(#[from] local::OpenError),
    /// The queue does not answer.
    #[error("take over the queue")]
    Queue(#[from] EngineError),
    /// The metrics recorder is there already.
    #[error("start the metrics")]
    Metrics(#[from] BuildError),
    /// The public URL cannot carry the bucket's path.
    #[error("the public URL {0} cannot be extended")]
    Url(String),
}

/// Opens the ledger of a configuration, without serving from it.
pub(crate) async fn open_ledger(config: &Config) -> Result<Db, StartError> {
    let DatabaseEngine::Sqlite(path) = &config.database;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for folder in [&config.data_dir, folder] {
        folder::make(folder).map_err(|source| FolderError::Refused {
            what: "the folder",
            path: folder.to_owned(),
            source,
        })?;
    }
    Ok(Db::open_sqlite(path).await?)
}

impl App {
    /// Takes the data folder, opens everything and binds the address.
    pub(crate) async fn open(config: Config, roles: Roles, metrics: PrometheusHandle) -> Result<Self, StartError> {
        let folder = DataFolder::claim(&config.data_dir)?;
        let db = open_ledger(&config).await?;
        let DatabaseEngine::Sqlite(ledger) = &config.database;
        let ledger = Lock::beside("the ledger", ledger)?;
        let listener = if roles.intake { Some(bind(config.listen).await?) } else { None };
        let metrics_listener = match config.metrics_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let bound = listener.as_ref().and_then(|listener| listener.local_addr().ok()).unwrap_or(config.listen);
        let url = config.public_url(bound);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (events_in, events) = mpsc::channel(EVENTS);
        let bucket = Arc::new(open_bucket(&config, &url, events_in).await?);
        let QueueEngine::Database = config.queue;
        let queue = SqlQueue::new(db.clone(), Arc::clone(&clock));
        // The data folder and the ledger are ours, so whoever holds a lease is dead.
        queue.void_leases().await?;
        let ctx = Context {
            db,
            bucket: Arc::clone(&bucket) as Arc<dyn Bucket>,
            queue: Arc::new(queue.clone()) as Arc<dyn Queue>,
            clock,
            limits: config.limits,
        };
        // Before anybody is told the address: from now on a client may connect, and is answered once we run.
        if listener.is_some() {
            folder.announce(&url)?;
        }
        let engine = Arc::new(queue);
        Ok(Self {
            _held: (folder, ledger),
            ctx,
            config,
            roles,
            engine,
            bucket,
            events,
            listener,
            metrics_listener,
            metrics,
            url,
        })
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
    /// then the ledger. A door that ends before its time ends all of it.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> std::io::Result<()> {
        let workers = self.start_workers().await;
        let mut doors = self.open_doors(workers.pulse(), &stop);
        let (deaf, inbox) = (CancellationToken::new(), LocalInbox::new(self.events));
        let notices = tokio::spawn(notices(self.ctx.clone(), self.config.inbox, inbox, deaf.clone()));
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
        while let Some(ended) = doors.join_next().await {
            finish(ended);
        }
        deaf.cancel();
        finish(notices.await);
        workers.shutdown(self.config.shutdown_limit).await;
        self.bucket.close().await;
        self.ctx.db.close().await;
        tracing::info!("stopped");
        if ended_early { Err(std::io::Error::other("a part of the service ended by itself")) } else { Ok(()) }
    }

    /// Starts whatever takes in work, and the housekeeping of the metrics.
    fn open_doors(&mut self, pulse: Pulse, stop: &CancellationToken) -> JoinSet<()> {
        let bounds = Bounds::new(self.config.max_connections, self.config.shutdown_limit);
        let mut doors = JoinSet::new();
        doors.spawn(metrics::keep(self.metrics.clone(), stop.clone()));
        if self.roles.schedule {
            doors.spawn(schedule::run(self.ctx.clone(), schedules(&self.config), stop.clone()));
        }
        let (checks, readings) =
            (vec![queue_check(&self.engine), workers_check(pulse)], vec![queue_reading(&self.ctx, &self.engine)]);
        let http = http(&self.ctx, &self.config, self.metrics.clone(), checks, readings);
        if let Some(listener) = self.metrics_listener.take() {
            let routes = http::metrics_router(Arc::clone(&http));
            doors.spawn(listen::serve(listener, routes, bounds, stop.clone()));
        }
        if let Some(listener) = self.listener.take() {
            let beside = Router::new().nest("/bucket", local::router(Arc::clone(&self.bucket)));
            doors.spawn(listen::serve(listener, http::router(http, beside), bounds, stop.clone()));
        }
        doors
    }

    async fn start_workers(&self) -> Workers {
        let slots = |pool| self.config.pools.get(&pool).copied().unwrap_or(1);
        Workers::start(self.ctx.clone(), Arc::clone(&self.engine), slots, &self.roles.pools).await
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

async fn open_bucket(config: &Config, url: &str, events: mpsc::Sender<String>) -> Result<LocalBucket, StartError> {
    let BucketEngine::Folder(path) = &config.bucket;
    let public = Url::parse(&format!("{url}/bucket")).map_err(|_| StartError::Url(url.to_owned()))?;
    let credentials = config.local_bucket.as_ref().map(|given| Credentials {
        access_key_id: given.access_key_id.clone(),
        secret_access_key: given.secret_access_key.reveal().to_owned(),
        session_token: None,
    });
    let options = local::Options { credentials, ..local::Options::new(public) };
    Ok(LocalBucket::open(path, options, events).await?)
}

fn schedules(config: &Config) -> Vec<Schedule> {
    config.schedule.iter().filter_map(|(kind, cron)| Schedule::of(kind, cron.clone())).collect()
}

fn http(
    ctx: &Context,
    config: &Config,
    metrics: PrometheusHandle,
    checks: Vec<Check>,
    readings: Vec<Reading>,
) -> Arc<Http> {
    let intake = &config.intake;
    let settings =
        Settings { wait: intake.wait, files_wait: intake.files_wait, max_body: intake.max_body, ..Settings::default() };
    Http::new(ctx.clone(), settings, metrics, checks, readings)
}

fn queue_check(engine: &Arc<dyn Engine>) -> Check {
    let engine = Arc::clone(engine);
    Check::helpful("queue", move || {
        let engine = Arc::clone(&engine);
        async move { Ok(engine.next_due(Pool::Issue).await.map(drop)?) }
    })
}

fn workers_check(pulse: Pulse) -> Check {
    Check::helpful("workers", move || {
        let healthy = pulse.is_healthy();
        async move { if healthy { Ok(()) } else { Err("a pool has lost its worker".into()) } }
    })
}

fn queue_reading(ctx: &Context, engine: &Arc<dyn Engine>) -> Reading {
    let (db, engine) = (ctx.db.clone(), Arc::clone(engine));
    Box::new(move || {
        let (db, engine) = (db.clone(), Arc::clone(&engine));
        Box::pin(async move {
            metrics::show_queue(&engine.depths().await?, &dead_letters::count_by_pool(&db).await?);
            Ok(())
        })
    })
}

/// The notice door, as the configuration has it.
async fn notices(ctx: Context, engine: InboxEngine, inbox: LocalInbox, stop: CancellationToken) {
    match engine {
        InboxEngine::Local => notices::receive(ctx, Arc::new(inbox), stop).await,
        InboxEngine::None => notices::discard(Arc::new(inbox), stop).await,
    }
}

fn finish(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a door has failed");
    }
}
