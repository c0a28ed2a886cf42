//! From a word to the thing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use longshore_jobs::ledger::search::{self, By, Hit, Thing};
use longshore_jobs::model::batch::{Count, Mode};
use longshore_jobs::model::org::ApiKey;
use longshore_jobs::model::report::megabytes;
use longshore_jobs::model::{Batch, Status, Target, Timestamp, Upload};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::GOT;
use super::super::asked::Query;
use super::super::errors::ApiError;
use super::super::openapi::{refusals, shapes};
use super::letters::short;
use super::{Operator, params};

/// Nobody waits longer for a search.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Serialize, ToSchema)]
pub struct SearchAnswer {
    message: &'static str,
    /// At most 50, newest first within a kind of match.
    results: Vec<HitEntry>,
    /// Whether there are more.
    truncated: bool,
}

/// One thing that was found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HitEntry {
    /// `upload`, `file`, `batch`, `org`, `deadLetter` or `key`.
    r#type: &'static str,
    /// A UUID, but for a key.
    id: String,
    /// The upload whose timeline tells more.
    #[schema(required)]
    upload_id: Option<Uuid>,
    /// Null for a dead letter of nobody's job.
    #[schema(required)]
    org_id: Option<Uuid>,
    #[schema(required)]
    org_name: Option<String>,
    /// The file's name, or what it is.
    title: String,
    /// How it stands, in short.
    detail: String,
    /// By what: `id`, `name`, `filename`, `hash`, `order`, `style` or `ref`.
    #[schema(value_type = String)]
    matched: By,
    #[schema(value_type = shapes::Timestamp)]
    created_at: Timestamp,
}

/// Find anything.
///
/// By what it is called, numbered or hashed, exactly. Files and uploads that came to nothing are found however many there are; of the
/// uploads that are still open, the newest 10,000 are looked through by name and hash. Scope `admin`.
#[utoipa::path(get, path = "/api/admin/search", tag = "Admin", operation_id = "search", params(params::Search),
    responses((status = 200, description = "What was found", body = SearchAnswer), refusals::List))]
pub async fn search(_: Operator, State(http): State<Arc<Http>>, query: Query) -> Result<Json<SearchAnswer>, ApiError> {
    let asked = short(&query, "q")?.unwrap_or_default().trim().to_owned();
    if asked.is_empty() {
        return Err(query.fault("q", "must say what is looked for"));
    }
    let found = timeout(PATIENCE, search::search(&http.ctx.db, asked)).await;
    let found =
        found.map_err(|_| ApiError::Unavailable(format!("a search took longer than {PATIENCE:?}").into()))??;
    let results = found.hits.into_iter().map(|hit| describe(hit, &found.orgs)).collect();
    Ok(Json(SearchAnswer { message: GOT, results, truncated: found.truncated }))
}

fn describe(hit: Hit, orgs: &HashMap<Uuid, String>) -> HitEntry {
    let org_id = hit.thing.org();
    let bare = HitEntry {
        r#type: "",
        id: String::new(),
        upload_id: None,
        org_id,
        org_name: org_id.and_then(|org| orgs.get(&org).cloned()),
        title: String::new(),
        detail: String::new(),
        matched: hit.by,
        created_at: Timestamp::default(),
    };
    match hit.thing {
        Thing::Upload(upload) => HitEntry { r#type: "upload", id: upload.id.to_string(), ..of_upload(*upload, bare) },
        Thing::File(upload) => HitEntry { r#type: "file", id: upload.file_id.to_string(), ..of_upload(*upload, bare) },
        Thing::Batch(batch, counts) => of_batch(&batch, &counts, bare),
        Thing::Org(org) => {
            HitEntry { r#type: "org", id: org.id.to_string(), title: org.name, created_at: org.created_at, ..bare }
        }
        Thing::Letter(found) => HitEntry {
            r#type: "deadLetter",
            id: found.letter.id.to_string(),
            upload_id: found.of_upload.then_some(found.letter.subject),
            title: found.letter.kind,
            detail: format!("{} · {}", found.letter.reason, counted(Some(found.letter.attempts), "attempt")),
            created_at: found.letter.died_at,
            ..bare
        },
        Thing::Key(key) => of_key(key, bare),
    }
}

fn of_upload(upload: Upload, bare: HitEntry) -> HitEntry {
    let reason = upload.reason.map(|reason| reason.to_string());
    let status =
        if upload.file_deleted_at.is_some() { "done, file deleted".to_owned() } else { upload.status.to_string() };
    let parts = [Some(status), reason, upload.known_size().map(size), upload.target().map(|target| number(&target))];
    HitEntry {
        upload_id: Some(upload.id),
        detail: joined(parts),
        title: upload.filename,
        created_at: upload.created_at,
        ..bare
    }
}

fn of_batch(batch: &Batch, counts: &[Count], bare: HitEntry) -> HitEntry {
    let title = match batch.mode {
        Mode::Each => format!("Batch of {}", counted(batch.lines, "line")),
        Mode::Prefix => format!("Batch of up to {}", counted(batch.max_files, "file")),
    };
    let state = if batch.closed_at.is_some() { "closed" } else { "open" };
    let detail = joined([Some(state.to_owned()), standing(counts), batch.target().map(|target| number(&target))]);
    HitEntry { r#type: "batch", id: batch.id.to_string(), title, detail, created_at: batch.created_at, ..bare }
}

/// How many uploads stand where, in the order of their way.
fn standing(counts: &[Count]) -> Option<String> {
    let of = |status: Status| counts.iter().find(|count| count.status == status).filter(|count| count.uploads > 0);
    let told = |count: &Count| format!("{} {}", count.uploads, count.status);
    let parts: Vec<String> = Status::ALL.iter().filter_map(|status| of(*status)).map(told).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn counted(number: Option<i64>, what: &str) -> String {
    let number = number.unwrap_or(0);
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The public half, and never more.
fn of_key(key: ApiKey, bare: HitEntry) -> HitEntry {
    let revoked = key.revoked_at.map(|_| "revoked".to_owned());
    let detail = joined([Some(key.scopes.to_string()), revoked]);
    HitEntry { r#type: "key", id: key.key, title: key.name, detail, created_at: key.created_at, ..bare }
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

fn number(target: &Target) -> String {
    format!("{} {}", target.kind, target.number)
}

fn size(bytes: i64) -> String {
    if bytes < 100_000 { format!("{bytes} bytes") } else { format!("{} MB", megabytes(bytes)) }
}
