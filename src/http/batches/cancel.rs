//! `DELETE /api/batches/{id}`: takes back what is not on its way into the org's files yet.
//!
//! The batch is closed first: lines that are no uploads by then never will be. Its open uploads are cancelled some hundreds at
//! a time, so that others can write in between, and all of them although the client may go away meanwhile. What a break leaves
//! open is cancelled by the next call.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use longshore_jobs::ledger::{batches, members};
use longshore_jobs::model::org::Scope;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::DELETED;
use super::super::asked::Id;
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::super::openapi::{params, refusals};
use super::entry::{BatchesAnswer, entry};
use super::own;

/// How many uploads are cancelled with one statement.
const AT_ONCE: i64 = 250;

/// Take a batch back.
///
/// Nothing more is taken in under it, and those of its uploads are cancelled that are not on their way into the org's files yet; what
/// is a file stays one. Scope `upload`.
#[utoipa::path(delete, path = "/api/batches/{id}", tag = "Batches", operation_id = "deleteBatch", params(params::Id),
    responses((status = 200, description = "The batch as it is now", body = BatchesAnswer), refusals::OneBatch))]
pub async fn cancel(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Json<BatchesAnswer>, ApiError> {
    caller.needs(Scope::Upload)?;
    let batch = own(&http, &caller, &id).await?;
    let closing = tokio::spawn(close(Arc::clone(&http), batch.id));
    closing.await.map_err(|error| ApiError::Internal(error.into()))??;
    let batches = vec![entry(&http, &caller, own(&http, &caller, &id).await?).await?];
    Ok(Json(BatchesAnswer { message: DELETED, batches }))
}

async fn close(http: Arc<Http>, batch: Uuid) -> Result<(), ApiError> {
    batches::close(&http.ctx.db, batch, http.ctx.now()).await?;
    cancel_uploads(&http, batch).await
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
