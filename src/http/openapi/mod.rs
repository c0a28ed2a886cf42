//! The API described by itself (OpenAPI 3.1), at `/openapi.json`, by `longshore openapi`, and for people at `/docs`.
//!
//! # How to document a route
//!
//! Routes and their documentation are one: a module's `routes()` returns an `OpenApiRouter`, and each handler in its
//! `routes!(…)` carries a `#[utoipa::path(…)]`. A route without one fails the test
//! `every_route_is_in_the_document_and_the_reverse`.
//!
//! 1. Doc comment on the handler: the first line is the summary, the rest the description. Plain English, for clients.
//! 2. `#[utoipa::path(get, path = "/api/files/{id}", tag = "Files", operation_id = "getFile", params(…), responses(…))]`.
//!    Handlers of one path go into one `routes!(…)`.
//! 3. Parameters that several routes share are in [`params`]; those of one list are a struct there with `IntoParams`.
//! 4. Bodies are the very structs that are serialized, with `derive(ToSchema)`; a type of the model is shown by the one of the
//!    same name in [`shapes`]. A field that is always there, but perhaps null, gets `#[schema(required)]`.
//! 5. Errors: name a set of [`refusals`], or add one: those slugs that this handler can answer with. Not those that every route
//!    has: [`complete`] adds 401, 403, 500 and 503 by the route's `security(…)`, and `X-Request-Id` to every answer. Nothing
//!    said about security means a key; `security(())` means that anybody may call.
//! 6. A new error is one line in `errors/slug.rs` and an example in `errors.rs`.
//!
//! `ops/schemathesis/check` then calls the route in all ways that the document allows, and in some that it does not.

mod complete;
mod docs;
pub mod params;
pub mod refusals;
pub mod shapes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use utoipa::Number;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{OpenApi, RefOr};

use super::Http;

/// `/openapi.json` and `/docs`.
pub fn routes() -> Router<Arc<Http>> {
    Router::new().route("/openapi.json", get(serve)).merge(docs::routes())
}

/// The document as JSON text, of a service that takes files of so many bytes.
pub fn text(max_size: i64) -> String {
    serde_json::to_string_pretty(&document(max_size)).expect("a document has no keys but strings") + "\n"
}

/// Calls `each` with the path, method and status of every answer that the document speaks of.
pub fn for_each_answer(mut each: impl FnMut(&str, &'static str, &str)) {
    for (path, item) in &document(0).paths.paths {
        let operations = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        for (method, operation) in operations {
            let answers = operation.iter().flat_map(|operation| operation.responses.responses.keys());
            answers.for_each(|status| each(path, method, status));
        }
    }
}

fn document(max_size: i64) -> OpenApi {
    let mut document = complete::complete(super::documented().merge(super::notices::routes()).into_openapi());
    limit(&mut document, max_size);
    document
}

/// Says how large a file may be wherever a wish says how large it is.
fn limit(document: &mut OpenApi, max_size: i64) {
    let Some(parts) = &mut document.components else { return };
    for (wish, field) in [("UploadWish", "size"), ("PrefixWish", "maxFileSize")] {
        if let Some(RefOr::T(Schema::Object(wish))) = parts.schemas.get_mut(wish)
            && let Some(RefOr::T(Schema::Object(size))) = wish.properties.get_mut(field)
        {
            size.maximum = Some(Number::Int(isize::try_from(max_size).unwrap_or(isize::MAX)));
        }
    }
}

async fn serve(State(http): State<Arc<Http>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    let text = http.document.get_or_init(|| text(http.ctx.limits.max_size).into());
    (headers, Bytes::clone(text)).into_response()
}
