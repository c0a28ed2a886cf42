//! An upload as clients see it.

use std::collections::HashSet;

use longshore_jobs::ledger::dead_letters;
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::upload::Reason;
use longshore_jobs::model::{Digest, Status, Target, Timestamp, Upload};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::super::openapi::shapes;
use super::super::paging::ListPart;
use super::super::policy::PolicyEntry;

/// Uploads, in order.
#[derive(Serialize, ToSchema)]
pub struct UploadsAnswer {
    pub message: &'static str,
    pub uploads: Vec<UploadEntry>,
}

/// A part of the org's uploads.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadList {
    pub message: &'static str,
    pub uploads: Vec<UploadEntry>,
    #[serde(flatten)]
    pub part: ListPart,
}

/// An upload, and while it is issued the policy for its bytes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadEntry {
    id: Uuid,
    #[schema(value_type = shapes::Status)]
    status: Status,
    #[schema(example = "MyPicture.jpg")]
    filename: String,
    /// Bytes, as declared until the object is there.
    #[schema(required, example = 3_574_392)]
    size: Option<i64>,
    /// The media type, as declared or as the name suggests.
    #[schema(required, example = "image/jpeg")]
    r#type: Option<String>,
    /// As declared until the bytes are verified.
    #[schema(required, value_type = Option<shapes::Digest>)]
    hash: Option<Digest>,
    #[schema(required, value_type = Option<shapes::Target>)]
    target: Option<Target>,
    #[schema(value_type = shapes::Timestamp)]
    created_at: Timestamp,
    #[schema(value_type = shapes::Timestamp)]
    updated_at: Timestamp,
    /// The file that it became; null until it is `done`.
    #[schema(required)]
    file_id: Option<Uuid>,
    /// When that file was deleted.
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    file_deleted_at: Option<Timestamp>,
    #[schema(required, value_type = Option<shapes::Reason>)]
    reason: Option<Reason>,
    /// Whether the org had the bytes already; null until that is known.
    #[schema(required)]
    deduplicated: Option<bool>,
    /// The client's own id.
    #[schema(required)]
    r#ref: Option<String>,
    /// The client's own object.
    #[schema(required, value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Where the bytes go: there while the upload is `issued` and the policy valid, for callers with the scope `upload`.
    #[schema(required)]
    upload: Option<PolicyEntry>,
    /// The batch that it came with.
    #[schema(required)]
    batch_id: Option<Uuid>,
    /// There, and true, when a person has to look at what became of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    attention: bool,
}

/// The uploads as this caller may see them: a policy is for those alone who may upload.
pub async fn entries(http: &Http, caller: &Caller, rows: Vec<Upload>) -> Result<Vec<UploadEntry>, ApiError> {
    let open = rows.iter().filter(|row| !row.status.is_final());
    let moved: Vec<_> = open.map(|row| (row.id, row.updated_at)).collect();
    let stuck = dead_letters::stuck(&http.ctx.db, &moved).await?;
    let (now, url) = (http.ctx.now(), http.ctx.bucket.address().url);
    let shown = caller.may(Scope::Upload).then_some((now, url.as_str()));
    rows.into_iter().map(|row| describe(row, shown, &stuck)).collect()
}

/// `shown` is now and where the bucket is, when the policy may be shown.
fn describe(row: Upload, shown: Option<(Timestamp, &str)>, stuck: &HashSet<Uuid>) -> Result<UploadEntry, ApiError> {
    let upload = shown.map(|shown| policy(&row, shown)).transpose()?.flatten();
    let metadata = row.metadata.as_deref().map(serde_json::from_str).transpose();
    Ok(UploadEntry {
        id: row.id,
        status: row.status,
        size: row.known_size(),
        hash: row.known_sha256(),
        target: row.target(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        file_id: (row.status == Status::Done && row.file_deleted_at.is_none()).then_some(row.file_id),
        file_deleted_at: row.file_deleted_at,
        reason: row.reason,
        deduplicated: row.deduplicated,
        r#ref: row.client_ref,
        metadata: metadata.map_err(unreadable)?,
        upload,
        attention: stuck.contains(&row.id),
        batch_id: row.batch_id,
        filename: row.filename,
        r#type: row.content_type,
    })
}

/// The policy while it is of use.
fn policy(row: &Upload, (now, url): (Timestamp, &str)) -> Result<Option<PolicyEntry>, ApiError> {
    let text = row.policy.as_deref().filter(|_| row.status == Status::Issued);
    PolicyEntry::of((text, url), row.policy_expires_at, now)
}

fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::Internal(error.into())
}
