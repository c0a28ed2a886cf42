//! `GET /api/admin/uploads/{id}`: one upload's way with its times, what is on the queue for it, and what went wrong.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use longshore_jobs::job::{Pool, with_causes};
use longshore_jobs::ledger::failures::Failure;
use longshore_jobs::ledger::timeline::{self, Moment, Timeline};
use longshore_jobs::model::step::{Name, Step};
use longshore_jobs::model::trace::TraceId;
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::model::{Digest, Timestamp, Upload};
use longshore_jobs::outside::QueuedJob;
use longshore_jobs::roster;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::GOT;
use super::super::asked::Id;
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::super::openapi::{params, refusals, shapes};
use super::super::uploads::{UploadEntry, entries};
use super::Operator;
use super::letters::{self, LetterEntry};

/// How long the queue may take to tell what it has.
const LOOK: Duration = Duration::from_secs(1);

/// One upload and what became of it.
#[derive(Serialize, ToSchema)]
pub struct TimelineAnswer {
    message: &'static str,
    uploads: Vec<TimelineEntry>,
}

/// An upload, the steps of its way, its jobs, and what they met with.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineEntry {
    upload: OperatorsUpload,
    org: OrgName,
    /// What has to happen next, as a sentence.
    #[schema(example = "a worker to hash it; put on again at 2026-02-11T09:31:00.000Z if it has not moved by then")]
    waits_for: String,
    /// What it means that it ended without a file, and what to do about it; null of any other.
    #[schema(required, example = "What arrived has another size than was promised. The client sends it again.")]
    meaning: Option<&'static str>,
    /// What the client, or the manifest of its batch, said that would come.
    declared: ContentEntry,
    /// What came.
    found: ContentEntry,
    /// In the order of the way; while the upload is open, also those that are still to come.
    steps: Vec<StepEntry>,
    /// What is on the queue for it now.
    jobs: Vec<JobEntry>,
    /// Attempts that failed, also of jobs that have succeeded since; kept for 30 days.
    failures: Vec<FailureEntry>,
    /// Its jobs that are dead.
    dead_letters: Vec<LetterEntry>,
}

/// An upload as its org sees it, without its policy, and what only operators need.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OperatorsUpload {
    #[serde(flatten)]
    entry: UploadEntry,
    org_id: Uuid,
    user_id: Uuid,
    /// Where its object is put.
    object_key: String,
    /// The version of the object that arrived.
    #[schema(required)]
    etag: Option<String>,
    /// Who told that it is there.
    #[schema(required, value_type = Option<String>, example = "notice")]
    arrived_via: Option<ArrivedVia>,
    /// How often the object changed while it was looked at.
    changes: i64,
    /// When its job is put on again if it has not moved by then.
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    resume_at: Option<Timestamp>,
    /// When its object is looked for next.
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    next_poll_at: Option<Timestamp>,
    /// What all log lines about it have in common (W3C Trace Context).
    #[schema(required, value_type = Option<String>, example = "0af7651916cd43dd8448eb211c80319c")]
    trace_id: Option<TraceId>,
}

/// Whose it is.
#[derive(Serialize, ToSchema)]
struct OrgName {
    id: Uuid,
    name: String,
}

/// Bytes by their size and digest.
#[derive(Serialize, ToSchema)]
struct ContentEntry {
    /// Null where nobody said, or nothing came.
    #[schema(required)]
    size: Option<i64>,
    /// SHA-256; null where nobody said, or it was not hashed.
    #[schema(required, value_type = Option<shapes::Digest>)]
    hash: Option<Digest>,
}

/// A step that was taken, or is still to come.
#[derive(Serialize, ToSchema)]
struct StepEntry {
    #[schema(value_type = String, example = "hashed")]
    step: Name,
    /// When it was taken; null when it is still to come.
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    at: Option<Timestamp>,
    #[schema(required)]
    note: Option<String>,
}

/// A job on the queue.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct JobEntry {
    #[schema(example = "verify_upload")]
    kind: String,
    #[schema(value_type = shapes::Pool)]
    pool: Pool,
    /// `waiting` or `running`; null when the queue did not answer, and this is the job that should be there.
    #[schema(required)]
    state: Option<&'static str>,
    /// When it may run; null unless it waits.
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    due_at: Option<Timestamp>,
    /// How many attempts have failed.
    attempts: u32,
    max_attempts: u32,
    /// Of the last failed attempt.
    #[schema(required)]
    error: Option<String>,
}

/// Failed attempts of one job.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FailureEntry {
    #[schema(example = "verify_upload")]
    kind: String,
    attempts: i64,
    #[schema(value_type = shapes::Timestamp)]
    first_at: Timestamp,
    #[schema(value_type = shapes::Timestamp)]
    last_at: Timestamp,
    /// Of the last one.
    error: String,
}

