//! `POST /api/batches`: the lines are checked and written, and jobs make uploads of them; or one policy for very many files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;
use http::StatusCode;
use longshore_jobs::issue_batch::IssueBatch;
use longshore_jobs::job::{Lane, NewJob};
use longshore_jobs::ledger::{LedgerError, batches, blobs};
use longshore_jobs::model::idempotency::{IdempotencyKey, Route};
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::target::TargetKind;
use longshore_jobs::model::{Batch, Digest, Target};
use uuid::Uuid;

use super::super::answer::POSTED;
use super::super::asked::Query;
use super::super::auth::Caller;
use super::super::body::unread;
use super::super::errors::ApiError;
use super::super::openapi::{params, refusals};
use super::super::push::push_within;
use super::super::uploads::request::other_size;
use super::super::{Http, idempotency};
use super::body::{BatchWish, Body, Form};
use super::entry::BatchesAnswer;
use super::lines::{Bounds, Claim, Lines, refusal};
use super::{answer, prefix};

/// The most bytes that a body may have.
pub const MOST_BYTES: usize = 16 << 20;
/// How many digests are looked up with one query.
const DIGESTS: usize = 2_000;
/// How long the queue may take to take the job.
const PUSH: Duration = Duration::from_millis(500);

/// Ask for many uploads.
///
/// Either up to 10,000 uploads, as a list or as lines of JSON: each gets a policy of its own within moments, see the batch's uploads.
/// One bad line refuses all, and says which it is. Or, in mode `prefix`, one policy under which any number of files can be posted, each
/// with its relative path at the end of the key. Scope `upload`.
#[utoipa::path(post, path = "/api/batches", tag = "Batches", operation_id = "postBatch",
    params(params::ForLines, params::IdempotencyKey),
    request_body(content((BatchWish = "application/json"), (String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "The batch that the same request has made", body = BatchesAnswer),
        (status = 201, description = "A new batch with its policy; mode `prefix`", body = BatchesAnswer,
            headers(("Location" = String, description = "Where it can be looked at"))),
        (status = 202, description = "A new batch whose uploads are being made; mode `each`", body = BatchesAnswer,
            headers(("Location" = String, description = "Where it can be looked at"), ("Retry-After" = u32, description = "Seconds"))),
        refusals::ManyWishes))]
pub async fn create(
    State(http): State<Arc<Http>>,
    caller: Caller,
    query: Query,
    request: Request,
) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let (form, header) = (Form::of(request.headers())?, idempotency::header(request.headers())?);
    // An object says itself what it is for, but a parameter that will not do is refused beside it, too.
    let target = target_of(&query)?.filter(|_| form == Form::Lines);
    let text = Bytes::from_request(request, &http).await.map_err(|error| unread(&error, MOST_BYTES))?;
    let key = idempotency::sent_with(&http, &caller, (Route::Batches, header), &asked_for(target.as_ref(), &text));
    if let Some(made) = idempotency::made(&http, key.as_ref()).await? {
        return repeat(&http, &caller, made).await;
    }
    let bounds = Bounds { longest: http.settings.max_body, max_size: http.ctx.limits.max_size };
    // Ten thousand lines keep a core busy for a while.
    let body = tokio::task::spawn_blocking(move || Body::read(form, &text, bounds)).await;
    match body.map_err(|error| ApiError::Internal(error.into()))?? {
        Body::Each(own, lines) => each((&http, &caller), own.or(target), lines, key).await,
        Body::Prefix(fields) => prefix::create((&http, &caller), fields, key).await,
    }
}

/// All that makes one request another: the body, and a target beside it.
fn asked_for<'b>(target: Option<&Target>, text: &'b [u8]) -> Cow<'b, [u8]> {
    match target {
        None => text.into(),
        Some(Target { kind, number }) => {
            [kind.as_str().as_bytes(), b" ", number.as_bytes(), b"\n", text].concat().into()
        }
    }
}

/// Writes the batch down and answers with it; with that of a twin of the request, where it was faster.
pub async fn answer_written(
    (http, caller): (&Http, &Caller),
    code: StatusCode,
    (batch, chunks): (Batch, Vec<String>),
    key: Option<IdempotencyKey>,
) -> Result<Response, ApiError> {
    match batches::insert(&http.ctx.db, batch.clone(), chunks, key.clone()).await {
        Err(LedgerError::Repeated) => {
            let made = idempotency::made_meanwhile(http, key.as_ref()).await?;
            return repeat(http, caller, made).await;
        }
        written => written?,
    }
    if batch.resume_at.is_some() {
        put_on(http, batch.id).await;
    }
    answer((http, caller), code, POSTED, batch).await
}

async fn repeat(http: &Http, caller: &Caller, made: Uuid) -> Result<Response, ApiError> {
    let batch = batches::find(&http.ctx.db, made).await?.ok_or(ApiError::BatchNotFound)?;
    answer((http, caller), StatusCode::OK, POSTED, batch).await
}

/// The target that a query gives to lines which have none of their own.
fn target_of(query: &Query) -> Result<Option<Target>, ApiError> {
    match (query.parsed::<TargetKind>("target")?, query.text("number")?) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(query.fault("target", "must be given with `number`")),
        (Some(_), None) => Err(query.fault("number", "must be given with `target`")),
        (Some(kind), Some(number)) => {
            let target = Target { kind, number };
            target.fault().map_or(Ok(()), |fault| Err(query.fault("number", fault)))?;
            Ok(Some(target))
        }
    }
}

/// One row and its lines in one go; their uploads come later.
async fn each(
    (http, caller): (&Http, &Caller),
    target: Option<Target>,
    lines: Lines,
    key: Option<IdempotencyKey>,
) -> Result<Response, ApiError> {
    check_claims(http, caller, lines.claims).await?;
    let now = http.ctx.now();
    let count = i64::try_from(lines.count).unwrap_or(i64::MAX);
    let fresh = Batch::each((caller.org(), caller.user()), target, count, now);
    let resume_at = Some(now + http.ctx.limits.resume_after);
    let batch = Batch { resume_at, traceparent: caller.trace(), ..fresh };
    answer_written((http, caller), StatusCode::ACCEPTED, (batch, lines.chunks), key).await
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
    if let Err(error) = push_within(http, job, PUSH).await {
        tracing::warn!(error, %batch, "a batch is left to be resumed");
    }
}
