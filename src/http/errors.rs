//! What can go wrong over HTTP: one enum, one stable slug each, one sentence for a human.
//!
//! What went wrong inside is logged here, once, and never returned. `rate_limited_error` of the contract is not
//! among the variants because nothing throws it yet.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use longshore_jobs::job::with_causes;
use longshore_jobs::ledger::LedgerError;
use longshore_jobs::outside::{BoxError, BucketError, QueueError};
use serde_json::json;

/// How long a client is asked to wait when something that we lean on is away, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

const POORLY_FORMED: &str = "Post request was poorly formed";

/// Why a request is not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// A form without files.
    #[error("Files must be included under the 'files' field to perform request")]
    MissingFiles,
    /// The body cannot be read as what it says it is.
    #[error("{0}")]
    BadRequest(String),
    /// No credentials, or none that stand.
    #[error(
        "Send a valid API key: as `Authorization: Bearer <token>`, as `X-Api-Key` with `X-Api-Secret`, or by HTTP basic"
    )]
    Authentication,
    /// The key lacks what the route needs, or the thing is another org's.
    #[error("{0}")]
    Authorization(String),
    /// No such file.
    #[error("User has requested a non-existent file")]
    FileNotFound,
    /// No such upload.
    #[error("User has requested a non-existent upload")]
    UploadNotFound,
    /// No such batch.
    #[error("User has requested a non-existent batch")]
    BatchNotFound,
    /// No such path.
    #[error("There is nothing at this path")]
    NotFound,
    /// The path is there, but not for this method.
    #[error("Use one of the methods in the `Allow` header")]
    MethodNotAllowed,
    /// The thing is not in a state in which that can be done.
    #[error("{0}")]
    Conflict(String),
    /// More bytes or parts than are taken.
    #[error("{0}")]
    PayloadTooLarge(String),
    /// The body is of another kind than the route reads.
    #[error("Send the body as {0}")]
    UnsupportedMediaType(&'static str),
    /// One field of the body will not do.
    #[error("Field `{field}` {fault}")]
    Unprocessable {
        /// Its name, with a dot before the name of a part.
        field: String,
        /// Why, as the end of a sentence.
        fault: String,
    },
    /// One line of a body of many will not do, so none is taken.
    #[error("Line {line}: {fault}")]
    UnprocessableLine {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        fault: String,
    },
    /// One query parameter will not do: as [`ApiError::Unprocessable`], but there was no post.
    #[error("Query parameter `{name}` {fault}")]
    UnprocessableQuery {
        /// Its name.
        name: &'static str,
        /// Why, as the end of a sentence.
        fault: String,
    },
    /// We are at fault.
    #[error("Something went wrong on our side; the request id helps to find out what")]
    Internal(#[source] BoxError),
    /// Something that we lean on is away; a later try may succeed.
    #[error("The service cannot do this at the moment; try again a little later")]
    Unavailable(#[source] BoxError),
}

impl ApiError {
    /// The status, and the slug by which clients tell errors apart.
    #[must_use]
    pub const fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::MissingFiles => (StatusCode::BAD_REQUEST, "missing_files_error"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "bad_request_error"),
            Self::Authentication => (StatusCode::UNAUTHORIZED, "authentication_error"),
            Self::Authorization(_) => (StatusCode::FORBIDDEN, "authorization_error"),
            Self::FileNotFound => (StatusCode::NOT_FOUND, "file_not_found_error"),
            Self::UploadNotFound => (StatusCode::NOT_FOUND, "upload_not_found_error"),
            Self::BatchNotFound => (StatusCode::NOT_FOUND, "batch_not_found_error"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found_error"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed_error"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict_error"),
            Self::PayloadTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large_error"),
            Self::UnsupportedMediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type_error"),
            Self::Unprocessable { .. } | Self::UnprocessableLine { .. } | Self::UnprocessableQuery { .. } => {
                (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable_error")
            }
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable_error"),
        }
    }

    /// What went wrong, in the contract's words.
    const fn outer(&self) -> &'static str {
        match self {
            Self::MissingFiles
            | Self::BadRequest(_)
            | Self::PayloadTooLarge(_)
            | Self::UnsupportedMediaType(_)
            | Self::Unprocessable { .. }
            | Self::UnprocessableLine { .. } => POORLY_FORMED,
            Self::UnprocessableQuery { .. } => "Get request was poorly formed",
            Self::Authentication => "Error getting authentication",
            Self::Authorization(_) => "User lacks authorization to make this request",
            Self::FileNotFound => "Requested file does not exist",
            Self::UploadNotFound => "Requested upload does not exist",
            Self::BatchNotFound => "Requested batch does not exist",
            Self::NotFound => "Requested path does not exist",
            Self::MethodNotAllowed => "Method is not allowed for this path",
            Self::Conflict(_) => "Request conflicts with the current state",
            Self::Internal(_) => "Internal error",
            Self::Unavailable(_) => "Service is unavailable",
        }
    }

    fn log(&self) {
        match self {
            Self::Internal(source) => tracing::error!(error = with_causes(&**source), "a request failed"),
            Self::Unavailable(source) => tracing::error!(error = with_causes(&**source), "a request had to be put off"),
            _ => tracing::debug!(error = %self, "refused"),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let (status, slug) = self.kind();
        let body = json!({
            "message": self.outer(),
            "error": { "type": slug, "message": self.to_string() },
        });
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        if error.is_breach() { Self::Internal(error.into()) } else { Self::Unavailable(error.into()) }
    }
}

impl From<BucketError> for ApiError {
    fn from(error: BucketError) -> Self {
        Self::Unavailable(error.into())
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        Self::Unavailable(error.into())
    }
}
