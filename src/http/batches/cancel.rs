//! `DELETE /api/batches/{id}`: takes back what is not on its way into the org's files yet.
//!
//! The batch is closed first: lines that are no uploads by then never will be. Its open uploads are cancelled some hundreds at
//! a time, so that others can write in between. What a break leaves open is cancelled by the next call.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use longshore_jobs::ledger::{batches, members};
use longshore_jobs::model::org::Scope;
use serde_json::Value;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::{DELETED, envelope};
use super::super::asked::Id;
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::entry::entry;
use super::own;

/// How many uploads are cancelled with one statement.
const AT_ONCE: i64 = 250;

/// Closes the batch and cancels its open uploads.
pub async fn cancel(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Json<Value>, ApiError> {
    caller.needs(Scope::Upload)?;
    let batch = own(&http, &caller, &id).await?;
    batches::close(&http.ctx.db, batch.id, http.ctx.now()).await?;
    cancel_uploads(&http, batch.id).await?;
    let entry = entry(&http, own(&http, &caller, &id).await?).await?;
    Ok(Json(envelope(DELETED, "batches", &[entry]).into()))
}

async fn cancel_uploads(http: &Http, batch: Uuid) -> Result<(), ApiError> {
    let mut after = None;
    loop {
        let step = members::cancel_some(&http.ctx.db, batch, after, (AT_ONCE, http.ctx.now())).await?;
        if !step.keys.is_empty()
            && let Err(error) = http.ctx.bucket.delete(&step.keys).await
        {
            tracing::warn!(%error, %batch, "objects of cancelled uploads are left to the sweep");
        }
        let Some(next) = step.next else { return Ok(()) };
        after = Some(next);
    }
}
