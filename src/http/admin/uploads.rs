//! `GET /api/admin/uploads`: uploads of all orgs by where they stand and why, as the failed ones of today.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use longshore_jobs::ledger::operators_uploads::{self, Filter, Unlisted};
use longshore_jobs::model::Upload;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::GOT;
use super::super::asked::Query;
use super::super::errors::ApiError;
use super::super::openapi::{params as shared, refusals};
use super::super::paging::{ListPart, MOST_PER_PAGE, Paging};
use super::super::uploads::{UploadEntry, entries};
use super::{Operator, params};

/// A part of the uploads.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OrgsUploadList {
    message: &'static str,
    uploads: Vec<OrgsUpload>,
    #[serde(flatten)]
    part: ListPart,
}

/// An upload as its org sees it, without its policy, and whose it is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OrgsUpload {
    #[serde(flatten)]
    entry: UploadEntry,
    org_id: Uuid,
    #[schema(example = "acme")]
    org_name: String,
}

/// List uploads by where they stand.
///
/// Newest first: `sort` is by when they were asked for. `status` has to be given, or a `reason`, which stands for those that were
/// rejected for it. Those that are `done` are listed for one org alone: `org` has to be given. Scope `admin`.
#[utoipa::path(get, path = "/api/admin/uploads", tag = "Admin", operation_id = "listUploadsOfAll",
    params(shared::Page, params::UploadsOfAll),
    responses((status = 200, description = "A part of the uploads", body = OrgsUploadList), refusals::List))]
pub async fn list(
    operator: Operator,
    State(http): State<Arc<Http>>,
    query: Query,
) -> Result<Json<OrgsUploadList>, ApiError> {
    let (filter, paging, db) = (filter_of(&query)?, Paging::read(&query, MOST_PER_PAGE)?, &http.ctx.db);
    let (mut rows, count) =
        tokio::try_join!(operators_uploads::list(db, filter, paging.part()), operators_uploads::count(db, filter))?;
    let next = paging.cut(&mut rows, |(upload, _)| upload.id);
    // Whoever has a policy could put bytes in the client's place.
    let bare = rows.iter().map(|(row, _)| Upload { policy: None, ..row.clone() }).collect();
    let shown = entries(&http, &operator.0, bare).await?;
    let of_org = |(entry, (row, org_name)): (_, (Upload, String))| OrgsUpload { entry, org_id: row.org_id, org_name };
    let uploads = shown.into_iter().zip(rows).map(of_org).collect();
    Ok(Json(OrgsUploadList { message: GOT, uploads, part: paging.tell(next, count) }))
}

fn filter_of(query: &Query) -> Result<Filter, ApiError> {
    Filter::new(query.parsed("status")?, query.parsed("reason")?, query.parsed("org")?).map_err(|unlisted| {
        let name = match unlisted {
            Unlisted::NoStatus => "status",
            Unlisted::NoReason => "reason",
            Unlisted::NoOrg => "org",
        };
        query.fault(name, unlisted.to_string())
    })
}
