//! `/api/batches`: many uploads by one call, or any number of files under one policy.

mod entry;

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use longshore_jobs::ledger::batches;
use longshore_jobs::model::Batch;
use longshore_jobs::model::org::Scope;
use serde_json::Value;

use self::entry::entry;
use super::Http;
use super::answer::{GOT, envelope};
use super::asked::Id;
use super::auth::Caller;
use super::errors::ApiError;

/// Everything below `/api/batches`.
pub fn routes() -> Router<Arc<Http>> {
    Router::new().route("/api/batches/{id}", get(show))
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

async fn show(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Json<Value>, ApiError> {
    caller.needs_one_of(SEES)?;
    let batch = own(&http, &caller, &id).await?;
    let entry = entry(&http, batch).await?;
    Ok(Json(envelope(GOT, "batches", &[entry]).into()))
}
