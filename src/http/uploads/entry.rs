//! An upload as clients see it.

use longshore_jobs::ledger::dead_letters;
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::upload::Reason;
use longshore_jobs::model::{Digest, Status, Target, Timestamp, Upload};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::Http;
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::super::policy::PolicyEntry;

/// One entry under `uploads`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UploadEntry {
    id: Uuid,
    status: Status,
    filename: String,
    size: Option<i64>,
    r#type: Option<String>,
    hash: Option<Digest>,
    target: Option<Target>,
    created_at: Timestamp,
    updated_at: Timestamp,
    file_id: Option<Uuid>,
    reason: Option<Reason>,
    deduplicated: Option<bool>,
    r#ref: Option<String>,
    metadata: Option<Value>,
    upload: Option<PolicyEntry>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    attention: bool,
}

/// The upload as this caller may see it: a policy is for those alone who may upload.
pub async fn entry(http: &Http, caller: &Caller, row: Upload) -> Result<UploadEntry, ApiError> {
    let attention = !row.status.is_final() && dead_letters::exists_for(&http.ctx.db, row.id, row.updated_at).await?;
    let upload = if caller.may(Scope::Upload) { policy(&row, http.ctx.now())? } else { None };
    let metadata = row.metadata.as_deref().map(serde_json::from_str).transpose();
    Ok(UploadEntry {
        id: row.id,
        status: row.status,
        size: row.known_size(),
        hash: row.known_sha256(),
        target: row.target(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        file_id: (row.status == Status::Done).then_some(row.file_id),
        reason: row.reason,
        deduplicated: row.deduplicated,
        r#ref: row.client_ref,
        metadata: metadata.map_err(unreadable)?,
        upload,
        attention,
        filename: row.filename,
        r#type: row.content_type,
    })
}

/// The policy while it is of use.
fn policy(row: &Upload, now: Timestamp) -> Result<Option<PolicyEntry>, ApiError> {
    let text = row.policy.as_deref().filter(|_| row.status == Status::Issued);
    PolicyEntry::of(text, row.policy_expires_at, now)
}

fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::Internal(error.into())
}
