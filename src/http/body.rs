//! A body that has to be one JSON object, read field by field so that a refusal can name the field.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, Request};
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Http;
use super::errors::ApiError;

/// The fields of a body, or of an object within it, that are not yet taken out.
pub struct Fields {
    left: Map<String, Value>,
    /// What stands before their names in a refusal.
    within: &'static str,
}

impl FromRequest<Arc<Http>> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, http: &Arc<Http>) -> Result<Self, ApiError> {
        Self::parse(&json_text(request, http).await?)
    }
}

/// A body that says it is JSON, as it was sent.
pub async fn json_text(request: Request, http: &Arc<Http>) -> Result<Bytes, ApiError> {
    if !is_json(request.headers()) {
        return Err(ApiError::UnsupportedMediaType("application/json"));
    }
    Bytes::from_request(request, http).await.map_err(|error| unread(&error, http.settings.max_body))
}

/// The media type of the body, in lower case and without parameters.
pub fn media_type(headers: &HeaderMap) -> String {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    sent.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether the body says that it is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let media_type = media_type(headers);
    media_type == "application/json" || (media_type.starts_with("application/") && media_type.ends_with("+json"))
}

/// The refusal of a body that did not come whole, where so many bytes may come.
pub fn unread(error: &BytesRejection, most: usize) -> ApiError {
    match error {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            ApiError::PayloadTooLarge(format!("The body may have {most} bytes at most"))
        }
        _ => ApiError::BadRequest("The body broke off".to_owned()),
    }
}

impl Fields {
    /// The fields of this text.
    pub fn parse(text: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(text) {
            Ok(Value::Object(left)) => Ok(Self::of(left)),
            Ok(_) => Err(ApiError::BadRequest("The body must be a JSON object".to_owned())),
            Err(error) => Err(ApiError::BadRequest(format!("The body is not valid JSON: {error}"))),
        }
    }

    /// The fields of an object that was read already.
    pub const fn of(left: Map<String, Value>) -> Self {
        Self { left, within: "" }
    }

    /// Takes a field out; `None` when it is missing or null.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str, fault: &str) -> Result<Option<T>, ApiError> {
        match self.left.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value).map(Some).map_err(|_| self.fault(name, fault)),
        }
    }

    /// Takes out a field that is an object with fields of its own. `within` is its name with a dot.
    pub fn take_fields(&mut self, name: &str, within: &'static str) -> Result<Option<Self>, ApiError> {
        let left = self.take(name, "must be an object")?;
        Ok(left.map(|left| Self { left, within }))
    }

    /// Refuses fields that nobody took.
    pub fn end(self) -> Result<(), ApiError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.fault(&shortened(name), "is not known here")),
        }
    }

    /// The refusal of one field.
    pub fn fault(&self, name: &str, fault: impl Into<String>) -> ApiError {
        ApiError::Unprocessable { field: format!("{}{name}", self.within), fault: fault.into() }
    }
}

/// A made-up name is shown back, but not at any length.
pub fn shortened(name: &str) -> String {
    if name.chars().count() <= 64 { name.to_owned() } else { name.chars().take(64).chain(['…']).collect() }
}
