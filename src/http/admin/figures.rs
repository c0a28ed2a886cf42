//! What there is of one org, for people as JSON and for Prometheus as text: labels of the service's own metrics never name an org.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, header};
use longshore_jobs::ledger::org_figures::{self, Figures};
use longshore_jobs::ledger::page::COUNT_CAP;
use longshore_jobs::ledger::reports;
use longshore_jobs::ledger::totals::OpenOf;
use longshore_jobs::model::report::Report;
use longshore_jobs::model::{Status, Timestamp};
use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::GOT;
use super::super::asked::Id;
use super::super::errors::ApiError;
use super::super::openapi::{params as shared, refusals, shapes};
use super::{Operator, orgs, seconds};

/// What there is of one org.
#[derive(Serialize, ToSchema)]
pub struct FiguresAnswer {
    message: &'static str,
    metrics: [FiguresEntry; 1],
}

/// What there is of one org. Nothing is counted beyond 100,000 but what its report and the open uploads say.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FiguresEntry {
    org_id: Uuid,
    /// As the report has it, like the next three.
    files: i64,
    bytes: i64,
    unique_files: i64,
    unique_bytes: i64,
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    report_as_of: Option<Timestamp>,
    /// Changes that the report does not have yet.
    unfolded_deltas: i64,
    /// How long ago the oldest of them was made.
    #[schema(required)]
    oldest_delta_age_seconds: Option<f64>,
    /// By status. Those that are done are the files that there are; of very many that are open it is the last count, half a minute
    /// old at most.
    #[schema(value_type = BTreeMap<String, i64>)]
    uploads: BTreeMap<&'static str, i64>,
    /// The statuses of which there are more than `uploads` says.
    uploads_capped: Vec<&'static str>,
    /// Other figures of which there is more than this says.
    capped: Vec<&'static str>,
    /// Batches that take something in, or have lines that are not uploads yet.
    open_batches: i64,
    dead_letters: i64,
    keys: KeysEntry,
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    last_upload_at: Option<Timestamp>,
    /// Contents that no file has any more, until they are collected.
    unreferenced_blobs: i64,
    unreferenced_bytes: i64,
}

/// The org's API keys.
#[derive(Debug, Serialize, ToSchema)]
struct KeysEntry {
    /// Those that let somebody in.
    standing: i64,
}

/// What there is of an org.
///
/// With `Accept: text/plain` in Prometheus' text format, so that it can be scraped: its series carry no label for the org, which the
/// scrape has to add. Scope `admin`.
#[utoipa::path(get, path = "/api/admin/orgs/{id}/metrics", tag = "Admin", operation_id = "getOrgMetrics", params(shared::Id),
    responses(
        (status = 200, description = "What there is of it",
            content((FiguresAnswer = "application/json"), (String = "text/plain"))),
        refusals::OneOfAdmin))]
pub async fn metrics(
    _: Operator,
    State(http): State<Arc<Http>>,
    id: Id,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (org, db, now) = (orgs::found(&http, &id).await?.id, &http.ctx.db, http.ctx.now());
    let (report, figures, open) =
        tokio::try_join!(reports::find(db, org), org_figures::of(db, org, now), http.desk.open_by_org(db))?;
    let entry = describe((org, now), report, &figures, &open);
    if !wants_text(&headers) {
        return Ok(Json(FiguresAnswer { message: GOT, metrics: [entry] }).into_response());
    }
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, media_type)], render(&entry, now)).into_response())
}

/// As Prometheus asks. Who takes JSON gets it.
fn wants_text(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepted = accepted.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    let takes = |media_type| accepted.contains(media_type);
    (takes("text/plain") || takes("application/openmetrics-text")) && !takes("application/json")
}

fn describe((org_id, now): (Uuid, Timestamp), report: Report, figures: &Figures, open: &[OpenOf]) -> FiguresEntry {
    let (uploads, uploads_capped) = uploads(org_id, figures, open);
    let others = [
        ("unfoldedDeltas", figures.deltas),
        ("openBatches", figures.open_batches),
        ("deadLetters", figures.dead_letters),
        ("keys", figures.standing_keys),
        ("unreferencedBlobs", figures.unreferenced_blobs),
    ];
    FiguresEntry {
        org_id,
        files: report.totals.files,
        bytes: report.totals.bytes,
        unique_files: report.totals.unique_files,
        unique_bytes: report.totals.unique_bytes,
        report_as_of: report.as_of,
        unfolded_deltas: figures.deltas.min(COUNT_CAP),
        oldest_delta_age_seconds: figures.oldest_delta.map(|oldest| seconds(now.since(oldest))),
        uploads,
        uploads_capped,
        capped: others.into_iter().filter(|(_, count)| *count > COUNT_CAP).map(|(name, _)| name).collect(),
        open_batches: figures.open_batches.min(COUNT_CAP),
        dead_letters: figures.dead_letters.min(COUNT_CAP),
        keys: KeysEntry { standing: figures.standing_keys.min(COUNT_CAP) },
        last_upload_at: figures.last_upload_at,
        unreferenced_blobs: figures.unreferenced_blobs.min(COUNT_CAP),
        unreferenced_bytes: figures.unreferenced_bytes,
    }
}

