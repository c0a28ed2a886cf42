//! Notices that are pushed to us, for S3 servers that do so over HTTP, as MinIO's `notify_webhook` does.
//!
//! The route is there only when a secret is configured. A 2xx says that the arrivals are on the queue; the sender keeps the
//! event until then. MinIO asks by HEAD whether we are there before it sends anything, and older ones post nothing at all to
//! find out: both are answered kindly. It sends its token as `Bearer <token>`; others send it bare.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, State};
use axum::routing::post;
use axum::{Json, Router};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use longshore_jobs::job::with_causes;
use longshore_jobs::model::Digest;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq as _;

use super::Http;
use super::answer::{POSTED, envelope};
use super::body::unread;
use super::errors::ApiError;
use crate::notices::{self, Untaken};

/// What a sender of notices has to show; kept as its SHA-256.
#[derive(Clone, Copy, Debug)]
pub struct WebhookSecret(Digest);

impl WebhookSecret {
    /// Fewer characters are no secret.
    pub const SHORTEST: usize = 32;

    /// `None` when it is too short.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (text.chars().count() >= Self::SHORTEST).then(|| Self(Digest::of(text.as_bytes())))
    }

    fn is(self, shown: &str) -> bool {
        bool::from(Digest::of(shown.as_bytes()).as_bytes().ct_eq(self.0.as_bytes()))
    }
}

/// `POST /api/notices`, and nothing without a secret.
pub fn routes(secret: Option<WebhookSecret>) -> Router<Arc<Http>> {
    match secret {
        Some(_) => Router::new().route("/api/notices", post(take).head(probe)),
        None => Router::new(),
    }
}

/// Somebody who has shown the secret.
struct Sender;

impl FromRequestParts<Arc<Http>> for Sender {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, http: &Arc<Http>) -> Result<Self, ApiError> {
        let (secret, shown) =
            http.settings.webhook_secret.zip(shown(&parts.headers)).ok_or(ApiError::Authentication)?;
        if secret.is(shown) { Ok(Self) } else { Err(ApiError::Authentication) }
    }
}

fn shown(headers: &HeaderMap) -> Option<&str> {
    let sent = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim();
    match sent.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
        _ => Some(sent),
    }
}

async fn probe(_sender: Sender) -> StatusCode {
    StatusCode::OK
}

async fn take(
    _sender: Sender,
    State(http): State<Arc<Http>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Map<String, Value>>, ApiError> {
    let body = body.map_err(|error| unread(&error, http.settings.max_body))?;
    let body =
        std::str::from_utf8(&body).map_err(|_| ApiError::BadRequest("The notice is not text in UTF-8".to_owned()))?;
    let arrivals = if body.trim().is_empty() { 0 } else { hand_over(&http, body).await? };
    Ok(Json(envelope(POSTED, "notices", &[json!({ "arrivals": arrivals })])))
}

async fn hand_over(http: &Http, body: &str) -> Result<usize, ApiError> {
    notices::hand_over(&http.ctx, body).await.map_err(|untaken| match untaken {
        Untaken::Malformed(error) => {
            tracing::warn!(error = with_causes(&error), "a notice cannot be read and is refused");
            ApiError::BadRequest(format!("A notice is refused: {}", with_causes(&error)))
        }
        Untaken::Queue(error) => error.into(),
    })
}
