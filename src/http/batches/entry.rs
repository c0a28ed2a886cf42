//! A batch as clients see it.

use std::collections::BTreeMap;

use longshore_jobs::ledger::{batches, dead_letters};
use longshore_jobs::model::batch::{Count, Mode, Progress};
use longshore_jobs::model::{Batch, Status, Target, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use super::super::Http;
use super::super::errors::ApiError;

/// One entry under `batches`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchEntry {
    id: Uuid,
    mode: Mode,
    created_at: Timestamp,
    updated_at: Timestamp,
    expires_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
    target: Option<Target>,
    /// How many were sent; mode `each`.
    lines: Option<i64>,
    /// How many of the lines an earlier upload's ref stands for.
    known: i64,
    /// Whether every line has its upload.
    ready: bool,
    /// Uploads by status.
    counts: BTreeMap<&'static str, i64>,
    /// Bytes of all uploads: as found, or else as declared.
    bytes: i64,
    /// Bytes of those that are files.
    bytes_done: i64,
    /// The part of the tasks that has ended, from 0 to 1.
    progress: f64,
    task_count: i64,
    task_status_pending: i64,
    task_status_running: i64,
    task_result_successes: i64,
    task_result_failures: i64,
    max_files: Option<i64>,
    max_file_size: Option<i64>,
    manifest: Option<ManifestEntry>,
    /// Its job is dead: a person has to look.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    attention: bool,
}

#[derive(Debug, Serialize)]
struct ManifestEntry {
    lines: i64,
}

/// The batch with its counts as they are now.
pub async fn entry(http: &Http, batch: Batch) -> Result<BatchEntry, ApiError> {
    let mut entries = entries(http, vec![batch]).await?;
    entries.pop().ok_or(ApiError::BatchNotFound)
}

/// As [`entry`], of many at once.
pub async fn entries(http: &Http, rows: Vec<Batch>) -> Result<Vec<BatchEntry>, ApiError> {
    let ids: Vec<Uuid> = rows.iter().map(|batch| batch.id).collect();
    let mut counts = batches::counts_of(&http.ctx.db, &ids).await?;
    let open = rows.iter().filter(|batch| batch.closed_at.is_none());
    let moved: Vec<_> = open.map(|batch| (batch.id, batch.updated_at)).collect();
    let stuck = dead_letters::stuck(&http.ctx.db, &moved).await?;
    let describe = |batch: Batch| {
        let attention = stuck.contains(&batch.id);
        BatchEntry { attention, ..describe(&batch, &counts.remove(&batch.id).unwrap_or_default()) }
    };
    Ok(rows.into_iter().map(describe).collect())
}

fn describe(batch: &Batch, counts: &[Count]) -> BatchEntry {
    let of = |status: Status| counts.iter().find(|count| count.status == status);
    let progress = Progress::of(batch, counts);
    BatchEntry {
        id: batch.id,
        mode: batch.mode,
        created_at: batch.created_at,
        updated_at: batch.updated_at,
        expires_at: batch.policy_expires_at,
        closed_at: batch.closed_at,
        target: batch.target(),
        lines: batch.lines,
        known: batch.known,
        ready: batch.resume_at.is_none(),
        counts: Status::ALL
            .iter()
            .map(|status| (status.as_str(), of(*status).map_or(0, |count| count.uploads)))
            .collect(),
        bytes: counts.iter().map(|count| count.bytes).sum(),
        bytes_done: of(Status::Done).map_or(0, |count| count.bytes),
        progress: progress.fraction(),
        task_count: progress.tasks,
        task_status_pending: progress.pending,
        task_status_running: progress.running,
        task_result_successes: progress.successes,
        task_result_failures: progress.failures,
        max_files: batch.max_files,
        max_file_size: batch.max_file_size,
        manifest: batch.manifest_lines.map(|lines| ManifestEntry { lines }),
        attention: false,
    }
}
