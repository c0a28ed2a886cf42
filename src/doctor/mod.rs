//! `longshore doctor`: whether this installation works, check by check, and how to mend what does not.
//!
//! Asking and judging are kept apart: each file asks servers and disks for facts, and gives them to pure functions that judge
//! them. No check can hang (each has a limit), end the program (each runs in a task of its own), or change what others work
//! with. Nothing is migrated. What is written is taken away again, also from a bucket that is slow and when the program is
//! stopped, but for the org of the round trip and a job that does nothing.
//!
//! # Layout
//!
//! - [`finding`]: what a check has found
//! - `settings`, `ledger`, `queue`, `redis`, `disk`, `rights`, `bucket`, `files`, `inbox`, `workers`, `sweep`: a group of checks each
//! - [`round_trip`]: an upload through the real API

mod bucket;
mod disk;
mod files;
mod finding;
mod inbox;
mod ledger;
mod queue;
mod redis;
mod rights;
pub(crate) mod round_trip;
mod settings;
mod sweep;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use longshore_jobs::ledger::Db;
use longshore_jobs::outside::{Clock, SystemClock};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

pub(crate) use self::disk::sounds_full;
pub(crate) use self::finding::{Finding, Findings, Outcome};
use crate::app::{self, s3_options};
use crate::bucket::s3::{self, S3Bucket};
use crate::config::{BucketEngine, Config};
use crate::folder;
use crate::queue::engine::Engine;

/// How long most checks may take.
const SHORT: Duration = Duration::from_secs(10);
/// How long it may take to be let in by a server, with the tries of its client.
const KNOCKING: Duration = Duration::from_secs(20);
/// How long those may take that ask several things of a server, or wait for the retries of a client.
const LONG: Duration = Duration::from_secs(45);

/// The names of the checks that others depend on.
const SCHEMA: &str = "ledger schema";
const OPEN_BUCKET: &str = "bucket";
const PUBLIC_URL: &str = "public url";
const WORKERS: &str = "workers";
/// Found where nobody serves a ledger that was served before.
const SERVICE: &str = "service";

/// One examination, from its first check to its last.
pub(crate) struct Doctor {
    config: Config,
    findings: Findings,
    tell: Box<dyn Fn(&Finding) + Send>,
    /// What serves the data folder of this machine.
    serving: Option<String>,
    db: Option<Db>,
    /// What is being tried out in the bucket.
    objects: Option<rights::Objects>,
}

impl Doctor {
    /// `tell` hears of every finding at once.
    pub(crate) fn new(config: Config, tell: impl Fn(&Finding) + Send + 'static) -> Self {
        let serving = folder::serving(&config.data_dir).ok().flatten().map(|serving| serving.url);
        Self { config, findings: Findings::default(), tell: Box::new(tell), serving, db: None, objects: None }
    }

    /// All checks but the round trip.
    pub(crate) async fn look(&mut self) {
        self.look_at_settings().await;
        self.look_at_disks().await;
        self.look_at_ledger().await;
        self.look_at_workers().await;
        self.look_at_queue().await;
        self.look_at_bucket().await;
        self.look_at_sweep().await;
    }

    /// The address of whoever serves here; `None` when nobody does, or there is no telling.
    pub(crate) fn serving(&self) -> Option<&str> {
        self.serving.as_deref()
    }

    /// The ledger, where it can be worked with.
    pub(crate) const fn ledger(&self) -> Option<&Db> {
        self.db.as_ref()
    }

    /// Whether a server answers at the public URL.
    pub(crate) fn is_reached(&self) -> bool {
        self.findings.passed(PUBLIC_URL)
    }

    /// Whether uploads would stand still, whoever takes them in.
    pub(crate) fn lacks_workers(&self) -> bool {
        self.findings.failed(WORKERS)
    }

    /// Whether files that are made in the data folder now are the service's.
    pub(crate) fn is_owner(&self) -> bool {
        settings::is_ours(&self.config.data_dir)
    }

    /// Adds what another has found.
    pub(crate) fn add(&mut self, finding: Finding) {
        (self.tell)(&finding);
        self.findings.0.push(finding);
    }

