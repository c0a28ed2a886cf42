//! What becomes of dead letters: some by their ids, or all that a filter lists.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use longshore_jobs::job::Pool;
use longshore_jobs::ledger::dead_letters::{self, Filter, Retried, RetryError};
use serde::Serialize;
use tracing::Instrument as _;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::POSTED;
use super::super::body::Fields;
use super::super::errors::ApiError;
use super::super::openapi::{refusals, shapes};
use super::Operator;
use super::letters::LONGEST;

/// The most ids that one call may name.
const MOST_IDS: usize = 1_000;

/// Which letters are meant, as the document shows it.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is only looked at")]
pub enum LettersMeant {
    ByIds(MeantByIds),
    ByFilter(MeantByFilter),
}

/// These letters. One that is gone is passed over.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only looked at")]
pub struct MeantByIds {
    #[schema(min_items = 1, max_items = 1_000)]
    ids: Vec<Uuid>,
}

/// Every letter that the list shows with this filter.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only looked at")]
pub struct MeantByFilter {
    #[schema(inline)]
    filter: LetterFilter,
}

/// All that are given must fit; with none of them, every letter is meant.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only looked at")]
pub struct LetterFilter {
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", example = "verify_upload")]
    kind: Option<String>,
    #[schema(value_type = Option<shapes::Pool>)]
    pool: Option<Pool>,
    #[schema(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", example = "attempts")]
    reason: Option<String>,
    subject: Option<Uuid>,
    /// Whose jobs.
    org: Option<Uuid>,
    /// In the error, in whichever case.
    #[schema(max_length = 300, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    error: Option<String>,
    /// The id of a letter: that one and those that died before it, none that died later.
    before: Option<Uuid>,
}

/// What came of a retry.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryAnswer {
    message: &'static str,
    /// Always empty: a letter that is put on is none any more.
    dead_letters: [Uuid; 0],
    /// Letters that are jobs again.
    put_on: usize,
    /// Letters that stay, because this version knows no such job.
    unknown: usize,
    /// Whether there are more: 10,000 are put on in one go. The same call with this `before` in its filter goes on, and comes to
    /// an end whatever dies again meanwhile.
    more: bool,
    /// The latest letter that was meant; null when there was none.
    #[schema(required)]
    before: Option<Uuid>,
}

/// What came of a discard.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiscardAnswer {
    message: &'static str,
    /// Always empty.
    dead_letters: [Uuid; 0],
    discarded: u64,
    /// Always 0: any letter can be thrown away.
    unknown: usize,
    /// Always false: all of them go in one call.
    more: bool,
    /// The latest letter that was meant; null when there was none.
    #[schema(required)]
    before: Option<Uuid>,
}

/// Put dead letters on again.
///
/// With all their attempts, the oldest first. A call that breaks off has put on some, or goes on to its end; it does no harm
/// when it is made again. Scope `admin`.
#[utoipa::path(post, path = "/api/admin/dead-letters/retry", tag = "Admin", operation_id = "retryDeadLetters",
    request_body = LettersMeant,
    responses((status = 200, description = "What came of it", body = RetryAnswer), refusals::Decision))]
pub async fn retry(
    operator: Operator,
    State(http): State<Arc<Http>>,
    fields: Fields,
) -> Result<Json<RetryAnswer>, ApiError> {
    let filter = read(fields)?.bounded(&http.ctx.db).await?;
    let before = filter.before;
    let Retried { put_on, unknown, more } = to_its_end(put_on_again(http, operator, filter)).await?;
    Ok(Json(RetryAnswer { message: POSTED, dead_letters: [], put_on, unknown, more, before }))
}

/// Throw dead letters away.
///
/// What they were about stays as it is. Scope `admin`.
#[utoipa::path(post, path = "/api/admin/dead-letters/discard", tag = "Admin", operation_id = "discardDeadLetters",
    request_body = LettersMeant,
    responses((status = 200, description = "What came of it", body = DiscardAnswer), refusals::Decision))]
