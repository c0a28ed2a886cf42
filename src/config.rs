//! The configuration: what an operator may set, typed.
//!
//! `ops/longshore.toml` documents every setting and is at the same time the defaults: it is built in. Over it lie the file,
//! the environment and the flags, in this order. Everything that is wrong is reported at once, so that nobody mends a
//! configuration one start at a time; a key that does not exist is wrong, since it is nearly always a slip of the pen.

mod effective;
mod engines;
mod layers;
mod mistakes;
#[cfg(test)]
mod tests;
pub(crate) mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use croner::Cron;
use longshore_jobs::job::{Limits, Pool};
use longshore_jobs::model::org::Token;
use url::Url;

use crate::http::notices::WebhookSecret;

pub(crate) use effective::Effective;
pub(crate) use engines::{BucketEngine, DatabaseEngine, InboxEngine, QueueEngine};
use layers::Layers;
pub(crate) use mistakes::ConfigError;
use mistakes::Wrong;

/// The documented defaults.
pub(crate) const DEFAULTS: &str = include_str!("../ops/longshore.toml");

/// Where the layers above the defaults come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layered {
    /// The file named with `--config`: it must be there. `None`: `longshore.toml` in the working directory, if it is there.
    pub(crate) file: Option<PathBuf>,
    /// Name and value; names that do not start with `LONGSHORE_` are passed over.
    pub(crate) environment: Vec<(String, String)>,
    /// Path and value, for example `listen` and `0.0.0.0:80`.
    pub(crate) flags: Vec<(String, String)>,
}

/// The effective configuration. `Debug` hides secrets.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Where everything lives that no URL puts elsewhere. Not made yet.
    pub(crate) data_dir: PathBuf,
    /// The ledger's engine.
    pub(crate) database: DatabaseEngine,
    /// The queue's engine.
    pub(crate) queue: QueueEngine,
    /// The bucket's engine.
    pub(crate) bucket: BucketEngine,
    /// Where notices come from.
    pub(crate) inbox: InboxEngine,
    /// What whoever posts notices has to show; there if and only if the inbox is a webhook.
    pub(crate) inbox_secret: Option<WebhookSecret>,
    /// How to speak to S3, if the bucket is there.
    pub(crate) s3: S3,
    /// How to speak to SQS, if the inbox is there.
    pub(crate) sqs: Sqs,
    /// How many connections to PostgreSQL this process opens at most.
    pub(crate) postgres_connections: u32,
    /// What every key in Redis begins with.
    pub(crate) redis_prefix: String,
    /// Where to serve; port 0 takes a free one.
    pub(crate) listen: SocketAddr,
    /// Where the metrics are served too; `None` for nowhere else.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// How many connections each address takes at once.
    pub(crate) max_connections: usize,
    /// As configured; see [`Config::public_url`].
    pub(crate) public_url: Option<Url>,
    /// A first token with all scopes.
    pub(crate) bootstrap_token: Option<Token>,
    /// How to log.
    pub(crate) log: Log,
    /// The local bucket's credentials; `None`: random ones, kept in the data folder.
    pub(crate) local_bucket: Option<Credentials>,
    /// What jobs must know.
    pub(crate) limits: Limits,
    /// What the HTTP door must know.
    pub(crate) intake: Intake,
    /// How many jobs of each pool run at once; every pool is there.
    pub(crate) pools: BTreeMap<Pool, usize>,
    /// How long a shutdown waits for what runs.
    pub(crate) shutdown_limit: Duration,
    /// Cron expressions by the job's kind; those that never run are absent.
    pub(crate) schedule: BTreeMap<String, Cron>,
    /// The settings as `longshore config` shows them.
    pub(crate) effective: Effective,
}

/// How to log.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// For people or for machines.
    pub(crate) format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`; known to parse.
    pub(crate) filter: String,
    /// Whether somebody chose the filter: then it holds for commands too that are quieter otherwise.
    pub(crate) filter_is_chosen: bool,
}

/// For whom log lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Short lines with local colour.
    Human,
    /// One JSON object per line.
    Json,
}

/// How to speak to S3.
#[derive(Clone, Debug)]
pub(crate) struct S3 {
    /// Where it is; `None` for AWS.
    pub(crate) endpoint: Option<Url>,
    /// Where clients reach it; `None` for the same.
    pub(crate) public_endpoint: Option<Url>,
    /// `None`: by the SDK's chain.
    pub(crate) region: Option<String>,
    /// `http://host/bucket/key` instead of `http://bucket.host/key`.
    pub(crate) path_style: bool,
    /// Whether the SDK sends and checks checksums where it could, not only where it must.
    pub(crate) all_checksums: bool,
    /// Bytes of objects that may be in memory at once.
    pub(crate) read_budget: usize,
    /// Bytes of posted files that may be in memory at once.
    pub(crate) put_budget: usize,
}

/// How to speak to SQS.
#[derive(Clone, Debug)]
pub(crate) struct Sqs {
    /// How many requests wait at once.
    pub(crate) receivers: usize,
    /// How long each waits.
    pub(crate) wait: Duration,
    /// How long a message is ours.
    pub(crate) visibility: Duration,
    /// `None`: by the queue's address or the SDK's chain.
    pub(crate) region: Option<String>,
}

