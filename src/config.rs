//! The configuration: what an operator may set, typed.
//!
//! `ops/longshore.toml` documents every setting and is at the same time the defaults: it is built in. Over it lie the file,
//! the environment and the flags, in this order. Everything that is wrong is reported at once, so that nobody mends a
//! configuration one start at a time; a key that does not exist is wrong, since it is nearly always a slip of the pen.

mod effective;
mod engines;
mod layers;
mod mistakes;
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
fn reachable(mut bound: SocketAddr) -> SocketAddr {
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
        region: layers.read("s3.region", |text| units::optional(text, |text| Ok(text.to_owned()))),
        all_checksums: checksums == "when_supported",
        read_budget: layers.read("s3.read_budget", units::memory),
    }
}

fn read_sqs(layers: &mut Layers) -> Sqs {
    Sqs {
        receivers: layers.read("sqs.receivers", units::receivers),
        wait: layers.read("sqs.wait", units::long_poll),
        visibility: layers.read("sqs.visibility", units::visibility),
        region: layers.read("sqs.region", |text| units::optional(text, |text| Ok(text.to_owned()))),
    }
}

fn read_limits(layers: &mut Layers) -> Limits {
    Limits {
        policy_life: layers.read("limits.policy_life", units::some_duration),
        max_size: layers.read("limits.max_size", units::object_size),
        expiry_grace: layers.read("limits.expiry_grace", units::duration),
        resume_after: layers.read("limits.resume_after", units::some_duration),
        sweep_min_age: layers.read("limits.sweep_min_age", units::duration),
        first_poll: layers.read("limits.first_poll", units::duration),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("longshore.toml");
        std::fs::write(&path, file).unwrap();
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Config::load(Layered { file: Some(path), environment: owned(environment), flags: owned(flags) })
    }

    #[test]
    fn the_documented_defaults_are_whole_and_valid() {
        let config = load("", &[], &[]).unwrap();

        assert_eq!(config.database, DatabaseEngine::Sqlite("data/longshore.db".into()));
        assert_eq!(config.bucket, BucketEngine::Folder("data/bucket".into()));
        assert_eq!(config.public_url(config.listen), "http://127.0.0.1:8080");
        assert_eq!(config.limits.policy_life, Limits::default().policy_life);
        assert_eq!(config.limits.max_size, Limits::default().max_size);
        assert_eq!(config.limits.expiry_grace, Limits::default().expiry_grace);
        assert_eq!(config.limits.resume_after, Limits::default().resume_after);
        assert_eq!(config.limits.sweep_min_age, Limits::default().sweep_min_age);
        assert_eq!(config.limits.first_poll, Limits::default().first_poll);
        assert_eq!(config.pools.len(), Pool::ALL.len());
        assert!(config.bootstrap_token.is_none() && config.local_bucket.is_none());
    }

    #[test]
    fn every_scheduled_job_is_on_the_roster() {
        for kind in load("", &[], &[]).unwrap().schedule.keys() {
            assert!(longshore_jobs::roster::find(kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file_over_the_defaults() {
        let file = "listen = \"127.0.0.1:1\"\npublic_url = \"http://file\"\ndata_dir = \"file\"\n[pools]\nverify = 2\n";
        let environment = [("LONGSHORE_PUBLIC_URL", "http://environment"), ("LONGSHORE_DATA_DIR", "environment")];
        let config = load(file, &environment, &[("data_dir", "flag")]).unwrap();

        assert_eq!(config.listen.port(), 1);
        assert_eq!(config.public_url(config.listen), "http://environment");
        assert_eq!(config.data_dir, PathBuf::from("flag"));
        assert_eq!(config.database, DatabaseEngine::Sqlite("flag/longshore.db".into()), "it follows the data folder");
        assert_eq!(config.pools[&Pool::Verify], 2);
        assert_eq!(config.pools[&Pool::Upkeep], 4);
    }

    #[test]
    fn nested_keys_are_reached_from_the_environment() {
        let environment = [
            ("LONGSHORE_SCHEDULE__REBUILD_REPORTS", "never"),
            ("LONGSHORE_LOCAL_BUCKET__ACCESS_KEY_ID", "id"),
            ("LONGSHORE_LOCAL_BUCKET__SECRET_ACCESS_KEY", "s3cret"),
            ("LONGSHORE_TOKEN", "for clients"),
            ("LONGSHORE_SERVER", "for clients"),
            ("HOME", "/root"),
        ];
        let config = load("", &environment, &[]).unwrap();

        assert!(!config.schedule.contains_key("rebuild_reports") && config.schedule.contains_key("fold_reports"));
        assert_eq!(config.local_bucket.unwrap().secret_access_key.reveal(), "s3cret");
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_place() {
        let file = "lisen = \"x\"\n[limits]\nmax_size = \"much\"\npolicy_life = \"0s\"\n[intake]\nwait = [1]\n";
        let environment = [("LONGSHORE_POOLS__VERIFY", "none"), ("LONGSHORE_NO_SUCH", "1")];
        let flags = [("database_url", "mysql://db/longshore"), ("schedule.sweep_bucket", "hourly")];
        let error = load(file, &environment, &flags).unwrap_err();

        let told = error.to_string();
        for part in [
            "8 mistakes",
            "longshore.toml: lisen",
            "longshore.toml: limits.max_size = \"much\"",
            "limits.policy_life",
            "intake.wait",
            "LONGSHORE_POOLS__VERIFY",
            "LONGSHORE_NO_SUCH",
            "--database-url",
            "is not a URL that can be used here",
            "--schedule-sweep-bucket",
        ] {
            assert!(told.contains(part), "{part} is missing in: {told}");
        }
    }

    #[test]
    fn one_half_of_the_credentials_is_a_mistake() {
        let error = load("[local_bucket]\naccess_key_id = \"id\"", &[], &[]).unwrap_err();
        assert!(error.to_string().contains("local_bucket.secret_access_key is missing"), "{error}");
    }

    #[test]
    fn engines_on_servers_are_read_with_what_belongs_to_them() {
        let file = "database_url = \"postgres://me:pw@db/l\"\nqueue_url = \"redis://queue\"\nbucket_url = \"s3://acme\"
            inbox_url = \"sqs+http://cloud:4566/000000000000/notices\"\ns3_endpoint = \"http://cloud:4566\"";
        let config = load(file, &[("LONGSHORE_POSTGRES__CONNECTIONS", "40")], &[]).unwrap();

        assert!(!config.is_local() && config.s3.path_style && config.inbox_secret.is_none());
        assert_eq!((config.postgres_connections, config.sqs.wait), (40, Duration::from_secs(20)));
        assert!(
            load("bucket_url = \"s3://acme\"\ninbox_url = \"none:\"", &[], &[]).unwrap().is_local(),
            "by its ledger"
        );
    }

    #[test]
    fn an_inbox_that_does_not_fit_is_a_mistake() {
        let told = |file: &str| load(file, &[], &[]).unwrap_err().to_string();
        assert!(told("bucket_url = \"s3://acme\"").contains("no notices of a bucket on S3"));
        assert!(told("inbox_url = \"sqs+https://h/1/q\"").contains("no notices of the local bucket"));
        let webhook = "bucket_url = \"s3://acme\"\ninbox_url = \"webhook:\"\n";
        assert!(told(webhook).contains("inbox_secret is missing"));
        assert!(told(&format!("{webhook}inbox_secret = \"short\"")).contains("is too short"));
        assert!(told(&format!("inbox_secret = \"{}\"", "x".repeat(32))).contains("is set although"));
        assert!(
            load(&format!("{webhook}inbox_secret = \"{}\"", "x".repeat(32)), &[], &[]).unwrap().inbox_secret.is_some()
        );
    }

    #[test]
    fn a_file_that_is_no_toml_or_not_there_is_a_mistake() {
        assert!(load("listen = ", &[], &[]).unwrap_err().to_string().contains("is not TOML"));
        let layered = Layered { file: Some("/nowhere/longshore.toml".into()), ..Layered::default() };
        assert!(Config::load(layered).unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn secrets_show_in_no_rendering() {
        let secret = "0123456789abcdef0123456789abcdef";
        let file = format!(
            "bootstrap_token = \"lsk_a_{secret}\"\n[local_bucket]\naccess_key_id = \"id\"\nsecret_access_key = \"{secret}\""
        );
        let config = load(&file, &[], &[]).unwrap();

        let shown = format!("{config:?}{}", config.effective);
        assert!(!shown.contains(secret), "{shown}");
        assert!(shown.contains("(hidden)") && shown.contains("access_key_id = \"id\""), "{shown}");
        let unclosed = format!("listen = \"127.0.0.1:1\"\nbootstrap_token = \"lsk_a_{secret}\n");
        let url = format!("queue_url = \"redis://me:{secret}@queue\"");
        let public = format!("public_url = \"http://:{secret}@here\"");
        for file in [format!("bootstrap_token = \"{secret}\""), unclosed, url, public] {
            let broken = load(&file, &[], &[]).unwrap_err().to_string();
            assert!(!broken.contains(secret), "{broken}");
        }
    }

    #[test]
    fn broken_toml_is_told_by_its_line() {
        let error = load("listen = \"127.0.0.1:1\"\ndata_dir = \"x\n", &[], &[]).unwrap_err().to_string();
        assert!(error.contains("longshore.toml is not TOML (line 2: "), "{error}");
    }

    #[test]
    fn the_effective_configuration_reads_back_as_itself() {
        let config = load("[pools]\nverify = 3\n", &[], &[("data_dir", "elsewhere")]).unwrap();
        let again = load(&config.effective.to_string(), &[], &[]).unwrap();
        assert_eq!(config.effective.settings(), again.effective.settings());
    }

    #[test]
    fn a_server_of_a_runs_own_takes_no_address_of_anothers() {
        let flags = [("metrics_listen", "127.0.0.1:9000"), ("public_url", "http://elsewhere")];
        let config = load("", &[], &flags).unwrap().on_free_port();
        assert_eq!((config.listen.port(), config.metrics_listen), (0, None));
        assert_eq!(config.public_url(([127, 0, 0, 1], 7).into()), "http://127.0.0.1:7");
    }

    #[test]
    fn an_address_for_all_interfaces_is_reached_on_this_machine() {
        let config = load("", &[], &[]).unwrap();
        assert_eq!(config.public_url(([0, 0, 0, 0], 99).into()), "http://127.0.0.1:99");
    }
}