    /// Removes what was tried out in the bucket, also when that took too long or was broken off.
    pub(crate) async fn clear(&mut self) {
        if let Some(objects) = self.objects.clone() {
            self.check("bucket delete", LONG, Box::pin(objects.clear())).await;
            self.objects = None;
        }
    }

    /// The end: what was opened is closed.
    pub(crate) async fn finish(self) -> Findings {
        if let Some(db) = self.db {
            drop(timeout(SHORT, db.close()).await);
        }
        self.findings
    }

    async fn look_at_settings(&mut self) {
        self.add(settings::engines(&self.config).of("configuration"));
        self.check("data folder", SHORT, Box::pin(settings::data_folder(self.config.clone()))).await;
        let (config, serving) = (self.config.clone(), self.serving.clone());
        self.check(PUBLIC_URL, SHORT, Box::pin(settings::public_url(config, serving))).await;
        self.add(settings::scheme(&self.config).of("https"));
    }

    async fn look_at_ledger(&mut self) {
        if self.config.database.file().is_some_and(|file| !file.exists()) {
            self.add(Outcome::skipped("there is none yet: `longshore up` or `longshore migrate` makes it").of(SCHEMA));
            return;
        }
        self.examine(SCHEMA, SHORT, Box::pin(ledger::look(self.config.clone()))).await;
        if !self.findings.passed(SCHEMA) {
            return;
        }
        let config = self.config.clone();
        match timeout(SHORT, Box::pin(app::open_ledger(&config))).await {
            Ok(Ok(db)) => {
                self.check("ledger write", SHORT, Box::pin(ledger::write(db.clone()))).await;
                self.db = Some(db);
            }
            Ok(Err(error)) => self.add(ledger::unopened(&error).of("ledger write")),
            Err(_) => self.add(silent(SHORT).of("ledger write")),
        }
    }

    async fn look_at_disks(&mut self) {
        for (name, path) in disk::places(&self.config) {
            self.check(name, SHORT, Box::pin(disk::look(path))).await;
        }
    }

    async fn look_at_queue(&mut self) {
        self.examine("redis", SHORT, Box::pin(redis::look(self.config.queue.clone()))).await;
        let engine = self.engine().await;
        let (Some(db), Some(engine)) = (self.db.clone(), engine) else {
            self.add(Outcome::skipped("it needs the ledger, and a queue that answers").of("queue"));
            return;
        };
        let runs = self.serving.is_some() || self.config.database.file().is_none();
        self.check("queue", LONG, Box::pin(queue::look(db, engine, runs))).await;
    }

    async fn engine(&self) -> Option<Arc<dyn Engine>> {
        let (config, db) = (self.config.clone(), self.db.clone()?);
        let opened = tokio::spawn(async move {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            Box::pin(app::open_queue(&config, &db, &clock, &[])).await
        });
        timeout(SHORT, opened).await.ok()?.ok()?.ok()
    }

    async fn look_at_bucket(&mut self) {
        let bucket = match self.config.bucket.clone() {
            BucketEngine::S3(name) => self.open_bucket(&name).await,
            BucketEngine::Folder(folder) => {
                let is_ours = self.is_owner();
                self.check(OPEN_BUCKET, SHORT, Box::pin(files::look(folder, is_ours))).await;
                None
            }
        };
        let queue = self.look_at_inbox().await;
        if let Some(bucket) = bucket {
            self.look_into_bucket(&bucket, queue).await;
        }
    }

    async fn look_into_bucket(&mut self, bucket: &Arc<S3Bucket>, queue: Option<String>) {
        let (limits, inbox) = (self.config.limits, self.config.inbox.clone());
        let origin = settings::origin(&self.config, self.serving.as_deref());
        let us = || Arc::clone(bucket);
        let objects = rights::Objects::of(us());
        self.objects = Some(objects.clone());
        self.examine("bucket rights", LONG, Box::pin(rights::look(objects, limits))).await;
        self.clear().await;
        self.examine("cors", LONG, Box::pin(bucket::look_from_page(us(), origin))).await;
        self.check("notification", LONG, Box::pin(bucket::look_at_routes(us(), inbox, queue))).await;
        self.check("lifecycle", LONG, Box::pin(bucket::look_at_rules(us(), limits))).await;
    }

