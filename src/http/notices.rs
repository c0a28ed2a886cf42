//! Notices that are pushed to us, for S3 servers that do so over HTTP, as MinIO's `notify_webhook` does.
//!
//! The route is there only when a secret is configured. A 2xx says that the arrivals are on the queue; the sender keeps the
//! event until then. MinIO asks by HEAD whether we are there before it sends anything, and older ones post nothing at all to
//! find out: both are answered kindly. It sends its token as `Bearer <token>`; others send it bare.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, State};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use longshore_jobs::job::with_causes;
use longshore_jobs::model::Digest;
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Http;
use super::answer::POSTED;
use super::body::unread;
use super::errors::ApiError;
use super::openapi::refusals;
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

/// `/api/notices`; not to be served without a secret.
pub fn routes() -> OpenApiRouter<Arc<Http>> {
    OpenApiRouter::default().routes(routes!(take, probe))
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

/// Would notices be taken?
///
/// For S3 servers that ask before they push.
#[utoipa::path(head, path = "/api/notices", tag = "Notices", operation_id = "probeNotices", security(("noticeSecret" = [])),
    responses((status = 200, description = "They would"), (status = 404, description = "None are taken over HTTP")))]
async fn probe(_sender: Sender) -> StatusCode {
    StatusCode::OK
}

/// What came of a notice.
#[derive(Serialize, ToSchema)]
struct NoticesTaken {
    message: &'static str,
    notices: [NoticeTaken; 1],
}

/// How much a notice told.
#[derive(Serialize, ToSchema)]
struct NoticeTaken {
    /// How many objects it told of that concern the service.
    arrivals: usize,
}

/// Tell of objects that arrived in the bucket.
///
/// There only when the service is configured with `webhook:` as its inbox. The events are those of S3, as they come from S3 servers
/// that push over HTTP, from SNS or from EventBridge. An empty body only asks whether somebody is there.
#[utoipa::path(post, path = "/api/notices", tag = "Notices", operation_id = "postNotice", security(("noticeSecret" = [])),
    request_body(content = String, content_type = "application/json", description = "An S3 event notification"),
    responses((status = 200, description = "The arrivals are on the queue", body = NoticesTaken), refusals::Notice))]
async fn take(
    _sender: Sender,
    State(http): State<Arc<Http>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<NoticesTaken>, ApiError> {
    let body = body.map_err(|error| unread(&error, http.settings.max_body))?;
    let body =
        std::str::from_utf8(&body).map_err(|_| ApiError::BadRequest("The notice is not text in UTF-8".to_owned()))?;
    let arrivals = if body.trim().is_empty() { 0 } else { hand_over(&http, body).await? };
    Ok(Json(NoticesTaken { message: POSTED, notices: [NoticeTaken { arrivals }] }))
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
