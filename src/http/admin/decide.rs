//! What becomes of dead letters: some by their ids, or all that a filter lists.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use longshore_jobs::job::Pool;
use longshore_jobs::ledger::dead_letters::{self, Filter, RetryError};
use serde::Serialize;
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
    /// Whether there may be more: 10,000 are put on in one go. The same call again goes on.
    more: bool,
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
}

/// Put dead letters on again.
///
/// With all their attempts. A call that breaks off has put on some, and does no harm when it is made again. Scope `admin`.
#[utoipa::path(post, path = "/api/admin/dead-letters/retry", tag = "Admin", operation_id = "retryDeadLetters",
    request_body = LettersMeant,
    responses((status = 200, description = "What came of it", body = RetryAnswer), refusals::Decision))]
pub async fn retry(
    operator: Operator,
    State(http): State<Arc<Http>>,
    fields: Fields,
) -> Result<Json<RetryAnswer>, ApiError> {
    let (filter, ctx) = (read(fields)?, &http.ctx);
    let retried = dead_letters::retry(&ctx.db, &*ctx.queue, &filter, ctx.now()).await?;
    tracing::info!(
        by = operator.key(),
        which = told(filter),
        put_on = retried.put_on,
        "an operator has put dead letters on again"
    );
    http.desk.forget_overview().await;
    let dead_letters::Retried { put_on, unknown, more } = retried;
    Ok(Json(RetryAnswer { message: POSTED, dead_letters: [], put_on, unknown, more }))
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
    let filter = read(fields)?;
    let discarded = dead_letters::discard(&http.ctx.db, filter.clone()).await?;
    tracing::info!(by = operator.key(), which = told(filter), discarded, "an operator has thrown dead letters away");
    http.desk.forget_overview().await;
    Ok(Json(DiscardAnswer { message: POSTED, dead_letters: [], discarded, unknown: 0, more: false }))
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
fn told(filter: Filter) -> String {
    match filter.ids {
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