/// Credentials of the local bucket.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// The public half.
    pub(crate) access_key_id: String,
    /// The secret half.
    pub(crate) secret_access_key: Secret,
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text, for whoever signs with it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What the HTTP door must know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intake {
    /// How long `POST /api/uploads` waits for its policy.
    pub(crate) wait: Duration,
    /// How long `POST /api/files` waits for its files.
    pub(crate) files_wait: Duration,
    /// The largest JSON body in bytes.
    pub(crate) max_body: usize,
}

impl Config {
    /// The configuration of this process: its environment, and the file and flags of its command line.
    pub(crate) fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Result<Self, ConfigError> {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect();
        Self::load(Layered { file, environment, flags })
    }

    /// Lays the layers over each other and types what comes out; or tells every mistake in them.
    pub(crate) fn load(layered: Layered) -> Result<Self, ConfigError> {
        let mut layers = Layers::of_defaults();
        layers.add_file(layered.file);
        layers.add_environment(layered.environment);
        layers.add_flags(layered.flags);
        let config = Self::read(&mut layers);
        layers.finish()?;
        Ok(config)
    }

    /// How clients reach the service that listens on `bound`; no slash at its end.
    pub(crate) fn public_url(&self, bound: SocketAddr) -> String {
        let url = self.public_url.as_ref().map_or_else(|| format!("http://{}", reachable(bound)), Url::to_string);
        url.trim_end_matches('/').to_owned()
    }

    /// For a server of a run's own: on a free port of this machine, reached there and nowhere else.
    pub(crate) fn on_free_port(mut self) -> Self {
        self.listen = ([127, 0, 0, 1], 0).into();
        self.metrics_listen = None;
        self.public_url = None;
        self
    }

    /// With everything that is kept in files in another folder, for a run that leaves nothing behind. What is kept on servers
    /// stays there.
    pub(crate) fn moved_to(mut self, folder: &Path) -> Self {
        self.data_dir = folder.to_owned();
        if self.database.file().is_some() {
            self.database = DatabaseEngine::Sqlite(folder.join("longshore.db"));
        }
        if self.bucket.folder().is_some() {
            self.bucket = BucketEngine::Folder(folder.join("bucket"));
        }
        self
    }

    /// Whether anything is kept in the data folder or in files beside it, so that one process at a time may serve.
    pub(crate) fn is_local(&self) -> bool {
        self.database.file().is_some() || self.bucket.folder().is_some()
    }

    /// Folders and files that hold what this program keeps, credentials among it. Not all of them need to be there.
    pub(crate) fn own_places(&self) -> Vec<PathBuf> {
        let beside = |ledger: &Path, ending: &str| {
            let mut name = ledger.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        let endings = ["", "-wal", "-shm", "-journal", ".lock"];
        let ledger = self.database.file().into_iter().flat_map(|file| endings.map(|ending| beside(file, ending)));
        let bucket = self.bucket.folder().map(Path::to_owned);
        [self.data_dir.clone()].into_iter().chain(bucket).chain(ledger).collect()
    }

    fn read(layers: &mut Layers) -> Self {
        let data_dir = layers.read("data_dir", units::path);
        let database = layers.read("database_url", |text| DatabaseEngine::parse(text, &data_dir));
        let bucket = layers.read("bucket_url", |text| BucketEngine::parse(text, &data_dir));
        layers.resolve("database_url", &database);
        layers.resolve("bucket_url", &bucket);
        let inbox = layers.read("inbox_url", InboxEngine::parse);
        if let Some(wrong) = inbox.misfit(&bucket) {
            layers.fault("inbox_url", wrong);
        }
        Self {
            database,
            queue: layers.read("queue_url", QueueEngine::parse),
            bucket,
            inbox_secret: read_inbox_secret(layers, &inbox),
            inbox,
            s3: read_s3(layers),
            sqs: read_sqs(layers),
            postgres_connections: layers.read("postgres.connections", units::pool_size),
            redis_prefix: layers.read("redis.prefix", units::key_prefix),
            listen: layers.read("listen", units::address),
            metrics_listen: layers.read("metrics_listen", |text| units::optional(text, units::address)),
            max_connections: layers.read("max_connections", units::connections),
            public_url: layers.read("public_url", |text| units::optional(text, units::public_url)),
            bootstrap_token: layers.read("bootstrap_token", |text| units::optional(text, token)),
            log: read_log(layers),
            local_bucket: read_credentials(layers),
            limits: read_limits(layers),
            intake: read_intake(layers),
            pools: Pool::ALL.iter().map(|&pool| (pool, layers.read(&format!("pools.{pool}"), units::count))).collect(),
            shutdown_limit: layers.read("shutdown.limit", units::duration),
            schedule: read_schedule(layers),
            effective: layers.effective(),
            data_dir,
        }
    }
}

/// A length of time as settings write it, for flags that take one: `250ms`, `2s`, `1h30m`, `7d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|wrong| format!("{text:?} {wrong}"))
}

