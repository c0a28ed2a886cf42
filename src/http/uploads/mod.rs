//! `/api/uploads`: the client asks here, and puts its bytes straight into the bucket.

mod create;
mod entry;
pub mod request;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderName, HeaderValue, StatusCode, header};
use longshore_jobs::ledger::uploads;
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::model::{Status, Upload};
use longshore_jobs::record_arrival::RecordArrival;
use serde_json::{Value, json};

use self::create::{create, obtain_policy, renew};
pub use self::entry::entries;
use super::answer::{DELETED, GOT, POSTED, envelope};
use super::asked::{Id, Prefer, Query};
use super::auth::Caller;
use super::errors::ApiError;
use super::waiting::{self, Goal, lacks_policy};
use super::{Http, files};

/// Says which preference was followed (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Everything below `/api/uploads`.
pub fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/api/uploads", post(create).get(list))
        .route("/api/uploads/config", get(config))
        .route("/api/uploads/{id}", get(show).delete(cancel))
        .route("/api/uploads/{id}/callback", post(callback))
        .route("/api/uploads/{id}/policy", post(fresh_policy))
}

/// Those who may see uploads.
const SEES: &[Scope] = &[Scope::Upload, Scope::Read];

/// The caller's own upload of that id.
async fn own(http: &Http, caller: &Caller, id: &Id) -> Result<Upload, ApiError> {
    let id = id.0.ok_or(ApiError::UploadNotFound)?;
    let upload = uploads::find(&http.ctx.db, id).await?.ok_or(ApiError::UploadNotFound)?;
    if upload.org_id != caller.org() {
        let refusal = "User has not been authorized to request this upload";
        return Err(ApiError::Authorization(refusal.to_owned()));
    }
    Ok(upload)
}

/// Answers with one upload, and with the preference that was followed.
async fn answer(
    (http, caller, prefer): (&Http, &Caller, Prefer),
    code: StatusCode,
    message: &str,
    upload: Upload,
) -> Result<Response, ApiError> {
    let location = format!("/api/uploads/{}", upload.id);
    let waits = lacks_policy(&upload);
    let entries = entries(http, caller, vec![upload]).await?;
    let mut response = (code, Json(envelope(message, "uploads", &entries))).into_response();
    let headers = response.headers_mut();
    if code == StatusCode::CREATED || code == StatusCode::ACCEPTED {
        headers.insert(header::LOCATION, HeaderValue::from_str(&location).expect("a UUID is ASCII"));
    }
    if waits || code == StatusCode::ACCEPTED {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Some(applied) = prefer.applied() {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

async fn show(State(http): State<Arc<Http>>, caller: Caller, id: Id, prefer: Prefer) -> Result<Response, ApiError> {
    caller.needs_one_of(SEES)?;
    let seen = own(&http, &caller, &id).await?;
    let longest = prefer.wait(Duration::ZERO);
    let upload = waiting::watch(&http.ctx.db, seen).until(longest, Goal::End).await?;
    answer((&http, &caller, prefer), StatusCode::OK, GOT, upload).await
}

async fn list(State(http): State<Arc<Http>>, caller: Caller, query: Query) -> Result<Json<Value>, ApiError> {
    caller.needs_one_of(SEES)?;
    let filter = uploads::Filter {
        status: query.parsed("status")?,
        target: query.parsed("target")?,
        number: query.text("number")?,
    };
    let (page, per_page) = files::page_of(&query)?;
    let offset = (page - 1).saturating_mul(per_page);
    let (rows, count) = uploads::list(&http.ctx.db, caller.org(), &filter, per_page, offset).await?;
    let entries = entries(&http, &caller, rows).await?;
    let mut answer = envelope(GOT, "uploads", &entries);
    answer.extend([
        ("count".to_owned(), json!(count)),
        ("page".to_owned(), json!(page)),
        ("perPage".to_owned(), json!(per_page)),
    ]);
    Ok(Json(answer.into()))
}

async fn config(State(http): State<Arc<Http>>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.needs_one_of(SEES)?;
    let address = http.ctx.bucket.address();
    Ok(Json(json!({
        "message": GOT,
        "url": address.url,
        "bucket": address.bucket,
        "region": address.region,
        "accessKeyId": address.access_key_id,
        "maxSize": http.ctx.limits.max_size,
    })))
}

/// Whatever the body says: the check looks for itself.
async fn callback(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let upload = own(&http, &caller, &id).await?;
    http.ctx.push(&RecordArrival { upload: upload.id, via: ArrivedVia::Callback }).await?;
    answer((&http, &caller, Prefer::Unsaid), StatusCode::ACCEPTED, POSTED, upload).await
}

async fn fresh_policy(
    State(http): State<Arc<Http>>,
    caller: Caller,
    id: Id,
    prefer: Prefer,
) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let seen = own(&http, &caller, &id).await?;
    if !renew(&http, &seen).await? {
        return Err(no_longer(&http, &caller, &id, "renewed").await?);
    }
    let upload = obtain_policy(&http, seen, prefer).await?;
    let code = if lacks_policy(&upload) { StatusCode::ACCEPTED } else { StatusCode::OK };
    answer((&http, &caller, prefer), code, POSTED, upload).await
}

async fn cancel(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let seen = own(&http, &caller, &id).await?;
    let cancelled = uploads::cancel(&http.ctx.db, seen.id, http.ctx.now()).await?;
    if !cancelled && seen.status != Status::Cancelled {
        return Err(no_longer(&http, &caller, &id, "cancelled").await?);
    }
    if let Err(error) = http.ctx.bucket.delete(std::slice::from_ref(&seen.object_key)).await {
        tracing::warn!(%error, upload = %seen.id, "a cancelled upload's object is left to the sweep");
    }
    let upload = own(&http, &caller, &id).await?;
    answer((&http, &caller, Prefer::Unsaid), StatusCode::OK, DELETED, upload).await
}

/// The refusal of a move that the upload's state does not allow, with the state as it is now.
async fn no_longer(http: &Http, caller: &Caller, id: &Id, done: &str) -> Result<ApiError, ApiError> {
    let status = own(http, caller, id).await?.status;
    Ok(ApiError::Conflict(format!("An upload that is {status} cannot be {done}")))
}
