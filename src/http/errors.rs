//! What can go wrong over HTTP: one enum, one stable slug each, one sentence for a human.
//!
//! What went wrong inside is logged here, once, and never returned. `rate_limited_error` of the contract is not among the
//! variants because nothing throws it yet.

mod slug;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use longshore_jobs::job::with_causes;
use longshore_jobs::ledger::LedgerError;
use longshore_jobs::outside::{BoxError, BucketError, QueueError};
use serde::Serialize;
use utoipa::ToSchema;

pub use self::slug::Slug;
use crate::queue::engine::EngineError;

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
    /// No such thing of those that operators see; what it would be.
    #[error("User has requested a non-existent {0}")]
    NoSuch(&'static str),
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
    /// One query parameter will not do.
    #[error("Query parameter `{name}` {fault}")]
    UnprocessableQuery {
        /// Whether it came with a post.
        posted: bool,
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
    /// The slug by which clients tell errors apart; it says the status too.
    #[must_use]
    pub const fn slug(&self) -> Slug {
        match self {
            Self::MissingFiles => Slug::MissingFiles,
            Self::BadRequest(_) => Slug::BadRequest,
            Self::Authentication => Slug::Authentication,
            Self::Authorization(_) => Slug::Authorization,
            Self::FileNotFound => Slug::FileNotFound,
            Self::UploadNotFound => Slug::UploadNotFound,
            Self::BatchNotFound => Slug::BatchNotFound,
            Self::NotFound | Self::NoSuch(_) => Slug::NotFound,
            Self::MethodNotAllowed => Slug::MethodNotAllowed,
            Self::Conflict(_) => Slug::Conflict,
            Self::PayloadTooLarge(_) => Slug::PayloadTooLarge,
            Self::UnsupportedMediaType(_) => Slug::UnsupportedMediaType,
            Self::Unprocessable { .. } | Self::UnprocessableLine { .. } | Self::UnprocessableQuery { .. } => {
                Slug::Unprocessable
            }
            Self::Internal(_) => Slug::Internal,
            Self::Unavailable(_) => Slug::Unavailable,
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
            | Self::UnprocessableLine { .. }
            | Self::UnprocessableQuery { posted: true, .. } => POORLY_FORMED,
            Self::UnprocessableQuery { posted: false, .. } => "Get request was poorly formed",
            Self::Authentication => "Error getting authentication",
            Self::Authorization(_) => "User lacks authorization to make this request",
            Self::FileNotFound => "Requested file does not exist",
            Self::UploadNotFound => "Requested upload does not exist",
            Self::BatchNotFound => "Requested batch does not exist",
            Self::NotFound => "Requested path does not exist",
            Self::NoSuch(_) => "Requested entry does not exist",
            Self::MethodNotAllowed => "Method is not allowed for this path",
            Self::Conflict(_) => "Request conflicts with the current state",
            Self::Internal(_) => "Internal error",
            Self::Unavailable(_) => "Service is unavailable",
        }
    }

    /// One that answers with this slug, to be shown in the documentation.
    pub fn example(slug: Slug) -> Self {
        match slug {
            Slug::MissingFiles => Self::MissingFiles,
            Slug::BadRequest => Self::BadRequest("The body broke off".to_owned()),
            Slug::Authentication => Self::Authentication,
            Slug::Authorization => Self::Authorization("This needs an API key with the scope `upload`".to_owned()),
            Slug::FileNotFound => Self::FileNotFound,
            Slug::UploadNotFound => Self::UploadNotFound,
            Slug::BatchNotFound => Self::BatchNotFound,
            Slug::NotFound => Self::NotFound,
            Slug::MethodNotAllowed => Self::MethodNotAllowed,
            Slug::Conflict => Self::Conflict("An upload that is done cannot be cancelled".to_owned()),
            Slug::PayloadTooLarge => Self::PayloadTooLarge("The body may have 1048576 bytes at most".to_owned()),
            Slug::UnsupportedMediaType => Self::UnsupportedMediaType("application/json"),
            Slug::Unprocessable => {
                Self::Unprocessable { field: "size".to_owned(), fault: "must not be negative".to_owned() }
            }
            Slug::Internal => Self::Internal("".into()),
            Slug::Unavailable => Self::Unavailable("".into()),
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

/// The body of every refusal.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    message: &'static str,
    error: Refusal,
}

/// The slug, and what to do about it.
#[derive(Debug, Serialize, ToSchema)]
struct Refusal {
    r#type: Slug,
    /// What to do about it, in one sentence. For people: programs read `type`.
    message: String,
}

impl From<&ApiError> for ErrorBody {
    fn from(error: &ApiError) -> Self {
        Self { message: error.outer(), error: Refusal { r#type: error.slug(), message: error.to_string() } }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let status = self.slug().status();
        let mut response = (status, Json(ErrorBody::from(&self))).into_response();
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

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        Self::Unavailable(error.into())
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
