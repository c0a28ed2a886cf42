//! A file as clients see it.

use longshore_jobs::model::file::File;
use longshore_jobs::model::{Digest, Status, Target, Timestamp, Upload, filename};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::openapi::shapes;
use super::super::paging::ListPart;

/// Files, in order.
#[derive(Serialize, ToSchema)]
pub struct FilesAnswer {
    pub message: &'static str,
    pub files: Vec<FileEntry>,
}

/// A part of the org's files.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileList {
    pub message: &'static str,
    pub files: Vec<FileEntry>,
    #[serde(flatten)]
    pub part: ListPart,
}

/// A file of the org, or what is to become one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileEntry {
    id: Uuid,
    org_id: Uuid,
    /// Who owns the key that it was uploaded with.
    user_id: Uuid,
    /// With its dot; null for a name without one.
    #[schema(required, example = ".jpg")]
    extension: Option<String>,
    #[schema(example = "MyPicture.jpg")]
    filename: String,
    #[schema(value_type = shapes::Timestamp)]
    created_at: Timestamp,
    /// Bytes.
    #[schema(required, example = 3_574_392)]
    size: Option<i64>,
    #[schema(required, value_type = Option<shapes::Digest>)]
    hash: Option<Digest>,
    /// The media type, as declared or as the name suggests.
    #[schema(required, example = "image/jpeg")]
    r#type: Option<String>,
    encodings: Encodings,
    #[schema(required, value_type = Option<shapes::Target>)]
    target: Option<Target>,
    /// Whether the org had the bytes already; null until that is known.
    #[schema(required)]
    deduplicated: Option<bool>,
    /// `done`, unless it is still on its way.
    #[schema(value_type = shapes::Status)]
    status: Status,
}

/// In which forms the bytes are kept.
#[derive(Debug, Serialize, ToSchema)]
struct Encodings {
    raw: Encoding,
}

/// One form of the bytes.
#[derive(Debug, Serialize, ToSchema)]
struct Encoding {
    /// Bytes.
    #[schema(required)]
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
