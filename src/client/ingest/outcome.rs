//! How a file ends.

use longshore_jobs::job::with_causes;
use longshore_jobs::model::{Digest, Status};
use serde::Serialize;
use uuid::Uuid;

use super::content::Ready;
use super::walk::Found;
use crate::client::api::Upload;
use crate::client::transport::ApiError;

/// How a file ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    /// What it is called.
    #[serde(rename = "path")]
    pub(crate) name: String,
    /// What came of it.
    #[serde(flatten)]
    pub(crate) end: End,
    /// Bytes when it was found.
    pub(crate) size: u64,
    /// `None` when it could not be read.
    pub(crate) hash: Option<Digest>,
    /// The upload; `None` when there is none.
    pub(crate) upload_id: Option<Uuid>,
    /// The file entry, once there is one.
    pub(crate) file_id: Option<Uuid>,
    /// When its upload last moved by what this run did; empty otherwise. By the server's clock, sorts as text.
    #[serde(skip)]
    pub(super) moved_at: String,
    /// Bytes that progress was told of while the file was on its way.
    #[serde(skip)]
    pub(super) travelled: u64,
}

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum End {
    /// The org has new bytes.
    Uploaded,
    /// The org had the bytes; it has a new entry for them.
    Duplicate,
    /// An earlier run has uploaded this very file.
    AlreadyThere,
    /// It is not there.
    Failed {
        /// For a human.
        reason: String,
    },
}

/// A file whose part in this run is over.
pub(super) struct Landed {
    /// The file.
    pub(super) ready: Ready,
    /// Whether this run has made its upload or sent its bytes.
    pub(super) moved: bool,
    /// Whether this run has sent its bytes.
    pub(super) sent: bool,
    /// Bytes that progress was told of.
    pub(super) travelled: u64,
}

impl Landed {
    /// One that was brought in by an earlier run.
    pub(super) fn before(ready: Ready) -> Self {
        Self { ready, moved: false, sent: false, travelled: 0 }
    }
}

impl Outcome {
    /// Of a file whose upload moves no more.
    pub(super) fn of(Landed { ready, moved, travelled, .. }: Landed, upload: Upload, pinned: bool) -> Self {
        let moved_at = if moved && upload.status == Status::Done { upload.updated_at.clone() } else { String::new() };
        Self {
            end: End::of(&upload, moved, pinned),
            size: ready.found.size,
            hash: Some(ready.sha256),
            upload_id: Some(upload.id),
            file_id: upload.file_id,
            moved_at,
            travelled,
            name: ready.found.name,
        }
    }

    /// Of a file that stops short of that.
    pub(super) fn short(Landed { ready, travelled, .. }: Landed, upload_id: Option<Uuid>, reason: String) -> Self {
        Self { hash: Some(ready.sha256), upload_id, travelled, ..Self::failed(&ready.found, reason) }
    }

    /// Of a file that has not even been asked for.
    pub(super) fn failed(found: &Found, reason: String) -> Self {
        Self {
            name: found.name.clone(),
            end: End::Failed { reason },
            size: found.size,
            hash: None,
            upload_id: None,
            file_id: None,
            moved_at: String::new(),
            travelled: 0,
        }
    }
}

impl End {
    fn of(upload: &Upload, moved: bool, pinned: bool) -> Self {
        match (upload.status, upload.deduplicated) {
            (Status::Done, _) if !moved => Self::AlreadyThere,
            (Status::Done, Some(true)) => Self::Duplicate,
            (Status::Done, _) => Self::Uploaded,
            (Status::Rejected, _) => Self::Failed { reason: rejection(upload.reason.as_deref(), pinned) },
            _ if upload.attention => Self::Failed { reason: DEAD.to_owned() },
            (other, _) => Self::Failed { reason: format!("the upload ended {other}") },
        }
    }
}

/// What to say of an upload that nothing happens to any more until somebody acts.
pub(super) const DEAD: &str = "its job is dead: ask the operator for `longshore jobs list`";

/// Why a file stops short of its end.
pub(super) enum Stop {
    /// This file alone.
    File(String),
    /// Every file.
    Run(ApiError),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        if error.is_about_everything() { Self::Run(error) } else { Self::File(with_causes(&error)) }
    }
}

/// What to say of an upload that was rejected; `pinned`: its hash came from a manifest.
pub(super) fn rejection(reason: Option<&str>, pinned: bool) -> String {
    match reason.unwrap_or("no reason given") {
        "digest_mismatch" if pinned => "rejected: digest_mismatch (its bytes are not those of the manifest)".to_owned(),
        reason @ ("digest_mismatch" | "size_mismatch") => {
            format!("rejected: {reason} (did it change while it was sent? run again)")
        }
        reason => format!("rejected: {reason}"),
    }
}
