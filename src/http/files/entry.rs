//! A file as clients see it.

use longshore_jobs::model::file::File;
use longshore_jobs::model::{Digest, Status, Target, Timestamp, Upload, filename};
use serde::Serialize;
use uuid::Uuid;

/// One entry under `files`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    id: Uuid,
    org_id: Uuid,
    user_id: Uuid,
    extension: Option<String>,
    filename: String,
    created_at: Timestamp,
    size: Option<i64>,
    hash: Option<Digest>,
    r#type: Option<String>,
    encodings: Encodings,
    target: Option<Target>,
    deduplicated: Option<bool>,
    status: Status,
}

#[derive(Debug, Serialize)]
struct Encodings {
    raw: Encoding,
}

#[derive(Debug, Serialize)]
struct Encoding {
    size: Option<i64>,
}

impl From<File> for FileEntry {
    fn from(file: File) -> Self {
        Self {
            id: file.id,
            org_id: file.org_id,
            user_id: file.user_id,
            extension: filename::extension(&file.filename).map(str::to_owned),
            target: file.target(),
            filename: file.filename,
            created_at: file.created_at,
            size: Some(file.size),
            hash: Some(file.sha256),
            r#type: file.content_type,
            encodings: Encodings { raw: Encoding { size: Some(file.size) } },
            deduplicated: Some(file.deduplicated),
            status: Status::Done,
        }
    }
}

/// The file that the upload is or becomes.
impl From<Upload> for FileEntry {
    fn from(upload: Upload) -> Self {
        let size = upload.known_size();
        Self {
            id: upload.file_id,
            org_id: upload.org_id,
            user_id: upload.user_id,
            extension: filename::extension(&upload.filename).map(str::to_owned),
            target: upload.target(),
            hash: upload.known_sha256(),
            filename: upload.filename,
            created_at: upload.created_at,
            size,
            r#type: upload.content_type,
            encodings: Encodings { raw: Encoding { size } },
            deduplicated: upload.deduplicated,
            status: upload.status,
        }
    }
}
