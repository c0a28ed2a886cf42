//! `POST /api/uploads`: one row and one job, or no upload at all when the org has the bytes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use longshore_jobs::issue_policy::IssuePolicy;
use longshore_jobs::job::{Lane, NewJob};
use longshore_jobs::ledger::births::{self, Birth};
use longshore_jobs::ledger::{self, LedgerError, blobs, uploads};
use longshore_jobs::model::file::BlobState;
use longshore_jobs::model::idempotency::Route;
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::policy::PostPolicy;
use longshore_jobs::model::upload::policy_life;
use longshore_jobs::model::{Digest, Status, Upload};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::answer::POSTED;
use super::super::asked::Prefer;
use super::super::auth::Caller;
use super::super::body::{Fields, json_text};
use super::super::errors::ApiError;
use super::super::folds::fold_soon;
use super::super::openapi::{params, refusals};
use super::super::push::push_within;
use super::super::waiting::{self, Goal, lacks_policy};
use super::super::{Http, idempotency, rows};
use super::answer;
use super::entry::UploadsAnswer;
use super::request::{Asked, UploadWish, other_size};

/// Ask for an upload.
///
/// The answer carries a signed policy: post the bytes to its `url` as a multipart form with all `fields` and then the bytes as `file`. It
/// waits up to two seconds for a worker to sign one unless `Prefer` says otherwise. A `sha256` that the org has already makes a file at
/// once, and there is nothing to upload. Scope `upload`.
#[utoipa::path(post, path = "/api/uploads", tag = "Uploads", operation_id = "postUpload",
    params(params::Prefer, params::IdempotencyKey),
    request_body = UploadWish,
    responses(
        (status = 200, description = "The upload that stands under this `ref`, or that the same request has made", body = UploadsAnswer,
            headers(("Retry-After" = u32, description = "Seconds; while no worker has signed its policy yet"))),
        (status = 201, description = "A new upload, with its policy or done", body = UploadsAnswer,
            headers(("Location" = String, description = "Where it can be looked at"))),
        (status = 202, description = "A new upload whose policy no worker has signed yet", body = UploadsAnswer,
            headers(("Location" = String, description = "Where it can be looked at"), ("Retry-After" = u32, description = "Seconds"))),
        refusals::Wish))]
pub async fn create(
    State(http): State<Arc<Http>>,
    caller: Caller,
    prefer: Prefer,
    request: Request,
) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let header = idempotency::header(request.headers())?;
    let body = json_text(request, &http).await?;
    let key = idempotency::sent_with(&http, &caller, (Route::Uploads, header), &body);
    let asked = Asked::read(Fields::parse(&body)?, http.ctx.limits.max_size)?.once(key);
    if let Some(known) = known(&http, &caller, &asked).await? {
        return repeat(&http, &caller, known, prefer).await;
    }
    if let Some(upload) = place(&http, &caller, &asked).await? {
        let upload = if lacks_policy(&upload) { obtain_policy(&http, upload, prefer).await? } else { upload };
        let code = if lacks_policy(&upload) { StatusCode::ACCEPTED } else { StatusCode::CREATED };
        return answer((&http, &caller, prefer), code, POSTED, upload).await;
    }
    // Between the look and the insert, somebody else posted the same `ref` or the same request.
    let known = known(&http, &caller, &asked).await?;
    let known =
        known.ok_or_else(|| ApiError::Conflict("The upload of this `ref` ended just now; post again".into()))?;
    repeat(&http, &caller, known, prefer).await
}

/// The upload that the same request has made before, or that stands under the client's `ref`.
async fn known(http: &Http, caller: &Caller, asked: &Asked) -> Result<Option<Upload>, ApiError> {
    if let Some(made) = idempotency::made(http, asked.key.as_ref()).await? {
        return Ok(uploads::find(&http.ctx.db, made).await?);
    }
    let Some(client_ref) = &asked.client_ref else {
        return Ok(None);
    };
    let Some(known) = uploads::find_by_ref(&http.ctx.db, caller.org(), client_ref).await? else {
        return Ok(None);
    };
    let Some(key) = asked.key.clone() else {
        return Ok(Some(known));
    };
    match ledger::idempotency::keep(&http.ctx.db, key, known.id).await {
        Err(LedgerError::Repeated) => {
            let made = idempotency::made_meanwhile(http, asked.key.as_ref()).await?;
            Ok(uploads::find(&http.ctx.db, made).await?)
        }
        kept => Ok(kept.map(|()| Some(known))?),
    }
}

/// Answers a `ref` that stands already, with a policy that is good for a while if it is issued.
async fn repeat(http: &Http, caller: &Caller, known: Upload, prefer: Prefer) -> Result<Response, ApiError> {
    let renewed = known.status == Status::Issued && !is_good(http, &known) && renew(http, &known).await?;
    let wanting = renewed || lacks_policy(&known);
    let upload = if wanting { obtain_policy(http, known, prefer).await? } else { known };
    answer((http, caller, prefer), StatusCode::OK, POSTED, upload).await
}

