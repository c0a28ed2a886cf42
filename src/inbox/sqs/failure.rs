//! What an error of the SDK means for us: whether to wait, or to call somebody.

use std::fmt;

use aws_sdk_sqs::config::http::HttpResponse;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

use crate::inbox::InboxError;

/// Codes by which SQS asks for fewer requests although their status says that the request is at fault.
const THROTTLED: [&str; 6] =
    ["OverLimit", "RequestThrottled", "RequestThrottledException", "Throttling", "ThrottlingException", "KmsThrottled"];

/// A 4xx says that this request will never do; everything else may pass.
pub(super) fn failure<E>(op: &'static str, error: SdkError<E, HttpResponse>) -> InboxError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let refused = match &error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::ServiceError(answer) => {
            answer.raw().status().is_client_error()
                && !answer.err().code().is_some_and(|code| THROTTLED.contains(&code))
        }
        _ => false,
    };
    let told = Told { code: error.code().map(str::to_owned), said: error.message().map(str::to_owned), error };
    let source = Box::new(told);
    if refused { InboxError::Refused { op, source } } else { InboxError::Failed { op, source } }
}

/// The SDK prints neither code nor message of an error that it does not know by name, such as a denied access.
#[derive(Debug, thiserror::Error)]
struct Told<S: std::error::Error + 'static> {
    code: Option<String>,
    said: Option<String>,
    #[source]
    error: S,
}

impl<S: std::error::Error> fmt::Display for Told<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.code, &self.said) {
            (Some(code), Some(said)) => write!(f, "{code} ({said})"),
            (Some(told), None) | (None, Some(told)) => f.write_str(told),
            (None, None) => write!(f, "{}", self.error),
        }
    }
}
