//! The bucket over HTTP: routes, and the headers that every answer has.
//!
//! Any site may post and read here (CORS), since what counts is the signature and no cookie is looked at. Objects
//! share their origin with the service's own pages, so they are never rendered: `attachment`, `nosniff`, and a
//! sandbox.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use super::fault::Fault;
use super::{LocalBucket, form, object};

/// Everything that every answer says.
const ALWAYS: [(header::HeaderName, &str); 4] = [
    (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, "ETag, Location, Content-Range, Accept-Ranges"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::CONTENT_SECURITY_POLICY, "sandbox"),
];

/// The bucket's endpoint, to be nested where [`super::Options::public_url`] points.
pub(crate) fn router(bucket: Arc<LocalBucket>) -> Router {
    Router::new()
        .route("/{bucket}", post(form::post))
        .route("/{bucket}/", post(form::post))
        .route("/{bucket}/{*key}", get(object::get).head(object::get))
        .fallback(|| async { Fault::Uri })
        .method_not_allowed_fallback(|| async { Fault::Method })
        .layer(from_fn(dress))
        .with_state(bucket)
}

async fn dress(request: Request, next: Next) -> Response {
    let mut response = match *request.method() {
        Method::OPTIONS => preflight(request.headers()),
        _ => next.run(request).await,
    };
    for (name, value) in ALWAYS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// <https://fetch.spec.whatwg.org/#http-cors-protocol>
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("3000"));
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    response
}
