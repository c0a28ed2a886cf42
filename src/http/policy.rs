//! A signed policy as clients see it, of an upload or of a batch.

use std::collections::BTreeMap;

use longshore_jobs::model::Timestamp;
use longshore_jobs::model::policy::PostPolicy;
use serde::Serialize;
use utoipa::ToSchema;

use super::errors::ApiError;
use super::openapi::shapes;

/// How the client puts the bytes: a multipart form with all `fields`, and behind them the bytes as `file`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyEntry {
    #[schema(example = "POST")]
    method: &'static str,
    #[schema(format = "uri")]
    url: String,
    fields: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    /// Seconds from now.
    expires: u64,
    #[schema(value_type = shapes::Timestamp)]
    expires_at: Timestamp,
}

impl PolicyEntry {
    /// The policy that is kept as this text; `None` when there is none, when its time is over, and when it does not lead to `url`,
    /// where the bucket is now.
    pub fn of(
        (text, url): (Option<&str>, &str),
        ends: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<Self>, ApiError> {
        let Some((text, expires_at)) = text.zip(ends).filter(|(_, ends)| *ends > now) else {
            return Ok(None);
        };
        let policy: PostPolicy = serde_json::from_str(text).map_err(|error| ApiError::Internal(error.into()))?;
        if policy.url != url {
            return Ok(None);
        }
        Ok(Some(Self {
            method: "POST",
            url: policy.url,
            fields: policy.fields,
            headers: BTreeMap::new(),
            expires: u64::try_from(expires_at.since(now).as_millis().div_ceil(1000)).unwrap_or(u64::MAX),
            expires_at,
        }))
    }
}