pub async fn discard(
    operator: Operator,
    State(http): State<Arc<Http>>,
    fields: Fields,
) -> Result<Json<DiscardAnswer>, ApiError> {
    let filter = read(fields)?.bounded(&http.ctx.db).await?;
    let before = filter.before;
    let discarded = to_its_end(throw_away(http, operator, filter)).await?;
    Ok(Json(DiscardAnswer { message: POSTED, dead_letters: [], discarded, unknown: 0, more: false, before }))
}

/// Does it whether or not somebody still waits for the answer: what an operator has done must get into the log.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work.in_current_span()).await.map_err(|error| ApiError::Internal(error.into()))?
}

/// The log tells who before anything is done, and what came of it after: in between the process may be stopped.
async fn put_on_again(http: Arc<Http>, operator: Operator, filter: Filter) -> Result<Retried, ApiError> {
    let (by, ctx) = (operator.key(), &http.ctx);
    tracing::info!(by, which = told(&filter), "an operator puts dead letters on again");
    let retried = dead_letters::retry(&ctx.db, &*ctx.queue, &filter, ctx.now()).await?;
    tracing::info!(by, put_on = retried.put_on, unknown = retried.unknown, "dead letters are put on again");
    http.desk.forget_overview().await;
    Ok(retried)
}

async fn throw_away(http: Arc<Http>, operator: Operator, filter: Filter) -> Result<u64, ApiError> {
    let by = operator.key();
    tracing::info!(by, which = told(&filter), "an operator throws dead letters away");
    let discarded = dead_letters::discard(&http.ctx.db, filter).await?;
    tracing::info!(by, discarded, "dead letters are thrown away");
    http.desk.forget_overview().await;
    Ok(discarded)
}

impl From<RetryError> for ApiError {
    fn from(error: RetryError) -> Self {
        match error {
            RetryError::Ledger(error) => error.into(),
            RetryError::Queue(error) => error.into(),
        }
    }
}

/// Which letters were meant, in a line of the log.
fn told(filter: &Filter) -> String {
    match &filter.ids {
        Some(ids) => format!("{} by their ids", ids.len()),
        None => format!("{filter:?}"),
    }
}

fn read(mut fields: Fields) -> Result<Filter, ApiError> {
    let ids: Option<Vec<Uuid>> = fields.take("ids", "must be a list of ids")?;
    let filter = fields.take_fields("filter", "filter.")?;
    let meant = match (ids, filter) {
        (Some(ids), None) => Filter::by_ids(in_bounds(&fields, ids)?),
        (None, Some(filter)) => read_filter(filter)?,
        (None, None) => return Err(fields.fault("ids", "or `filter` must say which letters are meant")),
        (Some(_), Some(_)) => return Err(fields.fault("filter", "must not stand beside `ids`")),
    };
    fields.end()?;
    Ok(meant)
}

fn in_bounds(fields: &Fields, ids: Vec<Uuid>) -> Result<Vec<Uuid>, ApiError> {
    if (1..=MOST_IDS).contains(&ids.len()) {
        return Ok(ids);
    }
    Err(fields.fault("ids", format!("must name 1 to {MOST_IDS} letters")))
}

fn read_filter(mut fields: Fields) -> Result<Filter, ApiError> {
    let filter = Filter {
        ids: None,
        pool: fields.take("pool", "must be the name of a pool")?,
        kind: text(&mut fields, "kind")?,
        reason: text(&mut fields, "reason")?,
        subject: fields.take("subject", "must be an id")?,
        org: fields.take("org", "must be an id")?,
        error: text(&mut fields, "error")?,
        before: fields.take("before", "must be the id of a letter")?,
    };
    if filter.error.as_ref().is_some_and(|error| error.chars().count() > LONGEST) {
        return Err(fields.fault("error", format!("may have {LONGEST} characters at most")));
    }
    fields.end()?;
    Ok(filter)
}

/// An empty text is as good as none, as in a query.
fn text(fields: &mut Fields, name: &str) -> Result<Option<String>, ApiError> {
    let text: Option<String> = fields.take(name, "must be a text")?;
    if text.as_ref().is_some_and(|text| text.chars().any(char::is_control)) {
        return Err(fields.fault(name, "must not hold control characters"));
    }
    Ok(text.filter(|text| !text.is_empty()))
}
