//! `GET /api/batches/{id}/uploads`: the uploads of a batch, in pages or as one stream of lines.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};
use longshore_jobs::job::with_causes;
use longshore_jobs::ledger::page::Page;
use longshore_jobs::ledger::{batches, members};
use longshore_jobs::model::batch::Count;
use longshore_jobs::model::{Batch, Status};
use longshore_jobs::outside::BoxError;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::GOT;
use super::super::asked::{Id, Query};
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::super::openapi::{params, refusals};
use super::super::paging::Paging;
use super::super::uploads::{UploadList, entries};
use super::body::is_lines;
use super::{SEES, own};

const MOST_PER_PAGE: i64 = 1_000;
/// How many uploads a stream reads at once: all that it holds.
const STRETCH: i64 = 500;

/// List the uploads of a batch.
///
/// In the order of the lines, or in which they came. With `Accept: application/x-ndjson` all of them, an upload a line. Scope
/// `upload` or `read`.
#[utoipa::path(get, path = "/api/batches/{id}/uploads", tag = "Batches", operation_id = "listBatchUploads",
    params(params::Id, params::Members),
    responses(
        (status = 200, description = "A part of them, or all as lines", content(
            (UploadList = "application/json"), (String = "application/x-ndjson"))),
        refusals::ListOfOneBatch))]
pub async fn list(
    State(http): State<Arc<Http>>,
    caller: Caller,
    id: Id,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.needs_one_of(SEES)?;
    let batch = own(&http, &caller, &id).await?;
    let status = query.parsed::<Status>("status")?;
    if wants_lines(&headers) {
        let after = query.parsed("after")?;
        return Ok(all_lines(Stretches { http, caller, batch: batch.id, status, after, ended: false }));
    }
    let paging = Paging::read_rising(&query, MOST_PER_PAGE)?;
    Ok(Json(page(&http, &caller, &batch, (status, paging)).await?).into_response())
}

/// Whether lines are what is asked for. Whoever takes anything gets a page.
fn wants_lines(headers: &HeaderMap) -> bool {
    let sent = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = sent.flat_map(|header| header.split(','));
    types.any(|one| is_lines(&one.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()))
}

async fn page(
    http: &Http,
    caller: &Caller,
    batch: &Batch,
    (status, paging): (Option<Status>, Paging),
) -> Result<UploadList, ApiError> {
    let mut rows = members::list(&http.ctx.db, batch.id, status, paging.part()).await?;
    let next = paging.cut(&mut rows, |upload| upload.id);
    let count = count(http, batch, status).await?;
    Ok(UploadList { message: GOT, uploads: entries(http, caller, rows).await?, part: paging.tell_all(next, count) })
}

/// How many there are, without looking at each.
async fn count(http: &Http, batch: &Batch, status: Option<Status>) -> Result<i64, ApiError> {
    let counts = batches::counts(&http.ctx.db, batch.id).await?;
    let wanted = |count: &&Count| status.is_none_or(|status| count.status == status);
    let own: i64 = counts.iter().filter(wanted).map(|count| count.uploads).sum();
    let known = if batch.known == 0 { 0 } else { members::count_known(&http.ctx.db, batch.id, status).await? };
    Ok(own + known)
}

/// All of them from the ledger, a stretch at a time.
struct Stretches {
    http: Arc<Http>,
    caller: Caller,
    batch: Uuid,
    status: Option<Status>,
    after: Option<Uuid>,
    ended: bool,
}

fn all_lines(stretches: Stretches) -> Response {
    let lines = stream::try_unfold(stretches, async |mut stretches| {
        let lines = stretches.next().await.inspect_err(|error| {
            tracing::error!(error = with_causes(error), "a list of uploads broke off");
        });
        Ok::<_, BoxError>(lines?.map(|lines| (lines, stretches)))
    });
    let kind = HeaderValue::from_static("application/x-ndjson");
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response()
}

impl Stretches {
    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        if self.ended {
            return Ok(None);
        }
        let part = Page { ascending: true, after: self.after, limit: STRETCH, offset: 0 };
        let rows = members::list(&self.http.ctx.db, self.batch, self.status, part).await?;
        self.ended = i64::try_from(rows.len()).is_ok_and(|found| found < STRETCH);
        self.after = rows.last().map(|upload| upload.id);
        let mut lines = Vec::new();
        for entry in entries(&self.http, &self.caller, rows).await? {
            serde_json::to_writer(&mut lines, &entry).map_err(|error| ApiError::Internal(error.into()))?;
            lines.push(b'\n');
        }
        Ok(Some(lines.into()))
    }
}
