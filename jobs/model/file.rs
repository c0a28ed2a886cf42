//! Files and the blobs that hold their bytes.

use uuid::Uuid;

use super::target::TargetKind;
use super::{Digest, Target, Timestamp, words};

/// One entry of an org. Two entries may share one blob.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct File {
    /// UUIDv7, fixed when the upload was asked for.
    pub id: Uuid,
    /// The org that owns it.
    pub org_id: Uuid,
    /// The user whose key uploaded it.
    pub user_id: Uuid,
    /// The upload that it came by.
    pub upload_id: Uuid,
    /// Where its bytes are.
    pub blob_id: Uuid,
    /// As the client named it.
    pub filename: String,
    /// Bytes.
    pub size: i64,
    /// Of its bytes.
    pub sha256: Digest,
    /// The media type; `None` when neither the client nor the name told.
    pub content_type: Option<String>,
    /// Order or style; `None` when it is for neither.
    pub target_kind: Option<TargetKind>,
    /// The target's number.
    pub target_number: Option<String>,
    /// Whether the org already had these bytes.
    pub deduplicated: bool,
    /// When the upload was asked for.
    pub created_at: Timestamp,
}

impl File {
    /// What the file is for.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        Some(Target { kind: self.target_kind?, number: self.target_number.clone()? })
    }
}

words! {
    /// Whether a blob may be referred to.
    BlobState, "a blob's state" {
        /// It may.
        Live = "live",
        /// Its bytes are being removed.
        Deleting = "deleting",
    }
}

/// Bytes that an org has, stored once.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Blob {
    /// UUIDv7.
    pub id: Uuid,
    /// Dedupe never crosses an org.
    pub org_id: Uuid,
    /// Unique per org.
    pub sha256: Digest,
    /// Bytes.
    pub size: i64,
    /// Where the bytes are; never used again for another blob.
    pub object_key: String,
    /// Live or on its way out.
    pub state: BlobState,
    /// How many file entries refer to it.
    pub refs: i64,
}