/// Uploads by status, and the statuses of which there are more.
fn uploads(org: Uuid, figures: &Figures, open: &[OpenOf]) -> (BTreeMap<&'static str, i64>, Vec<&'static str>) {
    let count = |status: Status| match status {
        Status::Done => (figures.files, figures.deltas > COUNT_CAP),
        Status::Rejected => (figures.rejected.min(COUNT_CAP), figures.rejected > COUNT_CAP),
        Status::Expired => (figures.expired.min(COUNT_CAP), figures.expired > COUNT_CAP),
        Status::Cancelled => (figures.cancelled.min(COUNT_CAP), figures.cancelled > COUNT_CAP),
        Status::Requested | Status::Issued | Status::Arrived | Status::Verified => {
            let row = open.iter().find(|open| open.org_id == org && open.status == status);
            (row.map_or(0, |row| row.count), false)
        }
    };
    let counts = Status::ALL.iter().map(|status| (status.as_str(), count(*status).0)).collect();
    let capped = Status::ALL.iter().filter(|status| count(**status).1).map(|status| status.as_str()).collect();
    (counts, capped)
}

/// In Prometheus' text format. What is null in JSON is left out.
fn render(entry: &FiguresEntry, now: Timestamp) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        describe_all();
        set_all(entry, now);
    });
    recorder.handle().render()
}

fn describe_all() {
    describe_gauge!("longshore_org_files", "Files of the org, as its report has them.");
    describe_gauge!("longshore_org_bytes", Unit::Bytes, "Bytes of all its files.");
    describe_gauge!("longshore_org_unique_files", "Distinct contents of its files.");
    describe_gauge!("longshore_org_unique_bytes", Unit::Bytes, "Bytes of the distinct contents.");
    describe_gauge!("longshore_org_report_age_seconds", Unit::Seconds, "How long ago its report was written.");
    describe_gauge!("longshore_org_unfolded_deltas", "Changes that its report does not have yet.");
    describe_gauge!(
        "longshore_org_oldest_delta_age_seconds",
        Unit::Seconds,
        "How long ago the oldest of those changes was made; 0 when there is none."
    );
    describe_gauge!("longshore_org_uploads", "Uploads by status; what came to nothing is counted to 100000.");
    describe_gauge!("longshore_org_open_batches", "Batches that take something in.");
    describe_gauge!("longshore_org_dead_letters", "Dead letters of its jobs.");
    describe_gauge!("longshore_org_standing_keys", "API keys that let somebody in.");
    describe_gauge!(
        "longshore_org_last_upload_timestamp_seconds",
        Unit::Seconds,
        "When an upload was asked for last, since the epoch."
    );
    describe_gauge!("longshore_org_unreferenced_blobs", "Contents that no file has any more.");
    describe_gauge!("longshore_org_unreferenced_bytes", Unit::Bytes, "Their bytes.");
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn set_all(entry: &FiguresEntry, now: Timestamp) {
    for (name, count) in [
        ("longshore_org_files", entry.files),
        ("longshore_org_bytes", entry.bytes),
        ("longshore_org_unique_files", entry.unique_files),
        ("longshore_org_unique_bytes", entry.unique_bytes),
        ("longshore_org_unfolded_deltas", entry.unfolded_deltas),
        ("longshore_org_open_batches", entry.open_batches),
        ("longshore_org_dead_letters", entry.dead_letters),
        ("longshore_org_standing_keys", entry.keys.standing),
        ("longshore_org_unreferenced_blobs", entry.unreferenced_blobs),
        ("longshore_org_unreferenced_bytes", entry.unreferenced_bytes),
    ] {
        gauge!(name).set(count as f64);
    }
    for (status, count) in &entry.uploads {
        gauge!("longshore_org_uploads", "status" => *status).set(*count as f64);
    }
    gauge!("longshore_org_oldest_delta_age_seconds").set(entry.oldest_delta_age_seconds.unwrap_or(0.0));
    if let Some(as_of) = entry.report_as_of {
        gauge!("longshore_org_report_age_seconds").set(seconds(now.since(as_of)));
    }
    if let Some(at) = entry.last_upload_at {
        gauge!("longshore_org_last_upload_timestamp_seconds").set(at.as_millis() as f64 / 1000.0);
    }
}
