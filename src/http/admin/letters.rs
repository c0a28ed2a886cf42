//! Dead letters as operators see them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use longshore_jobs::job::{Lane, Pool};
use longshore_jobs::ledger::dead_letters::{self, About, DeadLetter, Filter, KindCount, SubjectKind};
use longshore_jobs::ledger::{Db, LedgerError};
use longshore_jobs::model::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::GOT;
use super::super::asked::{Id, Query};
use super::super::errors::ApiError;
use super::super::openapi::{params as shared, refusals, shapes};
use super::super::paging::{ListPart, MOST_PER_PAGE, Paging};
use super::{Operator, params};

/// The longest text that is looked for in errors and names, in characters.
pub const LONGEST: usize = 300;

/// Dead letters.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LettersAnswer {
    message: &'static str,
    dead_letters: Vec<LetterEntry>,
}

/// A part of the dead letters.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LetterList {
    message: &'static str,
    dead_letters: Vec<LetterEntry>,
    #[serde(flatten)]
    part: ListPart,
    /// How many there are of each kind and reason, whatever is asked for.
    kinds: Vec<KindEntry>,
}

/// Letters of one kind and reason.
#[derive(Serialize, ToSchema)]
struct KindEntry {
    kind: String,
    reason: String,
    count: i64,
}

/// A job that no attempt will cure.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LetterEntry {
    id: Uuid,
    #[schema(example = "verify_upload")]
    kind: String,
    #[schema(value_type = shapes::Pool)]
    pool: Pool,
    /// `interactive` or `bulk`: who goes first.
    #[schema(value_type = String)]
    lane: Lane,
    /// What it was about; nil for a job about everything.
    subject: Uuid,
    /// `upload`, `batch`, `org` or `blob`; null for a job about everything, and where it cannot be told.
    #[schema(required, value_type = Option<String>)]
    subject_kind: Option<SubjectKind>,
    #[schema(required)]
    org_id: Option<Uuid>,
    /// Of an upload, or of an object that was to become one.
    #[schema(required)]
    filename: Option<String>,
    /// `attempts`, `gave_up`, `undecodable`, `unknown_kind` or `crashed`.
    #[schema(example = "attempts")]
    reason: String,
    attempts: i64,
    /// How many workers died while they ran it.
    crashes: i64,
    /// What went wrong last, with its causes.
    error: String,
    /// An object, or the text that should have been one.
    #[schema(value_type = Value)]
    payload: Value,
    #[schema(value_type = shapes::Timestamp)]
    died_at: Timestamp,
    /// What the reason means, and what to do.
    advice: String,
}

/// The letters with what they were about.
pub async fn entries(db: &Db, letters: Vec<DeadLetter>) -> Result<Vec<LetterEntry>, LedgerError> {
    let mut abouts = dead_letters::abouts(db, &letters).await?;
    Ok(letters.into_iter().map(|letter| describe(abouts.remove(&letter.id), letter)).collect())
}

fn describe(about: Option<About>, letter: DeadLetter) -> LetterEntry {
    let (org_id, subject_kind, filename) =
        about.map_or((None, None, None), |about| (about.org_id, about.subject_kind, about.filename));
    LetterEntry {
        id: letter.id,
        subject: letter.subject,
        subject_kind,
        org_id,
        filename: filename.or_else(|| letter.path()),
        advice: letter.advice(),
        payload: payload(&letter.payload),
        kind: letter.kind,
        pool: letter.pool,
        lane: letter.lane,
        reason: letter.reason,
        attempts: letter.attempts,
        crashes: letter.crashes,
        error: letter.error,
        died_at: letter.died_at,
    }
}

fn payload(text: &str) -> Value {
    let object = serde_json::from_str(text).ok().filter(Value::is_object);
    object.unwrap_or_else(|| Value::String(text.to_owned()))
}

impl From<KindCount> for KindEntry {
    fn from(KindCount { kind, reason, count }: KindCount) -> Self {
        Self { kind, reason, count }
    }
}

/// List dead letters.
///
/// The latest first: `sort` is by when they died. Scope `admin`.
#[utoipa::path(get, path = "/api/admin/dead-letters", tag = "Admin", operation_id = "listDeadLetters",
    params(shared::Page, params::Letters),
    responses((status = 200, description = "A part of the letters", body = LetterList), refusals::List))]
pub async fn list(_: Operator, State(http): State<Arc<Http>>, query: Query) -> Result<Json<LetterList>, ApiError> {
    let (filter, paging, db) = (filter_of(&query)?, Paging::read(&query, MOST_PER_PAGE)?, &http.ctx.db);
    let (mut rows, count, kinds) = tokio::try_join!(
        dead_letters::page(db, &filter, paging.part()),
        dead_letters::count(db, &filter),
        dead_letters::count_by_kind(db)
    )?;
    let next = paging.cut(&mut rows, |letter| letter.id);
    let dead_letters = entries(db, rows).await?;
    let kinds = kinds.into_iter().map(KindEntry::from).collect();
    Ok(Json(LetterList { message: GOT, dead_letters, part: paging.tell(next, count), kinds }))
}

fn filter_of(query: &Query) -> Result<Filter, ApiError> {
    Ok(Filter {
        ids: None,
        pool: query.parsed("pool")?,
        kind: query.text("kind")?,
        reason: query.text("reason")?,
        subject: query.parsed("subject")?,
        org: query.parsed("org")?,
        error: short(query, "error")?,
        before: None,
    })
}

/// A parameter that is looked for in other texts.
pub fn short(query: &Query, name: &'static str) -> Result<Option<String>, ApiError> {
    let text = query.text(name)?;
    if text.as_ref().is_some_and(|text| text.chars().count() > LONGEST) {
        return Err(query.fault(name, format!("may have {LONGEST} characters at most")));
    }
    Ok(text)
}

/// Look at one dead letter.
///
/// Scope `admin`.
#[utoipa::path(get, path = "/api/admin/dead-letters/{id}", tag = "Admin", operation_id = "getDeadLetter", params(shared::Id),
    responses((status = 200, description = "The letter", body = LettersAnswer), refusals::OneOfAdmin))]
pub async fn show(_: Operator, State(http): State<Arc<Http>>, id: Id) -> Result<Json<LettersAnswer>, ApiError> {
    let none = || ApiError::NoSuch("dead letter");
    let id = id.0.ok_or_else(none)?;
    let letter = dead_letters::find(&http.ctx.db, id).await?.ok_or_else(none)?;
    let dead_letters = entries(&http.ctx.db, vec![letter]).await?;
    Ok(Json(LettersAnswer { message: GOT, dead_letters }))
}
