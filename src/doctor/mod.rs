//! `longshore doctor`: whether this installation works, check by check, and how to mend what does not.
//!
//! Asking and judging are kept apart: each file asks servers and disks for facts, and gives them to pure functions that judge
//! them. No check can hang (each has a limit), end the program (each runs in a task of its own), or change what others work
//! with. Nothing is migrated. What is written is taken away again, but for the org of the round trip and a job that does nothing.
//!
//! # Layout
//!
//! - [`finding`]: what a check has found
//! - `settings`, `ledger`, `queue`, `redis`, `disk`, `rights`, `bucket`, `inbox`, `workers`: a group of checks each
//! - [`round_trip`]: an upload through the real API

mod bucket;
mod disk;
mod finding;
mod inbox;
mod ledger;
mod queue;
mod redis;
mod rights;
pub(crate) mod round_trip;
mod settings;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::ledger::Db;
use longshore_jobs::outside::{Clock, SystemClock};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

pub(crate) use self::finding::{Finding, Findings, Outcome};
use crate::app::{self, s3_options};
use crate::bucket::s3::{self, S3Bucket};
use crate::config::{BucketEngine, Config};
use crate::folder;
use crate::queue::engine::Engine;

/// How long most checks may take.
const SHORT: Duration = Duration::from_secs(10);
/// How long those may take that ask several things of a server, or wait for the retries of a client.
const LONG: Duration = Duration::from_secs(45);

/// The names of the checks that others depend on.
const SCHEMA: &str = "ledger schema";
const OPEN_BUCKET: &str = "bucket";
const PUBLIC_URL: &str = "public url";

/// One examination, from its first check to its last.
pub(crate) struct Doctor {
    config: Config,
    findings: Findings,
    tell: Box<dyn Fn(&Finding) + Send>,
    /// What serves the data folder of this machine.
    serving: Option<String>,
    db: Option<Db>,
}

impl Doctor {
    /// `tell` hears of every finding at once.
    pub(crate) fn new(config: Config, tell: impl Fn(&Finding) + Send + 'static) -> Self {
        let serving = folder::serving(&config.data_dir).ok().flatten().map(|serving| serving.url);
        Self { config, findings: Findings::default(), tell: Box::new(tell), serving, db: None }
    }

    /// All checks but the round trip.
    pub(crate) async fn look(&mut self) {
        self.look_at_settings().await;
        self.look_at_ledger().await;
        self.look_at_disks().await;
        self.look_at_queue().await;
        self.look_at_bucket().await;
        self.look_at_workers().await;
    }

    /// The address of whoever serves here; `None` when nobody does, or there is no telling.
    pub(crate) fn serving(&self) -> Option<&str> {
        self.serving.as_deref()
    }

    /// Whether the ledger can be worked with.
    pub(crate) const fn has_ledger(&self) -> bool {
        self.db.is_some()
    }

    /// Whether a server answers at the public URL.
    pub(crate) fn is_reached(&self) -> bool {
        self.findings.passed(PUBLIC_URL)
    }

    /// Adds what another has found.
    pub(crate) fn add(&mut self, finding: Finding) {
        (self.tell)(&finding);
        self.findings.0.push(finding);
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
        self.check("data folder", SHORT, settings::data_folder(self.config.clone())).await;
        let (config, serving) = (self.config.clone(), self.serving.clone());
        self.check(PUBLIC_URL, SHORT, settings::public_url(config, serving)).await;
        self.add(settings::scheme(&self.config).of("https"));
    }

    async fn look_at_ledger(&mut self) {
        if self.config.database.file().is_some_and(|file| !file.exists()) {
            self.add(Outcome::skipped("there is none yet: `longshore up` or `longshore migrate` makes it").of(SCHEMA));
            return;
        }
        for finding in self.group(SCHEMA, SHORT, ledger::look(self.config.clone())).await {
            self.add(finding);
        }
        if !self.findings.passed(SCHEMA) {
            return;
        }
        let config = self.config.clone();
        match timeout(SHORT, Box::pin(app::open_ledger(&config))).await {
            Ok(Ok(db)) => {
                self.check("ledger write", SHORT, ledger::write(db.clone())).await;
                self.db = Some(db);
            }
            Ok(Err(error)) => self.add(ledger::unopened(&error).of("ledger write")),
            Err(_) => self.add(silent(SHORT).of("ledger write")),
        }
    }