    async fn open_bucket(&mut self, name: &str) -> Option<Arc<S3Bucket>> {
        // Small parts: a small object is enough to be read in ranges.
        let options = s3::Options { part_size: rights::PART, ..s3_options(&self.config, name) };
        let opened = tokio::spawn(async move { Box::pin(S3Bucket::open(options)).await });
        match timeout(KNOCKING, opened).await {
            Ok(Ok(Ok(bucket))) => {
                let bucket = Arc::new(bucket);
                let greeted = Arc::clone(&bucket);
                self.check(OPEN_BUCKET, KNOCKING, Box::pin(async move { rights::greet(&greeted).await })).await;
                self.findings.passed(OPEN_BUCKET).then_some(bucket)
            }
            Ok(Ok(Err(error))) => {
                self.add(bucket::unopened(&error).of(OPEN_BUCKET));
                None
            }
            Ok(Err(_)) | Err(_) => {
                self.add(silent(KNOCKING).of(OPEN_BUCKET));
                None
            }
        }
    }

    /// The ARN of the queue of notices, where there is one that tells it.
    async fn look_at_inbox(&mut self) -> Option<String> {
        let (finding, arn) = inbox::look(&self.config).await;
        self.add(finding.of("inbox"));
        arn
    }

    async fn look_at_workers(&mut self) {
        let Some(db) = self.db.clone() else {
            self.add(Outcome::skipped("it needs the ledger").of(WORKERS));
            return;
        };
        let runs = self.serving.is_some() || self.config.database.file().is_none();
        let here = runs && self.config.database.file().is_some();
        self.examine(WORKERS, SHORT, Box::pin(workers::look(db, runs, here))).await;
    }

    async fn look_at_sweep(&mut self) {
        let Some(db) = self.db.clone() else {
            self.add(Outcome::skipped("it needs the ledger").of("sweep"));
            return;
        };
        self.check("sweep", SHORT, Box::pin(sweep::look(db))).await;
    }

    async fn check(&mut self, name: &'static str, limit: Duration, work: BoxFuture<'static, Outcome>) {
        self.examine(name, limit, Box::pin(async move { vec![work.await.of(name)] })).await;
    }

    /// Adds what a group of checks finds, or one finding of this name when it took too long or broke down.
    async fn examine(&mut self, name: &'static str, limit: Duration, work: BoxFuture<'static, Vec<Finding>>) {
        for finding in guarded(name, limit, work).await {
            self.add(finding);
        }
    }
}

async fn guarded(name: &'static str, limit: Duration, work: BoxFuture<'static, Vec<Finding>>) -> Vec<Finding> {
    let task = AbortOnDropHandle::new(tokio::spawn(work));
    match timeout(limit, task).await {
        Ok(Ok(findings)) => findings,
        Ok(Err(error)) => vec![
            Outcome::failed(format!("the check itself broke down: {error}"), "report this as a bug of longshore")
                .of(name),
        ],
        Err(_) => vec![silent(limit).of(name)],
    }
}

/// A length of time as a person reads it.
fn told(length: Duration) -> String {
    match length.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn silent(limit: Duration) -> Outcome {
    Outcome::failed(
        format!("no answer within {limit:?}"),
        "see that the server runs and that nothing on the way, a firewall for instance, swallows what is sent to it",
    )
}

/// A client for one question and another, as clients of ours have them.
fn http_client(url: &Url, limit: Duration) -> Result<reqwest::Client, reqwest::Error> {
    crate::client::build_for(url, limit)
}

#[cfg(test)]
mod tests {
    use super::finding::Status;
    use super::*;

    #[tokio::test]
    async fn a_check_that_hangs_is_ended_and_one_that_breaks_down_ends_nothing() {
        let limit = Duration::from_millis(10);
        let hung = guarded("ledger", limit, Box::pin(std::future::pending())).await;
        assert_eq!(hung, [silent(limit).of("ledger")]);

        let broken = guarded("ledger", LONG, Box::pin(async { panic!("nobody thought of this") })).await;
        assert_eq!(broken[0].status(), Status::Failed);
    }

    #[test]
    fn lengths_of_time_are_told_in_the_unit_that_fits() {
        let lengths = [0, 119, 300, 10_000, 400_000].map(|seconds| told(Duration::from_secs(seconds)));
        assert_eq!(lengths, ["0 s", "119 s", "5 min", "2 h", "4 days"]);
    }
}
