//! `/api/batches`: many uploads by one call, or any number of files under one policy.

mod entry;
mod manifest;
mod prefix;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::{HeaderValue, StatusCode, header};
use longshore_jobs::ledger::batches;
use longshore_jobs::model::Batch;
use longshore_jobs::model::batch::Mode;
use longshore_jobs::model::org::Scope;
use serde_json::Value;

use self::entry::entry;
use super::Http;
use super::answer::{GOT, envelope};
use super::asked::Id;
use super::auth::Caller;
use super::body::Fields;
use super::errors::ApiError;

/// Everything below `/api/batches`.
pub fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/api/batches", post(create))
        .route("/api/batches/{id}", get(show))
        .route("/api/batches/{id}/policy", post(prefix::fresh_policy))
        .route("/api/batches/{id}/callback", post(prefix::callback))
        // It streams, and minds its own length.
        .route("/api/batches/{id}/manifest", put(manifest::replace).layer(DefaultBodyLimit::disable()))
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
    message: &str,
    batch: Batch,
) -> Result<Response, ApiError> {
    let location = format!("/api/batches/{}", batch.id);
    let entries = [entry(http, caller, batch).await?];
    let mut response = (code, Json(envelope(message, "batches", &entries))).into_response();
    if code == StatusCode::CREATED || code == StatusCode::ACCEPTED {
        let location = HeaderValue::from_str(&location).expect("a UUID is ASCII");
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn create(State(http): State<Arc<Http>>, caller: Caller, mut fields: Fields) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    match fields.take::<Mode>("mode", "must be `prefix`")? {
        Some(Mode::Prefix) => prefix::create(&http, &caller, fields).await,
        _ => Err(fields.fault("mode", "must be `prefix`")),
    }
}

async fn show(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Json<Value>, ApiError> {
    caller.needs_one_of(SEES)?;
    let batch = own(&http, &caller, &id).await?;
    let entry = entry(&http, &caller, batch).await?;
    Ok(Json(envelope(GOT, "batches", &[entry]).into()))
}
