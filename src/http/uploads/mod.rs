//! `/api/uploads`: the client asks here, and puts its bytes straight into the bucket.

mod create;
mod entry;
pub mod request;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use longshore_jobs::ledger::{upload_lists, uploads};
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::model::{Status, Upload};
use longshore_jobs::record_arrival::RecordArrival;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::create::{obtain_policy, renew};
use self::entry::UploadsAnswer;
pub use self::entry::{UploadEntry, UploadList, entries};
use super::answer::{DELETED, GOT, POSTED};
use super::asked::{Id, Prefer, Query};
use super::auth::Caller;
use super::errors::ApiError;
use super::observe::show_upload;
use super::openapi::{params, refusals};
use super::paging::{MOST_PER_PAGE, Paging};
use super::waiting::{self, Goal, lacks_policy};
use super::{Http, files};

/// Says which preference was followed (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Everything below `/api/uploads`.
pub fn routes() -> OpenApiRouter<Arc<Http>> {
    OpenApiRouter::default()
        .routes(routes!(create::create, list))
        .routes(routes!(config))
        .routes(routes!(show, cancel))
        .routes(routes!(callback))
        .routes(routes!(fresh_policy))
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
    message: &'static str,
    upload: Upload,
) -> Result<Response, ApiError> {
    let location = format!("/api/uploads/{}", upload.id);
    show_upload(upload.id);
    let waits = lacks_policy(&upload);
    let uploads = entries(http, caller, vec![upload]).await?;
    let mut response = (code, Json(UploadsAnswer { message, uploads })).into_response();
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

/// Look at one upload.
///
/// With `Prefer: wait=N` the answer waits until nothing more is expected to happen to it. Scope `upload` or `read`.
#[utoipa::path(get, path = "/api/uploads/{id}", tag = "Uploads", operation_id = "getUpload", params(params::Id, params::Prefer),
    responses(
        (status = 200, description = "The upload", body = UploadsAnswer,
            headers(("Retry-After" = u32, description = "Seconds; while no worker has signed its policy yet"))),
        refusals::OneUpload))]
async fn show(State(http): State<Arc<Http>>, caller: Caller, id: Id, prefer: Prefer) -> Result<Response, ApiError> {
    caller.needs_one_of(SEES)?;
    let seen = own(&http, &caller, &id).await?;
    let longest = prefer.wait(Duration::ZERO);
    let upload = waiting::watch(&http.ctx.db, seen).until(longest, Goal::End).await?;
    answer((&http, &caller, prefer), StatusCode::OK, GOT, upload).await
}

/// List the org's uploads.
///
/// Newest first. Scope `upload` or `read`.
#[utoipa::path(get, path = "/api/uploads", tag = "Uploads", operation_id = "listUploads",
    params(params::Page, params::Uploads, params::ForTarget),
    responses((status = 200, description = "A part of the uploads", body = UploadList), refusals::List))]
async fn list(State(http): State<Arc<Http>>, caller: Caller, query: Query) -> Result<Json<UploadList>, ApiError> {
    caller.needs_one_of(SEES)?;
    let (filter, paging) = (filter_of(&query)?, Paging::read(&query, MOST_PER_PAGE)?);
    let mut rows = upload_lists::list(&http.ctx.db, caller.org(), &filter, paging.part()).await?;
    let next = paging.cut(&mut rows, |upload| upload.id);
    let count = upload_lists::count(&http.ctx.db, caller.org(), &filter).await?;
    let uploads = entries(&http, &caller, rows).await?;
    Ok(Json(UploadList { message: GOT, uploads, part: paging.tell(next, count) }))
}

fn filter_of(query: &Query) -> Result<upload_lists::Filter, ApiError> {
    Ok(upload_lists::Filter {
        status: query.parsed("status")?,
        target: query.parsed("target")?,
        number: query.text("number")?,
        batch: query.parsed("batch")?,
        client_ref: query.text("ref")?,
    })
}

