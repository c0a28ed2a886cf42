//! `GET /api/batches/{id}/uploads`: the uploads of a batch, in pages or as one stream of lines.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, header};
use longshore_jobs::job::with_causes;
use longshore_jobs::ledger::{batches, members};
use longshore_jobs::model::batch::Count;
use longshore_jobs::model::{Batch, Status};
use longshore_jobs::outside::BoxError;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::Http;
use super::super::answer::{GOT, envelope};
use super::super::asked::{Id, Query};
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::super::uploads::entries;
use super::body::is_lines;
use super::{SEES, own};

const PER_PAGE: i64 = 30;
const MOST_PER_PAGE: i64 = 1_000;
/// How many uploads a stream reads at once: all that it holds.
const STRETCH: i64 = 500;

/// Shows them in the order of the lines.
pub async fn list(
    State(http): State<Arc<Http>>,
    caller: Caller,
    id: Id,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    caller.needs_one_of(SEES)?;
    let batch = own(&http, &caller, &id).await?;
    let (status, after) = (query.parsed::<Status>("status")?, query.parsed::<Uuid>("after")?);
    if wants_lines(&headers) {
        return Ok(all_lines(Stretches { http, caller, batch: batch.id, status, after, ended: false }));
    }
    Ok(Json(page(&http, &caller, &batch, (status, after, &query)).await?).into_response())
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
    (status, after, query): (Option<Status>, Option<Uuid>, &Query),
) -> Result<Value, ApiError> {
    let per_page = query.counting("perPage", PER_PAGE)?.min(MOST_PER_PAGE);
    let number = if after.is_some() { 1 } else { query.counting("page", 1)? };
    // One more than is shown tells whether there is a next page.
    let part = members::Page { status, after, limit: per_page + 1, offset: (number - 1).saturating_mul(per_page) };
    let mut rows = members::list(&http.ctx.db, batch.id, part).await?;
    let shown = usize::try_from(per_page).unwrap_or(usize::MAX);
    let more = rows.len() > shown;
    rows.truncate(shown);
    let next = rows.last().filter(|_| more).map(|upload| upload.id);
    let mut answer = envelope(GOT, "uploads", &entries(http, caller, rows).await?);
    answer.extend([
        ("count".to_owned(), json!(count(http, batch, status).await?)),
        ("countCapped".to_owned(), json!(false)),
        ("page".to_owned(), json!(number)),
        ("perPage".to_owned(), json!(per_page)),
        ("next".to_owned(), json!(next)),
    ]);
    Ok(answer.into())
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
        let part = members::Page { status: self.status, after: self.after, limit: STRETCH, offset: 0 };
        let rows = members::list(&self.http.ctx.db, self.batch, part).await?;
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
