//! `/docs`: the document for people, by Swagger UI, which is in the binary. Nothing is fetched from elsewhere.
//!
//! The token is typed in, and kept nowhere but in the page. The page may do what the upload page may.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use utoipa_swagger_ui::Config;

use super::super::errors::ApiError;
use super::super::{Http, page};

/// `/docs` and what it loads.
pub fn routes() -> Router<Arc<Http>> {
    Router::new()
        .route("/docs", get(index))
        .route("/docs/docs.css", get(style))
        .route("/docs/docs.js", get(script))
        .route("/docs/swagger-ui.css", get(async |state| vendored(state, "text/css; charset=utf-8", "swagger-ui.css")))
        .route(
            "/docs/swagger-ui.js",
            get(async |state| vendored(state, "text/javascript; charset=utf-8", "swagger-ui-bundle.js")),
        )
}

async fn index(State(http): State<Arc<Http>>) -> Response {
    page::serve(&http, "text/html; charset=utf-8", include_str!("docs/index.html"))
}

async fn style(State(http): State<Arc<Http>>) -> Response {
    page::serve(&http, "text/css; charset=utf-8", include_str!("docs/docs.css"))
}

async fn script(State(http): State<Arc<Http>>) -> Response {
    page::serve(&http, "text/javascript; charset=utf-8", include_str!("docs/docs.js"))
}

/// A file of Swagger UI, which is kept compressed: every browser can unpack it.
fn vendored(State(http): State<Arc<Http>>, media_type: &'static str, name: &str) -> Response {
    let file = utoipa_swagger_ui::serve(name, Arc::new(Config::default()));
    let Ok(Some(file)) = file else {
        return ApiError::Internal(format!("Swagger UI has no {name}").into()).into_response();
    };
    let mut response = page::serve(&http, media_type, file.bytes.into_owned());
    if file.gzpipped {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
