//! `/api/batches`: many uploads by one call, or any number of files under one policy.

mod body;
mod cancel;
mod create;
mod entry;
mod lines;
mod members;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use longshore_jobs::ledger::batches;
use longshore_jobs::ledger::files::COUNT_CAP;
use longshore_jobs::model::Batch;
use longshore_jobs::model::org::Scope;
use serde_json::{Value, json};

use self::cancel::cancel;
use self::create::{MOST_BYTES, create};
use self::entry::{entries, entry};
use super::answer::{GOT, envelope};
use super::asked::{Id, Prefer, Query};
use super::auth::Caller;
use super::errors::ApiError;
use super::{Http, files, uploads};

/// Everything below `/api/batches`.
pub fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/api/batches", post(create).layer(DefaultBodyLimit::max(MOST_BYTES)).get(list))
        .route("/api/batches/{id}", get(show).delete(cancel))
        .route("/api/batches/{id}/uploads", get(members::list))
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

async fn show(State(http): State<Arc<Http>>, caller: Caller, id: Id, prefer: Prefer) -> Result<Response, ApiError> {
    caller.needs_one_of(SEES)?;
    let seen = own(&http, &caller, &id).await?;
    let batch = watch::until_over(&http.ctx.db, seen, prefer.wait(Duration::ZERO)).await?;
    let entry = entry(&http, batch).await?;
    let mut response = Json(envelope(GOT, "batches", &[entry])).into_response();
    if let Some(applied) = prefer.applied() {
        response.headers_mut().insert(uploads::PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

async fn list(State(http): State<Arc<Http>>, caller: Caller, query: Query) -> Result<Json<Value>, ApiError> {
    caller.needs_one_of(SEES)?;
    let (after, (page, per_page)) = (query.parsed("after")?, files::page_of(&query)?);
    let page = if after.is_some() { 1 } else { page };
    // One more than is shown tells whether there is a next page.
    let part = (per_page + 1, (page - 1).saturating_mul(per_page));
    let mut rows = batches::list(&http.ctx.db, caller.org(), after, part).await?;
    let shown = usize::try_from(per_page).unwrap_or(usize::MAX);
    let more = rows.len() > shown;
    rows.truncate(shown);
    let next = rows.last().filter(|_| more).map(|batch| batch.id);
    let count = batches::count(&http.ctx.db, caller.org()).await?;
    let mut answer = envelope(GOT, "batches", &entries(&http, rows).await?);
    answer.extend([
        ("count".to_owned(), json!(count.min(COUNT_CAP))),
        ("countCapped".to_owned(), json!(count > COUNT_CAP)),
        ("page".to_owned(), json!(page)),
        ("perPage".to_owned(), json!(per_page)),
        ("next".to_owned(), json!(next)),
    ]);
    Ok(Json(answer.into()))
}
