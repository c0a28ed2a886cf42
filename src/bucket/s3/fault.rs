//! What a server's refusal means to a job.
//!
//! Servers differ in their codes, so the status decides where there is no code that we know. But not of what is missing:
//! only the code `NoSuchKey` says so, for whoever believes it ends uploads for good. A missing bucket is not a missing object,
//! and a bare 404 may be a load balancer's while S3 is away; the SDK makes the code `NotFound` of one.

use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata, SdkError};
use longshore_jobs::outside::BucketError;

/// What a server said, for a person who has to mend it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Said {
    /// Trying again cures it only when somebody changes a key or a policy.
    #[error("the server refuses the credentials, or they lack the right: {0}")]
    Denied(String),
    #[error("the server answered {0}")]
    Answered(String),
    /// It was not reached, or what it said was no answer.
    #[error("the server gave no answer")]
    Nothing(#[source] BoxError),
}

/// Turns an error of the SDK's about `key` into one that jobs know.
pub(super) fn during<E>(op: &'static str, key: &str) -> impl FnOnce(SdkError<E>) -> BucketError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let key = key.to_owned();
    move |error| {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        match (error.code(), status) {
            (Some("NoSuchKey"), _) => BucketError::Missing { key },
            (Some("PreconditionFailed"), _) | (_, Some(304 | 412)) => BucketError::Changed { key },
            (Some(code), _) if is_throttling(code) => BucketError::Throttled { op },
            (_, Some(429 | 503)) => BucketError::Throttled { op },
            _ => failed(op, said(error, status)),
        }
    }
}

/// An error that a second try may cure.
pub(super) fn failed(op: &'static str, source: impl Into<BoxError>) -> BucketError {
    BucketError::Failed { op, source: source.into() }
}

fn is_throttling(code: &str) -> bool {
    matches!(code, "SlowDown" | "ServiceUnavailable" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded")
}

fn said<E>(error: SdkError<E>, status: Option<u16>) -> Said
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let Some(status) = status else { return Said::Nothing(error.into()) };
    let (code, message) = (error.code().unwrap_or("without a code"), error.message().unwrap_or("without a message"));
    let text = format!("{status} {code}: {message}");
    match status {
        401 | 403 => Said::Denied(text),
        _ => Said::Answered(text),
    }
}
