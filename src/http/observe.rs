//! What every request gets: an id, a trace, a span, a guard against panics, and its place in the metrics.
//!
//! Labels and span fields name the route's template and never the path, so that neither ids nor secrets get into them.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use longshore_jobs::model::TraceParent;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::errors::ApiError;
use super::linger::Rest;

/// W3C Trace Context, level 1.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUESTS: &str = "longshore_http_requests_total";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id that is taken over from a client.
const LONGEST_ID: usize = 128;

/// Wraps every route and the fallbacks.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let method = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str).to_owned();
    let started = Instant::now();
    let trace = trace_of(request.headers());
    let shown = (!tells_its_trace(method, &route)).then(|| tracing::field::display(trace.trace_id()));
    let id_text = id.to_str().unwrap_or_default();
    let span = tracing::info_span!(
        "request",
        method,
        route,
        status = Empty,
        id = id_text,
        trace_id = shown,
        upload = Empty,
        batch = Empty,
    );
    request.extensions_mut().insert(trace);
    let mut response = answer(request, next).instrument(span.clone()).await;
    span.record("status", response.status().as_u16());
    span.in_scope(|| tracing::debug!("answered"));
    count(route, method, &response, started);
    response.headers_mut().insert(REQUEST_ID, id);
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Names the upload that a request has made or is about on all lines about it from here on, and thereby with its trace.
pub fn show_upload(id: Uuid) {
    Span::current().record("upload", tracing::field::display(id));
}

/// As [`show_upload`], of a batch.
pub fn show_batch(id: Uuid) {
    Span::current().record("batch", tracing::field::display(id));
}

/// The client's own id when it is sane, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane =
        |id: &&HeaderValue| (1..=LONGEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    headers
        .get(REQUEST_ID)
        .filter(sane)
        .cloned()
        .unwrap_or_else(|| HeaderValue::from_str(&Uuid::now_v7().to_string()).expect("a UUID is visible ASCII"))
}

/// Our part in the caller's trace, or in a new one where the caller tells none that is well formed, or several.
fn trace_of(headers: &HeaderMap) -> TraceParent {
    let mut told = headers.get_all(TRACEPARENT).iter();
    let only = told.next().filter(|_| told.next().is_none());
    let parent = only.and_then(|value| value.to_str().ok()?.trim().parse::<TraceParent>().ok());
    parent.map_or_else(TraceParent::begin, TraceParent::our_part)
}

/// Whether a form posted to the local bucket may name its trace itself, as the policy that it was made for does.
fn tells_its_trace(method: &str, route: &str) -> bool {
    method == "POST" && route.starts_with("/bucket/")
}

/// The method as a label: clients can make up as many as they like.
fn known_method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

async fn answer(request: Request, next: Next) -> Response {
    let (request, rest) = Rest::of(request);
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = response.unwrap_or_else(|_| ApiError::Internal("a handler panicked".into()).into_response());
    rest.drain().await;
    response
}

/// Shows the requests of a route at zero, so that a rate over them is right from the first one on.
pub fn start_at_zero(route: &str, method: &'static str, code: &str) {
    metrics::counter!(REQUESTS, "route" => route.to_owned(), "method" => method, "code" => code.to_owned()).absolute(0);
}

fn count(route: String, method: &'static str, response: &Response, started: Instant) {
    let code = response.status().as_str().to_owned();
    metrics::histogram!("longshore_http_request_duration_seconds", "route" => route.clone(), "method" => method)
        .record(started.elapsed().as_secs_f64());
    metrics::counter!(REQUESTS, "route" => route, "method" => method, "code" => code).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn told(values: &[&str]) -> TraceParent {
        let values = values.iter().map(|value| (TRACEPARENT, HeaderValue::from_str(value).unwrap()));
        trace_of(&values.collect())
    }

    #[test]
    fn a_callers_trace_goes_on_with_a_part_of_our_own() {
        let caller: TraceParent = GOOD.parse().unwrap();
        for sent in [GOOD, " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\t"] {
            let ours = told(&[sent]);
            assert_eq!(ours.trace_id(), caller.trace_id());
            assert_ne!(ours, caller);
        }
    }

    #[test]
    fn a_parent_that_is_none_and_several_begin_a_new_trace() {
        let callers: TraceParent = GOOD.parse().unwrap();
        let other = GOOD.replace("00-0af", "00-1af");
        for sent in [&[][..], &["nonsense"], &[&GOOD.to_uppercase()], &[GOOD, GOOD], &[GOOD, &other]] {
            assert_ne!(told(sent).trace_id(), callers.trace_id(), "{sent:?}");
        }
        assert_ne!(told(&[]).trace_id(), told(&[]).trace_id());
    }
}
