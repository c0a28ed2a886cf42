//! The upload page: three files in the binary, and nothing fetched from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};

use super::Http;

/// `/`, `/page.css` and `/page.js`.
pub fn routes() -> Router<Arc<Http>> {
    Router::new().route("/", get(index)).route("/page.css", get(style)).route("/page.js", get(script))
}

async fn index(State(http): State<Arc<Http>>) -> Response {
    serve(&http, "text/html; charset=utf-8", include_str!("page/index.html"))
}

async fn style(State(http): State<Arc<Http>>) -> Response {
    serve(&http, "text/css; charset=utf-8", include_str!("page/page.css"))
}

async fn script(State(http): State<Arc<Http>>) -> Response {
    serve(&http, "text/javascript; charset=utf-8", include_str!("page/page.js"))
}

/// A part of a page, with what pages may do.
pub fn serve(http: &Http, media_type: &'static str, text: impl IntoResponse) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CONTENT_SECURITY_POLICY, http.page_policy.clone()),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

/// What the page may do: run its own script and talk to us and to the bucket that forms are posted to.
pub fn content_security_policy(bucket_url: &str) -> HeaderValue {
    let bucket = url::Url::parse(bucket_url).map(|url| url.origin()).ok().filter(url::Origin::is_tuple);
    let bucket = bucket.map(|origin| format!(" {}", origin.ascii_serialization())).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{bucket}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("an origin is ASCII")
}