/// What a page needs to know before it asks for an upload.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UploadConfig {
    message: &'static str,
    /// Where forms are posted.
    #[schema(format = "uri")]
    url: String,
    bucket: String,
    region: String,
    /// The public half of the bucket's credentials.
    access_key_id: String,
    /// The most bytes that a file may have.
    max_size: i64,
}

/// Where uploads go, and how large they may be.
///
/// Never a secret. Scope `upload` or `read`.
#[utoipa::path(get, path = "/api/uploads/config", tag = "Uploads", operation_id = "getUploadConfig",
    responses((status = 200, description = "The bucket's address", body = UploadConfig)))]
async fn config(State(http): State<Arc<Http>>, caller: Caller) -> Result<Json<UploadConfig>, ApiError> {
    caller.needs_one_of(SEES)?;
    let address = http.ctx.bucket.address();
    Ok(Json(UploadConfig {
        message: GOT,
        url: address.url,
        bucket: address.bucket,
        region: address.region,
        access_key_id: address.access_key_id,
        max_size: http.ctx.limits.max_size,
    }))
}

/// Say that the bytes were put.
///
/// Schedules a look at the bucket, and proves nothing by itself: any number of calls, with any body or none, do no harm. Scope
/// `upload`.
#[utoipa::path(post, path = "/api/uploads/{id}/callback", tag = "Uploads", operation_id = "postUploadCallback",
    params(params::Id),
    responses((status = 202, description = "The upload as it is before the look", body = UploadsAnswer,
        headers(("Location" = String, description = "Where it can be looked at"), ("Retry-After" = u32, description = "Seconds"))),
        refusals::OneUpload))]
async fn callback(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let upload = own(&http, &caller, &id).await?;
    http.ctx.push(&RecordArrival { upload: upload.id, via: ArrivedVia::Callback }).await?;
    answer((&http, &caller, Prefer::Unsaid), StatusCode::ACCEPTED, POSTED, upload).await
}

/// Get a fresh policy.
///
/// For an upload that is `issued` or `expired`. Waits for a worker to sign it as `POST /api/uploads` does. Scope `upload`.
#[utoipa::path(post, path = "/api/uploads/{id}/policy", tag = "Uploads", operation_id = "renewUploadPolicy",
    params(params::Id, params::Prefer),
    responses(
        (status = 200, description = "The upload with its fresh policy", body = UploadsAnswer),
        (status = 202, description = "No worker has signed it yet", body = UploadsAnswer,
            headers(("Location" = String, description = "Where it can be looked at"), ("Retry-After" = u32, description = "Seconds"))),
        refusals::Move))]
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

/// Cancel an upload.
///
/// While it is `requested`, `issued` or `arrived`; its bytes are dropped. Cancelling it again changes nothing. Scope `upload`.
#[utoipa::path(delete, path = "/api/uploads/{id}", tag = "Uploads", operation_id = "cancelUpload", params(params::Id),
    responses((status = 200, description = "The cancelled upload", body = UploadsAnswer), refusals::Move))]
async fn cancel(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let seen = own(&http, &caller, &id).await?;
    let cancelled = uploads::cancel(&http.ctx.db, seen.id, http.ctx.now()).await?;
    if !cancelled && seen.status != Status::Cancelled {
        return Err(no_longer(&http, &caller, &id, "cancelled").await?);
    }
    files::remove_staged(&http, &seen).await;
    let upload = own(&http, &caller, &id).await?;
    answer((&http, &caller, Prefer::Unsaid), StatusCode::OK, DELETED, upload).await
}

/// The refusal of a move that the upload's state does not allow, with the state as it is now.
async fn no_longer(http: &Http, caller: &Caller, id: &Id, done: &str) -> Result<ApiError, ApiError> {
    let status = own(http, caller, id).await?.status;
    Ok(ApiError::Conflict(format!("An upload that is {status} cannot be {done}")))
}