/// Whether the policy lasts for a while yet and leads to where the bucket is now: a restart may have moved it.
fn is_good(http: &Http, upload: &Upload) -> bool {
    let soon = http.ctx.now() + http.ctx.limits.policy_life / 10;
    let policy = upload.policy.as_deref().and_then(|text| serde_json::from_str::<PostPolicy>(text).ok());
    upload.policy_expires_at.is_some_and(|end| end >= soon)
        && policy.is_some_and(|policy| policy.url == http.ctx.bucket.address().url)
}

/// Writes the row: done if the org has the bytes, else requested. `None` when its `ref` or its key was taken in the meantime.
async fn place(http: &Http, caller: &Caller, asked: &Asked) -> Result<Option<Upload>, ApiError> {
    let (now, limits) = (http.ctx.now(), http.ctx.limits);
    let known = match asked.sha256 {
        Some(sha256) => known_size(http, caller, asked, sha256).await?,
        None => None,
    };
    let fresh = asked.row(rows::fresh(caller, asked.filename.clone(), now));
    let row = Upload {
        resume_at: Some(now + limits.resume_after),
        policy_expires_at: Some(now + policy_life(limits.policy_life, fresh.size)),
        ..fresh
    };
    let birth = Birth::requested(row, known);
    let born = match asked.key.clone() {
        None => births::ask(&http.ctx.db, birth).await?,
        Some(key) => match births::ask_once(&http.ctx.db, birth, key).await {
            Err(LedgerError::Repeated) => None,
            born => born?,
        },
    };
    if let Some(upload) = born.as_ref().filter(|upload| upload.status == Status::Done) {
        note_known(http, upload).await;
    }
    Ok(born)
}

/// The size of the org's blob with these bytes, if it stands and is whole; 422 when another one is declared.
async fn known_size(http: &Http, caller: &Caller, asked: &Asked, sha256: Digest) -> Result<Option<i64>, ApiError> {
    let blob = blobs::find(&http.ctx.db, caller.org(), sha256).await?;
    let Some(blob) = blob.filter(|blob| blob.state == BlobState::Live) else {
        return Ok(None);
    };
    if asked.size.is_some_and(|size| size != blob.size) {
        return Err(ApiError::Unprocessable { field: "size".to_owned(), fault: other_size(blob.size) });
    }
    let head = http.ctx.bucket.head(&blob.object_key).await?;
    Ok(head.filter(|head| head.size == blob.size).map(|head| head.size))
}

/// The file is stored; what follows is accounting.
async fn note_known(http: &Http, upload: &Upload) {
    let size = u64::try_from(upload.arrived_size.unwrap_or(0)).unwrap_or(0);
    metrics::counter!("longshore_dedupe_bytes_saved_total").increment(size);
    fold_soon(http, upload.org_id).await;
}

/// Clears the policy so that a fresh one is signed: from issued or expired. `false` from any other state.
pub async fn renew(http: &Http, upload: &Upload) -> Result<bool, ApiError> {
    let (now, limits) = (http.ctx.now(), http.ctx.limits);
    let ends = now + policy_life(limits.policy_life, upload.size);
    match uploads::renew(&http.ctx.db, upload.id, ends, now + limits.resume_after, now).await {
        Err(error) if error.is_taken() => {
            Err(ApiError::Conflict("Another upload stands under this upload's `ref` by now".to_owned()))
        }
        renewed => Ok(renewed?),
    }
}

/// Has a policy signed and waits for it as long as the client likes; returns the row as it is then. One that it has is of no
/// use any more.
pub async fn obtain_policy(http: &Http, upload: Upload, prefer: Prefer) -> Result<Upload, ApiError> {
    let renewed = if upload.status == Status::Expired { Status::Issued } else { upload.status };
    let upload = Upload { policy: None, status: renewed, ..upload };
    let watch = waiting::watch(&http.ctx.db, upload.clone());
    let (longest, started) = (prefer.wait(http.settings.wait), Instant::now());
    let pushed = put_on(http, upload.id, longest.max(SHORTEST_PUSH)).await;
    let left = if pushed { longest.saturating_sub(started.elapsed()) } else { Duration::ZERO };
    Ok(watch.until(left, Goal::Policy).await?)
}

/// How long the queue may take to take the job, even where a client does not like to wait at all.
const SHORTEST_PUSH: Duration = Duration::from_millis(500);

/// Whether the job is on the queue.
async fn put_on(http: &Http, upload: Uuid, limit: Duration) -> bool {
    let job = NewJob::of(&IssuePolicy { upload }, Lane::Interactive, http.ctx.now());
    let pushed = push_within(http, job, limit).await;
    if let Err(error) = &pushed {
        tracing::warn!(error, %upload, "an upload is left to be resumed");
    }
    pushed.is_ok()
}