/// Look at everything that is known of one upload.
///
/// By the id of the upload or of its file, of whichever org. Scope `admin`.
#[utoipa::path(get, path = "/api/admin/uploads/{id}", tag = "Admin", operation_id = "getUploadTimeline", params(params::Id),
    responses((status = 200, description = "The upload and its timeline", body = TimelineAnswer), refusals::OneUpload))]
pub async fn show(operator: Operator, State(http): State<Arc<Http>>, id: Id) -> Result<Json<TimelineAnswer>, ApiError> {
    let id = id.0.ok_or(ApiError::UploadNotFound)?;
    let timeline = timeline::find(&http.ctx.db, id).await?.ok_or(ApiError::UploadNotFound)?;
    let jobs = jobs(&http, &timeline).await;
    Ok(Json(TimelineAnswer { message: GOT, uploads: vec![describe(&http, &operator.0, timeline, jobs).await?] }))
}

/// What is on the queue. One that is away must not hide the rest: then nobody knows.
async fn jobs(http: &Http, timeline: &Timeline) -> Option<Vec<QueuedJob>> {
    let subjects = timeline.subjects();
    let fault = match timeout(LOOK, http.ctx.queue.about(&subjects)).await {
        Ok(Ok(mut jobs)) => {
            timeline::fill_errors(&mut jobs, &timeline.failures);
            return Some(jobs);
        }
        Ok(Err(error)) => with_causes(&error),
        Err(_) => format!("the queue was silent for {LOOK:?}"),
    };
    tracing::warn!(error = fault, "a timeline does not tell what is on the queue");
    None
}

fn entries_of(jobs: Option<Vec<QueuedJob>>, upload: &Upload) -> Vec<JobEntry> {
    match jobs {
        Some(jobs) => jobs.into_iter().map(JobEntry::from).collect(),
        None => timeline::next_job(upload).into_iter().map(JobEntry::unknown).collect(),
    }
}

async fn describe(
    http: &Http,
    caller: &Caller,
    timeline: Timeline,
    jobs: Option<Vec<QueuedJob>>,
) -> Result<TimelineEntry, ApiError> {
    let moment = Moment { now: http.ctx.now(), grace: http.ctx.limits.expiry_grace };
    let (waits_for, steps) = (timeline.waits_for(jobs.as_deref().unwrap_or_default(), moment), timeline.steps());
    let jobs = entries_of(jobs, &timeline.upload);
    let Timeline { upload, next_poll_at, org_name, failures, letters, promised, .. } = timeline;
    let meaning = upload.meaning();
    let declared = ContentEntry { size: upload.size, hash: promised };
    let found = ContentEntry { size: upload.arrived_size, hash: upload.verified_sha256 };
    let dead_letters = letters::entries(&http.ctx.db, letters).await?;
    Ok(TimelineEntry {
        org: OrgName { id: upload.org_id, name: org_name },
        upload: operators_upload(http, caller, upload, next_poll_at).await?,
        waits_for,
        meaning,
        declared,
        found,
        steps: steps.into_iter().map(StepEntry::from).collect(),
        jobs,
        failures: failures.into_iter().map(FailureEntry::from).collect(),
        dead_letters,
    })
}

async fn operators_upload(
    http: &Http,
    caller: &Caller,
    upload: Upload,
    next_poll_at: Option<Timestamp>,
) -> Result<OperatorsUpload, ApiError> {
    // Whoever has its policy could put bytes in the client's place.
    let bare = Upload { policy: None, ..upload.clone() };
    let entry = entries(http, caller, vec![bare]).await?.pop();
    Ok(OperatorsUpload {
        entry: entry.expect("one entry for one row"),
        org_id: upload.org_id,
        user_id: upload.user_id,
        object_key: upload.object_key,
        etag: upload.etag,
        arrived_via: upload.arrived_via,
        changes: upload.changes,
        resume_at: upload.resume_at,
        next_poll_at,
        trace_id: upload.traceparent.map(|parent| parent.trace_id()),
    })
}

impl From<Step> for StepEntry {
    fn from(Step { name, at, note }: Step) -> Self {
        Self { step: name, at, note }
    }
}

impl From<QueuedJob> for JobEntry {
    fn from(job: QueuedJob) -> Self {
        Self {
            kind: job.kind,
            pool: job.pool,
            state: Some(if job.is_running { "running" } else { "waiting" }),
            due_at: (!job.is_running).then_some(job.due),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            error: job.error,
        }
    }
}

impl JobEntry {
    /// The job that should be there, where nobody can say whether it is.
    fn unknown((kind, pool): (&str, Pool)) -> Self {
        Self {
            kind: kind.to_owned(),
            pool,
            state: None,
            due_at: None,
            attempts: 0,
            max_attempts: roster::attempts(kind),
            error: None,
        }
    }
}

impl From<Failure> for FailureEntry {
    fn from(failure: Failure) -> Self {
        let Failure { kind, attempts, first_at, last_at, error, .. } = failure;
        Self { kind, attempts, first_at, last_at, error }
    }
}
