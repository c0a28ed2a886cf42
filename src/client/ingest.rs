//! `longshore ingest`: files and folders through the API, many at a time.
//!
//! Each file's `ref` is made of its relative path, its bytes and its target, so a run that was broken off is simply run
//! again: what is done answers at once. A file that fails does not stop the others; a server that nobody reaches, or a token
//! that does not do, stops them all.

mod content;
mod one_file;
mod progress;
mod summary;
mod walk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_jobs::model::Target;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::api::{Api, Report};

pub(crate) use progress::Progress;
pub(crate) use summary::Summary;
use walk::{Found, Walked};

/// How many files are on their way at once unless somebody says otherwise.
pub(crate) const CONCURRENCY: usize = 256;

/// What to ingest, and how.
#[derive(Clone, Debug)]
pub(crate) struct IngestOptions {
    /// Files and folders.
    pub(crate) paths: Vec<PathBuf>,
    /// What the files are for.
    pub(crate) target: Option<Target>,
    /// How many files at once; at least one.
    pub(crate) concurrency: usize,
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
        Ok(walked) => {
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
    let newest = upload_all(&api, &options, found, &progress, &stop, &mut summary).await;
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

/// Runs the files through, and returns when the newest of those that moved did so, by the server's clock.
async fn upload_all(
    api: &Api,
    options: &IngestOptions,
    found: Vec<Found>,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
    summary: &mut Summary,
) -> String {
    let target = Arc::new(options.target.clone());
    let (mut waiting, mut running, mut newest) = (found.into_iter(), JoinSet::new(), String::new());
    loop {
        while running.len() < options.concurrency.max(1)
            && let Some(file) = waiting.next()
        {
            running.spawn(one_file::ingest(api.clone(), Arc::clone(&target), file, Arc::clone(progress)));
        }
        let joined = tokio::select! {
            biased;
            () = stop.cancelled() => return broken_off(newest, "interrupted", summary),
            joined = running.join_next() => joined,
        };
        match joined {
            None => return newest,
            Some(Ok(Ok(outcome))) => {
                progress.finished(&outcome);
                newest = newest.max(outcome.moved_at.clone());
                summary.add(outcome);
            }
            Some(Ok(Err(fatal))) => return broken_off(newest, &longshore_jobs::job::with_causes(&fatal), summary),
            Some(Err(error)) => return broken_off(newest, &error.to_string(), summary),
        }
    }
}

/// The tasks that still run are dropped by the caller's return.
fn broken_off(newest: String, why: &str, summary: &mut Summary) -> String {
    summary.broken_off = Some(why.to_owned());
    newest
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
