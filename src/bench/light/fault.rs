//! How a request to the light S3 is refused: the codes that clients of S3 treat differently.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::xml;

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Nothing is at the key.
    #[error("the object is not there")]
    NoSuchKey,
    /// No such multipart upload is open.
    #[error("the multipart upload is not there")]
    NoSuchUpload,
    /// The object is another version than the one asked for.
    #[error("the object is another version")]
    Precondition,
    /// No byte of the range exists.
    #[error("the range lies outside of the object")]
    Range,
    /// A part is missing or another one than was named.
    #[error("part {0} is not the one that was uploaded")]
    Part(u32),
    /// It cannot be read.
    #[error("the request cannot be read: {0}")]
    Malformed(String),
    /// Only the parts of S3 that the pipeline uses are here.
    #[error("the light server does not do this: {0}")]
    NotImplemented(&'static str),
    /// [`max_memory`](super::Options::max_memory) would be exceeded.
    #[error("the memory for objects is used up")]
    Full,
}

impl Fault {
    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoSuchKey => (StatusCode::NOT_FOUND, "NoSuchKey"),
            Self::NoSuchUpload => (StatusCode::NOT_FOUND, "NoSuchUpload"),
            Self::Precondition => (StatusCode::PRECONDITION_FAILED, "PreconditionFailed"),
            Self::Range => (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"),
            Self::Part(_) => (StatusCode::BAD_REQUEST, "InvalidPart"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "InvalidRequest"),
            Self::NotImplemented(_) => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            Self::Full => (StatusCode::INSUFFICIENT_STORAGE, "SlowDown"),
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let message = xml::escape(&self.to_string());
        xml::answer(status, &format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
    }
}
