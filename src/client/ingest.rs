//! `longshore ingest`: files and folders through the API, many at a time.
//!
//! In mode `each` a file's `ref` is made of its relative path, its bytes and its target, so a run that was broken off is simply run
//! again: what is done answers at once. In mode `prefix` the batch as a whole is found again, by its key. A file that fails does
//! not stop the others; a server that nobody reaches, or a token that does not do, stops them all.

mod batch;
mod content;
mod each;
mod flights;
mod journey;
mod outcome;
mod pins;
mod post;
mod prefix;
mod progress;
mod summary;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_jobs::job::with_causes;
use longshore_jobs::model::{Digest, Status, Target};
use longshore_jobs::outside::BoxError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::api::{Api, Report, Upload};
use outcome::{Landed, Outcome};

pub(crate) use longshore_jobs::model::batch::Mode;
pub(crate) use pins::Pins;
pub(crate) use progress::Progress;
pub(crate) use summary::Summary;
use walk::{Found, Walked};

/// How many files are on their way at once unless somebody says otherwise.
pub(crate) const CONCURRENCY: usize = 256;

/// What to ingest, and how.
#[derive(Clone, Debug)]
pub(crate) struct IngestOptions {
    /// Files and folders; one folder where there are pins.
    pub(crate) paths: Vec<PathBuf>,
    /// What the files are for.
    pub(crate) target: Option<Target>,
    /// How many files at once; at least one.
    pub(crate) concurrency: usize,
    /// How they are asked for.
    pub(crate) mode: Mode,
    /// The only files to take in, with their hashes.
    pub(crate) pins: Option<Pins>,
}

impl IngestOptions {
    /// Everything below the paths, as it is usually done.
    pub(crate) fn of(paths: Vec<PathBuf>, concurrency: usize) -> Self {
        Self { paths, target: None, concurrency, mode: Mode::Each, pins: None }
    }
}

/// Uploads everything below the paths and tells how it went. Once `stop` is cancelled, what is on its way is dropped: the
/// next run finds it again.
pub(crate) async fn run(api: Api, options: IngestOptions, progress: Progress, stop: CancellationToken) -> Summary {
    run_without(Vec::new(), (api, options), progress, stop).await
}

/// As [`run`], but what longshore itself keeps, the `own` folders and files, is left out.
pub(crate) async fn run_without(
    own: Vec<PathBuf>,
    (api, options): (Api, IngestOptions),
    progress: Progress,
    stop: CancellationToken,
) -> Summary {
    let started = Instant::now();
    let mut summary = Summary::default();
    let found = match find(options.paths.clone(), own).await {
        Ok(mut walked) => {
            if let Some(pins) = &options.pins {
                pins.select(&mut walked);
            }
            walked.left_out.iter().for_each(|path| progress.left_out(path));
            summary.of_walk(walked)
        }
        Err(error) => {
            summary.broken_off = Some(error.to_string());
            Vec::new()
        }
    };
    progress.begin(&found);
    let progress = Arc::new(progress);
    let newest = upload_all((api.clone(), options), found, (&progress, &stop), &mut summary).await;
    progress.end();
    summary.elapsed = started.elapsed();
    if summary.broken_off.is_none() {
        summary.report = settled_report(&api, &newest, &stop).await;
    }
    summary
}

async fn find(paths: Vec<PathBuf>, own: Vec<PathBuf>) -> Result<Walked, JoinError> {
    tokio::task::spawn_blocking(move || walk::walk(&paths, &own)).await
}

/// What all files of a run share.
struct Run {
    /// Another for each run.
    id: Uuid,
    api: Api,
    target: Option<Target>,
    pins: Option<Pins>,
    permits: Arc<Semaphore>,
    progress: Arc<Progress>,
    outcomes: mpsc::Sender<Outcome>,
}

impl Run {
    /// Leave to take one file on its way.
    async fn permit(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.permits).acquire_owned().await.expect("nobody closes it")
    }

    /// The hash that the manifest of this run has for a file.
    fn pinned(&self, name: &str) -> Option<Digest> {
        self.pins.as_ref()?.of(name)
    }

    fn is_pinned(&self) -> bool {
        self.pins.is_some()
    }

    /// Tells of a file whose upload moves no more. Where the manifest alone has vouched for bytes that the org has already, the file is
    /// read: it may be another.
    async fn tell_end(&self, landed: Landed, upload: Upload) {
        let vouched_for = self.is_pinned() && !landed.sent && upload.status == Status::Done;
        let fault = if vouched_for { landed.ready.fault().await } else { None };
        self.tell(match fault {
            Some(reason) => Outcome::short(landed, Some(upload.id), reason),
            None => Outcome::of(landed, upload, self.is_pinned()),
        })
        .await;
    }

    async fn tell(&self, outcome: Outcome) {
        // Nobody listens any more when the run was stopped.
        self.outcomes.send(outcome).await.ok();
    }
}

/// Runs the files through, and returns when the newest of those that moved did so, by the server's clock.
async fn upload_all(
    (api, options): (Api, IngestOptions),
    found: Vec<Found>,
    (progress, stop): (&Arc<Progress>, &CancellationToken),
    summary: &mut Summary,
) -> String {
    let (outcomes, mut told) = mpsc::channel(CONCURRENCY);
    let run = Arc::new(Run {
        id: Uuid::new_v4(),
        api,
        target: options.target,
        pins: options.pins,
        permits: Arc::new(Semaphore::new(options.concurrency.max(1))),
        progress: Arc::clone(progress),
        outcomes,
    });
    // Its drop ends whatever is still on its way.
    let (mut work, mut newest) = (JoinSet::new(), String::new());
    work.spawn(take_in(run, found, options.mode));
    loop {
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => {
                summary.broken_off = Some("interrupted".to_owned());
                return newest;
            }
            outcome = told.recv() => outcome,
        };
        let Some(outcome) = outcome else { break };
        progress.finished(&outcome);
        newest = newest.max(outcome.moved_at.clone());
        summary.add(outcome);
    }
    let broken_off = work.join_next().await.and_then(|ended| match ended {
        Ok(ended) => ended.err().map(|error| with_causes(&*error)),
        Err(error) => Some(error.to_string()),
    });
    // What went wrong before any file moved has the first word.
    summary.broken_off = summary.broken_off.take().or(broken_off);
    newest
}

async fn take_in(run: Arc<Run>, found: Vec<Found>, mode: Mode) -> Result<(), BoxError> {
    match mode {
        Mode::Each => each::each(run, found).await,
        Mode::Prefix => prefix::prefix(run, found).await,
    }
}

/// The report once it covers what this run did, or as it is after a few seconds: it is folded about once a second.
async fn settled_report(api: &Api, newest: &str, stop: &CancellationToken) -> Option<Report> {
    let deadline = Instant::now() + Duration::from_secs(6);
    loop {
        let report = match api.report().await {
            Ok(report) => report,
            Err(error) => {
                tracing::debug!(%error, "no report");
                return None;
            }
        };
        let covers = newest.is_empty() || report.as_of.as_deref().is_some_and(|as_of| as_of >= newest);
        if covers || Instant::now() >= deadline {
            return Some(report);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(150)) => {}
            () = stop.cancelled() => return Some(report),
        }
    }
}

#[cfg(test)]
mod tests;