    async fn look_at_disks(&mut self) {
        for (name, path) in disk::places(&self.config) {
            self.check(name, SHORT, disk::look(path)).await;
        }
    }

    async fn look_at_queue(&mut self) {
        for finding in self.group("redis", SHORT, redis::look(self.config.queue.clone())).await {
            self.add(finding);
        }
        let engine = self.engine().await;
        let (Some(db), Some(engine)) = (self.db.clone(), engine) else {
            self.add(Outcome::skipped("it needs the ledger, and a queue that answers").of("queue"));
            return;
        };
        let runs = self.serving.is_some() || self.config.database.file().is_none();
        self.check("queue", LONG, queue::look(db, engine, self.config.clone(), runs)).await;
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
        let opened = match self.config.bucket.clone() {
            BucketEngine::Folder(_) => None,
            BucketEngine::S3(name) => Some(self.open_bucket(&name).await),
        };
        let queue = self.look_at_inbox().await;
        let bucket = match opened {
            Some(Some(bucket)) => bucket,
            Some(None) => return,
            None => {
                self.add(
                    Outcome::skipped("a folder, which the server serves: the round trip goes through it")
                        .of(OPEN_BUCKET),
                );
                return;
            }
        };
        for finding in self.group("bucket rights", LONG, rights::look(Arc::clone(&bucket), self.config.limits)).await {
            self.add(finding);
        }
        let origin = settings::origin(&self.config);
        for finding in self.group("cors", LONG, bucket::look_from_page(Arc::clone(&bucket), origin)).await {
            self.add(finding);
        }
        self.check("notification", LONG, bucket::look_at_routes(Arc::clone(&bucket), self.config.inbox.clone(), queue))
            .await;
        self.check("lifecycle", LONG, bucket::look_at_rules(bucket, self.config.limits)).await;
    }

    async fn open_bucket(&mut self, name: &str) -> Option<Arc<S3Bucket>> {
        // Small parts: a small object is enough to be read in ranges.
        let options = s3::Options { part_size: rights::PART, ..s3_options(&self.config, name) };
        let opened = tokio::spawn(async move { Box::pin(S3Bucket::open(options)).await });
        match timeout(LONG, opened).await {
            Ok(Ok(Ok(bucket))) => {
                let bucket = Arc::new(bucket);
                let greeted = Arc::clone(&bucket);
                self.check(OPEN_BUCKET, LONG, async move { rights::greet(&greeted).await }).await;
                self.findings.passed(OPEN_BUCKET).then_some(bucket)
            }
            Ok(Ok(Err(error))) => {
                self.add(bucket::unopened(&error).of(OPEN_BUCKET));
                None
            }
            Ok(Err(_)) | Err(_) => {
                self.add(silent(LONG).of(OPEN_BUCKET));
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
            self.add(Outcome::skipped("it needs the ledger").of("workers"));
            return;
        };
        let runs = self.serving.is_some() || self.config.database.file().is_none();
        for finding in self.group("workers", SHORT, workers::look(db, runs)).await {
            self.add(finding);
        }
    }

    async fn check(
        &mut self,
        name: &'static str,
        limit: Duration,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) {
        for finding in self.group(name, limit, async move { vec![work.await.of(name)] }).await {
            self.add(finding);
        }
    }

    /// The findings of a group, or one of this name when it took too long or broke down.
    async fn group(
        &self,
        name: &'static str,
        limit: Duration,
        work: impl Future<Output = Vec<Finding>> + Send + 'static,
    ) -> Vec<Finding> {
        guarded(name, limit, work).await
    }
}

async fn guarded(
    name: &'static str,
    limit: Duration,
    work: impl Future<Output = Vec<Finding>> + Send + 'static,
) -> Vec<Finding> {
    let task = AbortOnDropHandle::new(tokio::spawn(Box::pin(work)));
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
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_ended_and_one_that_breaks_down_ends_nothing() {
        let hung = guarded("ledger", SHORT, std::future::pending()).await;
        assert_eq!(hung, [silent(SHORT).of("ledger")]);

        let broken = guarded("ledger", SHORT, async { panic!("nobody thought of this") }).await;
        assert_eq!(broken[0].status(), finding::Status::Failed);
    }
}
