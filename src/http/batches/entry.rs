//! A batch as clients see it.

use std::collections::BTreeMap;

use longshore_jobs::ledger::{batches, dead_letters};
use longshore_jobs::model::batch::{Count, Mode, Progress};
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::{Batch, Status, Target, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::super::openapi::shapes;
use super::super::paging::ListPart;
use super::super::policy::PolicyEntry;

/// Batches.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchesAnswer {
    pub message: &'static str,
    pub batches: Vec<BatchEntry>,
}

/// A part of the org's batches.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchList {
    pub message: &'static str,
    pub batches: Vec<BatchEntry>,
    #[serde(flatten)]
    pub part: ListPart,
}

/// Many uploads that were asked for by one call, or any number of files under one policy.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchEntry {
    id: Uuid,
    #[schema(value_type = shapes::Mode)]
    mode: Mode,
    #[schema(value_type = shapes::Timestamp)]
    created_at: Timestamp,
    /// When the batch itself changed last; moves of its uploads do not count.
    #[schema(value_type = shapes::Timestamp)]
    updated_at: Timestamp,
    /// When its policy ends; mode `prefix`.
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    expires_at: Option<Timestamp>,
    /// When it ceased to take anything in.
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    closed_at: Option<Timestamp>,
    #[schema(required, value_type = Option<shapes::Target>)]
    target: Option<Target>,
    /// How many were sent; mode `each`.
    #[schema(required)]
    lines: Option<i64>,
    /// How many of the lines an earlier upload's ref stands for.
    known: i64,
    /// Whether every line has its upload.
    ready: bool,
    /// Uploads by status.
    #[schema(value_type = BTreeMap<String, i64>)]
    counts: BTreeMap<&'static str, i64>,
    /// Bytes of all uploads: as found, or else as declared.
    bytes: i64,
    /// Bytes of those that are files.
    bytes_done: i64,
    /// The part of the tasks that has ended, from 0 to 1.
    progress: f64,
    /// The uploads that it has to see to an end.
    task_count: i64,
    /// Those for which nothing has come in yet.
    task_status_pending: i64,
    /// Those whose bytes are being verified and stored.
    task_status_running: i64,
    /// Those that are files.
    task_result_successes: i64,
    /// Those that are not and will not be.
    task_result_failures: i64,
    /// How many files it takes; mode `prefix`.
    #[schema(required)]
    max_files: Option<i64>,
    /// Bytes that one file may have; mode `prefix`.
    #[schema(required)]
    max_file_size: Option<i64>,
    #[schema(required)]
    manifest: Option<ManifestEntry>,
    /// For any number of files; mode `prefix`.
    #[schema(required)]
    upload: Option<PolicyEntry>,
    /// Its job is dead: a person has to look.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    attention: bool,
}

/// The hashes that the files are to have.
#[derive(Debug, Serialize, ToSchema)]
struct ManifestEntry {
    /// How many are named.
    lines: i64,
}

/// The batch with its counts as they are now. A policy is for those alone who may upload.
pub async fn entry(http: &Http, caller: &Caller, batch: Batch) -> Result<BatchEntry, ApiError> {
    let mut entries = entries(http, caller, vec![batch]).await?;
    entries.pop().ok_or(ApiError::BatchNotFound)
}

/// As [`entry`], of many at once.
pub async fn entries(http: &Http, caller: &Caller, rows: Vec<Batch>) -> Result<Vec<BatchEntry>, ApiError> {
    let ids: Vec<Uuid> = rows.iter().map(|batch| batch.id).collect();
    let mut counts = batches::counts_of(&http.ctx.db, &ids).await?;
    let open = rows.iter().filter(|batch| batch.closed_at.is_none());
    let moved: Vec<_> = open.map(|batch| (batch.id, batch.updated_at)).collect();
    let stuck = dead_letters::stuck(&http.ctx.db, &moved).await?;
    let (now, url, may) = (http.ctx.now(), http.ctx.bucket.address().url, caller.may(Scope::Upload));
    let describe = |batch: Batch| {
        let policy = batch.policy.as_deref().filter(|_| may && batch.closed_at.is_none());
        let upload = PolicyEntry::of((policy, &url), batch.policy_expires_at, now)?;
        let attention = stuck.contains(&batch.id);
        Ok(BatchEntry { upload, attention, ..describe(&batch, &counts.remove(&batch.id).unwrap_or_default()) })
    };
    rows.into_iter().map(describe).collect()
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
        upload: None,
    }
}
