//! An upload as clients see it.

use std::collections::{BTreeMap, HashSet};

use longshore_jobs::ledger::dead_letters;
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::policy::PostPolicy;
use longshore_jobs::model::upload::Reason;
use longshore_jobs::model::{Digest, Status, Target, Timestamp, Upload};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::super::Http;
use super::super::auth::Caller;
use super::super::errors::ApiError;

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
    batch_id: Option<Uuid>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    attention: bool,
}

/// How the client puts the bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyEntry {
    method: &'static str,
    url: String,
    fields: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    /// Seconds from now.
    expires: u64,
    expires_at: Timestamp,
}

/// The uploads as this caller may see them: a policy is for those alone who may upload.
pub async fn entries(http: &Http, caller: &Caller, rows: Vec<Upload>) -> Result<Vec<UploadEntry>, ApiError> {
    let open = rows.iter().filter(|row| !row.status.is_final());
    let moved: Vec<_> = open.map(|row| (row.id, row.updated_at)).collect();
    let stuck = dead_letters::stuck(&http.ctx.db, &moved).await?;
    let (now, may) = (http.ctx.now(), caller.may(Scope::Upload));
    rows.into_iter().map(|row| describe(row, may.then_some(now), &stuck)).collect()
}

/// `now` when the policy may be shown.
fn describe(row: Upload, now: Option<Timestamp>, stuck: &HashSet<Uuid>) -> Result<UploadEntry, ApiError> {
    let upload = now.map(|now| policy(&row, now)).transpose()?.flatten();
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
        attention: stuck.contains(&row.id),
        batch_id: row.batch_id,
        filename: row.filename,
        r#type: row.content_type,
    })
}

/// The policy while it is of use.
fn policy(row: &Upload, now: Timestamp) -> Result<Option<PolicyEntry>, ApiError> {
    let (Status::Issued, Some(text), Some(expires_at)) = (row.status, &row.policy, row.policy_expires_at) else {
        return Ok(None);
    };
    if expires_at <= now {
        return Ok(None);
    }
    let policy: PostPolicy = serde_json::from_str(text).map_err(unreadable)?;
    Ok(Some(PolicyEntry {
        method: "POST",
        url: policy.url,
        fields: policy.fields,
        headers: BTreeMap::new(),
        expires: u64::try_from(expires_at.since(now).as_millis().div_ceil(1000)).unwrap_or(u64::MAX),
        expires_at,
    }))
}

fn unreadable(error: serde_json::Error) -> ApiError {
    ApiError::Internal(error.into())
}