/// An address to connect to for one to listen on: all addresses become this machine's own.
pub(crate) fn reachable(mut bound: SocketAddr) -> SocketAddr {
    if bound.ip().is_unspecified() {
        bound.set_ip(if bound.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    bound
}

fn token(text: &str) -> Result<Token, Wrong> {
    text.parse().map_err(|_| {
        Wrong::new("is not a token", "write lsk_<key>_<secret>: letters and digits, a secret of at least 32 characters")
    })
}

fn read_log(layers: &mut Layers) -> Log {
    let format = layers.read("log.format", |text| match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err(Wrong::new("is not a log format", "write human or json")),
    });
    let filter = layers.read("log.filter", |text| match tracing_subscriber::EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Wrong::new("is not a log filter", "write for example info, or info,longshore_jobs=debug")),
    });
    Log { format, filter, filter_is_chosen: layers.is_chosen("log.filter") }
}

fn read_credentials(layers: &mut Layers) -> Option<Credentials> {
    let text = |text: &str| Ok(text.to_owned());
    let access_key_id = layers.read("local_bucket.access_key_id", text);
    let secret_access_key = layers.read("local_bucket.secret_access_key", text);
    let (id, secret) = ("local_bucket.access_key_id", "local_bucket.secret_access_key");
    match (access_key_id.is_empty(), secret_access_key.is_empty()) {
        (true, true) => None,
        (false, false) => Some(Credentials { access_key_id, secret_access_key: Secret(secret_access_key) }),
        (true, false) => {
            layers.fault(id, Wrong::new("is missing although the secret is set", "set both or neither"));
            None
        }
        (false, true) => {
            layers.fault(secret, Wrong::new("is missing although the access key id is set", "set both or neither"));
            None
        }
    }
}

/// The secret of a webhook; it and the webhook come together.
fn read_inbox_secret(layers: &mut Layers, inbox: &InboxEngine) -> Option<WebhookSecret> {
    let secret = layers.read("inbox_secret", |text| units::optional(text, units::webhook_secret));
    match (inbox, &secret) {
        (InboxEngine::Webhook, None) => layers.fault(
            "inbox_secret",
            Wrong::new("is missing although inbox_url is webhook:", "set one of at least 32 characters"),
        ),
        (InboxEngine::Webhook, Some(_)) | (_, None) => {}
        (_, Some(_)) => {
            layers.fault("inbox_secret", Wrong::new("is set although inbox_url is not webhook:", "remove it"));
        }
    }
    secret
}

fn read_s3(layers: &mut Layers) -> S3 {
    let endpoint = layers.read("s3_endpoint", |text| units::optional(text, units::public_url));
    let path_style = layers.read("s3.path_style", |text| units::word(text, &["auto", "yes", "no"]));
    let checksums = layers.read("s3.checksums", |text| units::word(text, &["when_required", "when_supported"]));
    S3 {
        path_style: path_style == "yes" || (path_style == "auto" && endpoint.is_some()),
        endpoint,
        public_endpoint: layers.read("s3.public_endpoint", |text| units::optional(text, units::public_url)),
        region: layers.read("s3.region", |text| units::optional(text, units::region)),
        all_checksums: checksums == "when_supported",
        read_budget: layers.read("s3.read_budget", units::memory),
        put_budget: layers.read("s3.put_budget", units::memory),
    }
}

fn read_sqs(layers: &mut Layers) -> Sqs {
    Sqs {
        receivers: layers.read("sqs.receivers", units::receivers),
        wait: layers.read("sqs.wait", units::long_poll),
        visibility: layers.read("sqs.visibility", units::visibility),
        region: layers.read("sqs.region", |text| units::optional(text, units::region)),
    }
}

fn read_limits(layers: &mut Layers) -> Limits {
    Limits {
        policy_life: layers.read("limits.policy_life", units::some_duration),
        max_size: layers.read("limits.max_size", units::object_size),
        expiry_grace: layers.read("limits.expiry_grace", units::duration),
        resume_after: layers.read("limits.resume_after", units::some_duration),
        sweep_min_age: layers.read("limits.sweep_min_age", units::duration),
        sweep_restore_window: layers.read("limits.sweep_restore_window", units::duration),
        sweep_applies: layers.read("sweep.apply", units::truth),
        first_poll: layers.read("limits.first_poll", units::duration),
        blob_grace: layers.read("limits.blob_grace", units::duration),
    }
}

fn read_intake(layers: &mut Layers) -> Intake {
    Intake {
        wait: layers.read("intake.wait", units::duration),
        files_wait: layers.read("intake.files_wait", units::duration),
        max_body: layers.read("intake.max_body", units::body_size),
    }
}

fn read_schedule(layers: &mut Layers) -> BTreeMap<String, Cron> {
    let mut schedule = BTreeMap::new();
    for path in layers.paths_below("schedule.") {
        let cron = layers.read(&path, |text| units::optional(if text == "never" { "" } else { text }, units::cron));
        let kind = path.trim_start_matches("schedule.").to_owned();
        schedule.extend(cron.map(|cron| (kind, cron)));
    }
    schedule
}
