//! The fleet itself: servers of its own, two intakes, three workers, and the fire.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::cloud::Route;
use crate::engines::{Cloud, Engines, Servers};
use crate::server::{Place, Process, TOKEN, client};

const WORKERS: usize = 3;
/// How often a worker is killed.
const KILL_EVERY: Duration = Duration::from_secs(2);

/// Everything soon, so that a lost hint is made up for while somebody looks.
const IMPATIENT: &[(&str, &str)] = &[
    ("LONGSHORE_SCHEDULE__POLL_ARRIVALS", "* * * * * *"),
    ("LONGSHORE_SCHEDULE__RESUME_STALLED", "* * * * * *"),
    ("LONGSHORE_SCHEDULE__EXPIRE_UPLOADS", "* * * * * *"),
    ("LONGSHORE_SCHEDULE__SWEEP_BUCKET", "*/5 * * * * *"),
    ("LONGSHORE_SCHEDULE__FOLD_REPORTS", "* * * * * *"),
    ("LONGSHORE_LIMITS__POLICY_LIFE", "20s"),
    ("LONGSHORE_LIMITS__EXPIRY_GRACE", "2s"),
    ("LONGSHORE_LIMITS__FIRST_POLL", "2s"),
    ("LONGSHORE_LIMITS__RESUME_AFTER", "2s"),
    ("LONGSHORE_LIMITS__SWEEP_MIN_AGE", "20s"),
    ("LONGSHORE_INTAKE__WAIT", "2s"),
    ("LONGSHORE_POSTGRES__CONNECTIONS", "12"),
    ("LONGSHORE_LOG__FILTER", "error"),
];

/// Servers of one's own, ended with it.
struct OwnServers(TempDir);

impl OwnServers {
    fn start() -> Self {
        let own = Self(TempDir::new().unwrap());
        own.order("start", &[]);
        own
    }

    fn restart(&self, server: &str) {
        self.order("restart", &[server]);
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn order(&self, verb: &str, more: &[&str]) {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("ops/servers");
        let ended = Command::new(script).arg(verb).arg(self.path()).args(more).status().unwrap();
        assert!(ended.success(), "ops/servers {verb} {more:?}: {ended}");
    }
}

impl Drop for OwnServers {
    fn drop(&mut self) {
        self.order("stop", &[]);
    }
}

/// The processes, and the place where all of them run. Workers end before the servers they use.
pub struct Fleet {
    intakes: Vec<Process>,
    workers: Mutex<Vec<Process>>,
    turn: AtomicUsize,
    place: Place,
    route: (String, String),
    redis: String,
    servers: OwnServers,
}

impl Fleet {
    pub async fn start() -> Self {
        let servers = tokio::task::spawn_blocking(OwnServers::start).await.unwrap();
        let at = Servers::in_folder(servers.path());
        let mut cloud = Cloud::new(&at.aws).await;
        // What the bucket tells is read by somebody else first.
        let told = cloud.queue_url.clone();
        cloud.queue_url = cloud.make_queue("fleet", &at.aws).await;
        let mut settings = at.settings(Engines::Redis, &cloud).await;
        settings.extend(IMPATIENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let route = (told, cloud.queue_url.clone());
        let place = Place::new(settings, Some(cloud));
        place.print(&["migrate"]);
        let intakes = (0..2).map(|_| place.spawn(&["intake"])).collect();
        let workers = Mutex::new((0..WORKERS).map(|_| place.spawn_quiet(&["worker"])).collect());
        Self { intakes, workers, turn: AtomicUsize::new(0), place, route, redis: at.redis, servers }
    }

    /// The notices' way.
    pub fn cloud(&self) -> Route {
        let (from, to) = self.route.clone();
        Route { sqs: self.place.cloud().sqs.clone(), from, to }
    }

    /// The intake whose turn it is.
    pub fn intake(&self) -> &str {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.intakes[turn % self.intakes.len()].url
    }

    /// What a command prints.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.place.print(arguments)
    }

    pub async fn staging_is_empty(&self) {
        self.place.staging_is_empty().await;
    }

    /// How many entries there are of each hash.
    pub async fn files(&self) -> BTreeMap<String, usize> {
        let (mut files, mut after) = (BTreeMap::new(), String::new());
        loop {
            let page = self.get(&format!("/api/files?perPage=100{after}")).await;
            for entry in page["files"].as_array().unwrap() {
                *files.entry(entry["hash"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            let Some(next) = page["next"].as_str() else { return files };
            after = format!("&after={next}");
        }
    }

    /// The report once it counts so many files.
    pub async fn report_of(&self, files: usize) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let report = self.get("/api/files/report").await["files"][0].clone();
            if report["count"] == files {
                return report;
            }
            assert!(Instant::now() < deadline, "the report should count {files} files: {report}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn get(&self, path: &str) -> Value {
        let request = client().get(format!("{}{path}", self.intake())).bearer_auth(TOKEN);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// kill -9 of a worker; another one takes its place.
    async fn kill_worker(&self, which: usize) {
        let mut workers = self.workers.lock().await;
        workers[which].kill();
        workers[which] = self.place.spawn_quiet(&["worker"]);
    }

    fn flush_redis(&self) {
        let port = url::Url::parse(&self.redis).unwrap().port().unwrap().to_string();
        let ended = Command::new("redis-cli").args(["-p", &port, "flushall"]).output().unwrap();
        assert!(ended.status.success());
    }
}

/// What fell.
#[derive(Debug, Default)]
pub struct Fallen {
    workers: usize,
    /// What, and how many clients had done their part by then.
    servers: Vec<(&'static str, usize)>,
}

/// Kills a worker every two seconds, and lets each server fall once, until all clients have done their part.
pub async fn fire(fleet: Arc<Fleet>, finished: Arc<AtomicUsize>, all: usize, seed: u64) -> Fallen {
    let (mut random, mut fallen) = (StdRng::seed_from_u64(seed), Fallen::default());
    let mut falls = ["redis restarted", "redis flushed", "postgres restarted"].into_iter().enumerate().peekable();
    loop {
        let finished = finished.load(Ordering::Relaxed);
        // At a quarter, a half and three quarters of the way.
        while let Some((_, what)) = falls.next_if(|(place, _)| finished * 4 >= all * (place + 1)) {
            let fleet = Arc::clone(&fleet);
            tokio::task::spawn_blocking(move || match what {
                "redis restarted" => fleet.servers.restart("redis"),
                "redis flushed" => fleet.flush_redis(),
                _ => fleet.servers.restart("postgres"),
            })
            .await
            .unwrap();
            fallen.servers.push((what, finished));
        }
        if finished >= all {
            return fallen;
        }
        fleet.kill_worker(random.random_range(0..WORKERS)).await;
        fallen.workers += 1;
        tokio::time::sleep(KILL_EVERY).await;
    }
}

impl Fallen {
    /// There was a fire at all, while some of so many clients were at work.
    pub fn check(&self, all: usize) {
        assert!(self.workers >= 3, "too few workers fell: {self}");
        let amidst = self.servers.iter().filter(|(_, finished)| *finished < all).count();
        assert_eq!(amidst, 3, "not every server fell while there was work: {self}");
    }
}

impl fmt::Display for Fallen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} workers killed", self.workers)?;
        self.servers.iter().try_for_each(|(what, finished)| write!(f, ", {what} at {finished}"))
    }
}
