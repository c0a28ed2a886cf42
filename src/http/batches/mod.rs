//! `/api/batches`: many uploads by one call, or any number of files under one policy.

mod body;
mod cancel;
mod create;
mod entry;
mod lines;
mod manifest;
mod members;
mod prefix;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use longshore_jobs::ledger::batches;
use longshore_jobs::model::Batch;
use longshore_jobs::model::org::Scope;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use self::create::MOST_BYTES;
use self::entry::{BatchList, BatchesAnswer, entries, entry};
use super::answer::GOT;
use super::asked::{Id, Prefer, Query};
use super::auth::Caller;
use super::errors::ApiError;
use super::observe::show_batch;
use super::openapi::{params, refusals};
use super::paging::{MOST_PER_PAGE, Paging};
use super::{Http, uploads};

/// Everything below `/api/batches`.
pub fn routes() -> OpenApiRouter<Arc<Http>> {
    OpenApiRouter::default()
        .routes(routes!(create::create, list).layer(DefaultBodyLimit::max(MOST_BYTES)))
        .routes(routes!(show, cancel::cancel))
        .routes(routes!(members::list))
        .routes(routes!(prefix::fresh_policy))
        .routes(routes!(prefix::callback))
        // It streams, and minds its own length.
        .routes(routes!(manifest::replace).layer(DefaultBodyLimit::disable()))
}

/// Those who may see batches.
const SEES: &[Scope] = &[Scope::Upload, Scope::Read];

/// The caller's own batch of that id.
async fn own(http: &Http, caller: &Caller, id: &Id) -> Result<Batch, ApiError> {
    let id = id.0.ok_or(ApiError::BatchNotFound)?;
    let batch = batches::find(&http.ctx.db, id).await?.ok_or(ApiError::BatchNotFound)?;
    if batch.org_id != caller.org() {
        let refusal = "User has not been authorized to request this batch";
        return Err(ApiError::Authorization(refusal.to_owned()));
    }
    Ok(batch)
}

/// Answers with one batch.
async fn answer(
    (http, caller): (&Http, &Caller),
    code: StatusCode,
    message: &'static str,
    batch: Batch,
) -> Result<Response, ApiError> {
    let location = format!("/api/batches/{}", batch.id);
    show_batch(batch.id);
    let batches = vec![entry(http, caller, batch).await?];
    let mut response = (code, Json(BatchesAnswer { message, batches })).into_response();
    let headers = response.headers_mut();
    if code == StatusCode::CREATED || code == StatusCode::ACCEPTED {
        headers.insert(header::LOCATION, HeaderValue::from_str(&location).expect("a UUID is ASCII"));
    }
    if code == StatusCode::ACCEPTED {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}

/// Look at one batch.
///
/// With `Prefer: wait=N` the answer waits until every one of its uploads has come to an end. Scope `upload` or `read`.
#[utoipa::path(get, path = "/api/batches/{id}", tag = "Batches", operation_id = "getBatch", params(params::Id, params::Prefer),
    responses((status = 200, description = "The batch, with its counts as they are now", body = BatchesAnswer), refusals::OneBatch))]
async fn show(State(http): State<Arc<Http>>, caller: Caller, id: Id, prefer: Prefer) -> Result<Response, ApiError> {
    caller.needs_one_of(SEES)?;
    let seen = own(&http, &caller, &id).await?;
    let batch = watch::until_over(&http.ctx.db, seen, prefer.wait(Duration::ZERO)).await?;
    let mut response = answer((&http, &caller), StatusCode::OK, GOT, batch).await?;
    if let Some(applied) = prefer.applied() {
        response.headers_mut().insert(uploads::PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

/// List the org's batches.
///
/// Newest first unless `sort` says otherwise. Scope `upload` or `read`.
#[utoipa::path(get, path = "/api/batches", tag = "Batches", operation_id = "listBatches", params(params::Page),
    responses((status = 200, description = "A part of the batches", body = BatchList), refusals::List))]
async fn list(State(http): State<Arc<Http>>, caller: Caller, query: Query) -> Result<Json<BatchList>, ApiError> {
    caller.needs_one_of(SEES)?;
    let paging = Paging::read(&query, MOST_PER_PAGE)?;
    let mut rows = batches::list(&http.ctx.db, caller.org(), paging.part()).await?;
    let next = paging.cut(&mut rows, |batch| batch.id);
    let count = batches::count(&http.ctx.db, caller.org()).await?;
    Ok(Json(BatchList { message: GOT, batches: entries(&http, &caller, rows).await?, part: paging.tell(next, count) }))
}
