//! Orgs as operators see them, with their reports.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use longshore_jobs::job::{Lane, NewJob};
use longshore_jobs::ledger::{Db, LedgerError, orgs};
use longshore_jobs::model::Timestamp;
use longshore_jobs::model::org::Org;
use longshore_jobs::rebuild_reports::RebuildReports;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::{GOT, POSTED};
use super::super::asked::{Id, Query};
use super::super::errors::ApiError;
use super::super::files::report::ReportEntry;
use super::super::openapi::{params as shared, refusals, shapes};
use super::super::paging::{ListPart, MOST_PER_PAGE, Paging};
use super::super::push::push_within;
use super::letters::short;
use super::{Operator, params};

/// How long the queue may take to take a job.
const PATIENCE: Duration = Duration::from_secs(5);

/// Orgs.
#[derive(Serialize, ToSchema)]
pub struct OrgsAnswer {
    message: &'static str,
    orgs: Vec<OrgEntry>,
}

/// A part of the orgs.
#[derive(Serialize, ToSchema)]
pub struct OrgList {
    message: &'static str,
    orgs: Vec<OrgEntry>,
    #[serde(flatten)]
    part: ListPart,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OrgEntry {
    id: Uuid,
    #[schema(example = "acme")]
    name: String,
    #[schema(value_type = shapes::Timestamp)]
    created_at: Timestamp,
    report: ReportEntry,
}

/// The report of one org.
#[derive(Serialize, ToSchema)]
pub struct OrgReportAnswer {
    message: &'static str,
    reports: [ReportEntry; 1],
}

async fn entries(db: &Db, orgs: Vec<Org>) -> Result<Vec<OrgEntry>, LedgerError> {
    let reports = orgs::reports(db, orgs.iter().map(|org| org.id)).await?;
    let entry = |org: Org| OrgEntry {
        id: org.id,
        report: reports.get(&org.id).copied().unwrap_or_default().into(),
        name: org.name,
        created_at: org.created_at,
    };
    Ok(orgs.into_iter().map(entry).collect())
}

/// The org of that id.
pub async fn found(http: &Http, id: &Id) -> Result<Org, ApiError> {
    let none = || ApiError::NoSuch("org");
    let id = id.0.ok_or_else(none)?;
    orgs::find(&http.ctx.db, id).await?.ok_or_else(none)
}

/// List the orgs.
///
/// Oldest first unless `sort` says otherwise, each with its report. Scope `admin`.
#[utoipa::path(get, path = "/api/admin/orgs", tag = "Admin", operation_id = "listOrgs", params(params::Orgs),
    responses((status = 200, description = "A part of the orgs", body = OrgList), refusals::List))]
pub async fn list(_: Operator, State(http): State<Arc<Http>>, query: Query) -> Result<Json<OrgList>, ApiError> {
    let (name, paging) = (short(&query, "name")?, Paging::read_rising(&query, MOST_PER_PAGE)?);
    let db = &http.ctx.db;
    let mut rows = orgs::page(db, name.as_deref(), paging.part()).await?;
    let next = paging.cut(&mut rows, |org| org.id);
    let count = orgs::count(db, name.as_deref()).await?;
    let orgs = entries(db, rows).await?;
    Ok(Json(OrgList { message: GOT, orgs, part: paging.tell(next, count) }))
}

/// Look at one org.
///
/// Scope `admin`.
#[utoipa::path(get, path = "/api/admin/orgs/{id}", tag = "Admin", operation_id = "getOrg", params(shared::Id),
    responses((status = 200, description = "The org", body = OrgsAnswer), refusals::OneOfAdmin))]
pub async fn show(_: Operator, State(http): State<Arc<Http>>, id: Id) -> Result<Json<OrgsAnswer>, ApiError> {
    let org = found(&http, &id).await?;
    Ok(Json(OrgsAnswer { message: GOT, orgs: entries(&http.ctx.db, vec![org]).await? }))
}

/// How many files an org has, and how large they are.
///
/// Scope `admin`.
#[utoipa::path(get, path = "/api/admin/orgs/{id}/report", tag = "Admin", operation_id = "getOrgReport", params(shared::Id),
    responses((status = 200, description = "The org's report", body = OrgReportAnswer), refusals::OneOfAdmin))]
pub async fn report(_: Operator, State(http): State<Arc<Http>>, id: Id) -> Result<Json<OrgReportAnswer>, ApiError> {
    let org = found(&http, &id).await?;
    let mut reports = orgs::reports(&http.ctx.db, [org.id].into_iter()).await?;
    Ok(Json(OrgReportAnswer { message: GOT, reports: [reports.remove(&org.id).unwrap_or_default().into()] }))
}

/// Have an org's files recounted.
///
/// Puts on a job that counts the files, mends the report where it is off, and says so in the metrics. The answer does not wait for it;
/// `asOf` of the report moves when it is done. Scope `admin`.
#[utoipa::path(post, path = "/api/admin/orgs/{id}/rebuild", tag = "Admin", operation_id = "rebuildOrgReport",
    params(shared::Id),
    responses((status = 202, description = "The org as it is before the recount", body = OrgsAnswer), refusals::OneOfAdmin))]
pub async fn rebuild(
    operator: Operator,
    State(http): State<Arc<Http>>,
    id: Id,
) -> Result<(StatusCode, Json<OrgsAnswer>), ApiError> {
    let org = found(&http, &id).await?;
    let job = NewJob::of(&RebuildReports::of(org.id), Lane::Interactive, http.ctx.now());
    push_within(&http, job, PATIENCE).await.map_err(|fault| ApiError::Unavailable(fault.into()))?;
    tracing::info!(by = operator.key(), org = %org.id, "an operator has a report rebuilt");
    let orgs = entries(&http.ctx.db, vec![org]).await?;
    Ok((StatusCode::ACCEPTED, Json(OrgsAnswer { message: POSTED, orgs })))
}
