//! `POST /api/batches`: the lines are checked and written, and jobs make uploads of them; or one policy for very many files.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use longshore_jobs::issue_batch::IssueBatch;
use longshore_jobs::job::{Lane, NewJob, with_causes};
use longshore_jobs::ledger::{batches, blobs};
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::target::TargetKind;
use longshore_jobs::model::{Batch, Digest, Target};
use tokio::time::timeout;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::{POSTED, envelope};
use super::super::asked::Query;
use super::super::auth::Caller;
use super::super::body::unread;
use super::super::errors::ApiError;
use super::super::uploads::request::other_size;
use super::body::{Body, Form};
use super::entry::entry;
use super::lines::{Bounds, Claim, Lines, refusal};

/// The most bytes that a body may have.
pub const MOST_BYTES: usize = 16 << 20;
/// How many digests are looked up with one query.
const DIGESTS: usize = 2_000;
/// How long the queue may take to take the job. One that is away must not keep the client: the row stands and is resumed.
const PUSH: Duration = Duration::from_millis(500);

/// Takes in a batch.
pub async fn create(
    State(http): State<Arc<Http>>,
    caller: Caller,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let form = Form::of(request.headers())?;
    let target = if form == Form::Lines { target_of(&query)? } else { None };
    let text = Bytes::from_request(request, &http).await.map_err(|error| unread(&error, MOST_BYTES))?;
    let bounds = Bounds { longest: http.settings.max_body, max_size: http.ctx.limits.max_size };
    // Ten thousand lines keep a core busy for a while.
    let body = tokio::task::spawn_blocking(move || Body::read(form, &text, bounds)).await;
    match body.map_err(|error| ApiError::Internal(error.into()))?? {
        Body::Each(own, lines) => each(&http, &caller, own.or(target), lines).await,
        Body::Prefix(fields) => Err(fields.fault("mode", "is not known here")),
    }
}

/// The target that a query gives to lines which have none of their own.
fn target_of(query: &Query) -> Result<Option<Target>, ApiError> {
    let wrong = |name, fault: &str| ApiError::UnprocessableQuery { name, fault: fault.to_owned() };
    match (query.parsed::<TargetKind>("target")?, query.text("number")?) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(wrong("target", "must be given with `number`")),
        (Some(_), None) => Err(wrong("number", "must be given with `target`")),
        (Some(kind), Some(number)) => {
            let target = Target { kind, number };
            target.fault().map_or(Ok(()), |fault| Err(wrong("number", fault)))?;
            Ok(Some(target))
        }
    }
}

/// One row and its lines in one go; their uploads come later.
async fn each(http: &Http, caller: &Caller, target: Option<Target>, lines: Lines) -> Result<Response, ApiError> {
    check_claims(http, caller, lines.claims).await?;
    let now = http.ctx.now();
    let count = i64::try_from(lines.count).unwrap_or(i64::MAX);
    let fresh = Batch::each((caller.org(), caller.user()), target, count, now);
    let batch = Batch { resume_at: Some(now + http.ctx.limits.resume_after), ..fresh };
    batches::insert(&http.ctx.db, batch.clone(), lines.chunks).await?;
    put_on(http, batch.id).await;
    accepted(http, batch).await
}

/// Refuses the first line that declares another size than the bytes with its hash have.
async fn check_claims(http: &Http, caller: &Caller, claims: Vec<Claim>) -> Result<(), ApiError> {
    for claims in claims.chunks(DIGESTS) {
        let digests: Vec<Digest> = claims.iter().map(|claim| claim.sha256).collect();
        let blobs = blobs::live(&http.ctx.db, caller.org(), &digests).await?;
        let sizes: HashMap<Digest, i64> = blobs.into_iter().map(|blob| (blob.sha256, blob.size)).collect();
        for Claim { line, sha256, size } in claims {
            if let Some(known) = sizes.get(sha256).filter(|known| *known != size) {
                let wrong = ApiError::Unprocessable { field: "size".to_owned(), fault: other_size(*known) };
                return Err(refusal(*line, wrong));
            }
        }
    }
    Ok(())
}

async fn put_on(http: &Http, batch: Uuid) {
    let job = NewJob::of(&IssueBatch { batch }, Lane::Bulk, http.ctx.now());
    match timeout(PUSH, http.ctx.queue.push(vec![job])).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = with_causes(&error), %batch, "a batch is left to be resumed"),
        Err(_) => tracing::warn!(%batch, "the queue was silent for {PUSH:?}; a batch is left to be resumed"),
    }
}

async fn accepted(http: &Http, batch: Batch) -> Result<Response, ApiError> {
    let location = format!("/api/batches/{}", batch.id);
    let entries = [entry(http, batch).await?];
    let mut response = (StatusCode::ACCEPTED, Json(envelope(POSTED, "batches", &entries))).into_response();
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::from_str(&location).expect("a UUID is ASCII"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    Ok(response)
}
