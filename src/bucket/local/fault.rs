//! What the bucket answers when it does not do what was asked: S3's XML.
//!
//! Source: "Error responses" in the Amazon S3 API reference.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_jobs::model::policy::check::Refusal;
use longshore_jobs::model::sigv4::Invalid;

use super::StoreError;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It is not signed, or not for this.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("The request is not signed")]
    Anonymous,
    #[error("The specified bucket does not exist")]
    NoSuchBucket,
    #[error("The specified key does not exist.")]
    NoSuchKey,
    #[error("At least one of the pre-conditions you specified did not hold")]
    Precondition,
    #[error("The requested range is not satisfiable")]
    Range { size: i64 },
    #[error("The specified method is not allowed against this resource.")]
    Method,
    #[error("Couldn't parse the specified URI.")]
    Uri,
    #[error("Your socket connection to the server was not read from or written to within the timeout period.")]
    Idle,
    /// Ours, and nobody else's to know.
    #[error("We encountered an internal error. Please try again.")]
    Internal(#[from] StoreError),
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(invalid.into())
    }
}

impl Fault {
    /// S3's word for it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.code(),
            Self::Anonymous => "AccessDenied",
            Self::NoSuchBucket => "NoSuchBucket",
            Self::NoSuchKey => "NoSuchKey",
            Self::Precondition => "PreconditionFailed",
            Self::Range { .. } => "InvalidRange",
            Self::Method => "MethodNotAllowed",
            Self::Uri => "InvalidURI",
            Self::Idle => "RequestTimeout",
            Self::Internal(_) => "InternalError",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(refusal) => StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST),
            Self::Anonymous => StatusCode::FORBIDDEN,
            Self::NoSuchBucket | Self::NoSuchKey => StatusCode::NOT_FOUND,
            Self::Precondition => StatusCode::PRECONDITION_FAILED,
            Self::Range { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Uri | Self::Idle => StatusCode::BAD_REQUEST,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        match &self {
            Self::Internal(error) => {
                tracing::error!(error = %longshore_jobs::job::with_causes(error), "the local bucket failed");
            }
            other => tracing::debug!(code = other.code(), reason = %other, "refused by the local bucket"),
        }
        let (code, message) = (self.code(), escape(&self.to_string()));
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        let mut response = xml(self.status(), &body);
        if let Self::Range { size } = self {
            let range = HeaderValue::from_str(&format!("bytes */{size}")).expect("digits fit in a header");
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
        response
    }
}

/// An XML document with this element.
pub(crate) fn xml(status: StatusCode, element: &str) -> Response {
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{element}");
    (status, [(header::CONTENT_TYPE, "application/xml")], body).into_response()
}

/// Text as XML may hold it; what XML 1.0 cannot express becomes a replacement character.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'.. => escaped.push(letter),
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_holds_no_markup_of_others() {
        assert_eq!(escape("a<b>&\"c\"\0🎉"), "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}🎉");
    }
}
