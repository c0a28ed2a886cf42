//! The S3 POST policy: what a form may upload, signed so that the bucket can check it without asking us.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Digest, Timestamp};

/// What one policy allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTerms {
    /// The exact key.
    pub key: String,
    /// The fewest bytes.
    pub min_size: i64,
    /// The most bytes.
    pub max_size: i64,
    /// The exact media type; `None` when the form sends none.
    pub content_type: Option<String>,
    /// The digest that the client declared: signed in, so that servers which can check it do.
    pub sha256: Option<Digest>,
    /// Goes along as `x-amz-meta-upload-id`.
    pub upload_id: Uuid,
    /// When the policy ends, unless the credentials end sooner.
    pub expires_at: Timestamp,
}

/// A signed policy as the client needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostPolicy {
    /// Where to post the form.
    pub url: String,
    /// The form's fields; `file` comes behind them.
    pub fields: BTreeMap<String, String>,
    /// When it ends. Kept in a column of its own, not in the JSON.
    #[serde(skip)]
    pub expires_at: Timestamp,
}
