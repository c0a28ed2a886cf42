//! GET and HEAD of an object, whole or a range of it, of whichever or of one version.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use super::Cloud;
use super::fault::Fault;
use super::object::{Object, bare};
use super::s3::Asked;

/// Parameters by which a presigned GET chooses headers of its answer.
const CHOSEN: [(&str, HeaderName); 2] =
    [("response-content-disposition", header::CONTENT_DISPOSITION), ("response-content-type", header::CONTENT_TYPE)];

/// What `If-Match` asks for is there, or nothing is answered.
pub(super) fn object(cloud: &Cloud, asked: &Asked) -> Result<Response, Fault> {
    let object = cloud.objects.find(&asked.path).ok_or(Fault::NoSuchKey)?;
    if let Some(wanted) = asked.header("if-match") {
        expect_version(&object, wanted)?;
    }
    let range = asked.header("range").map(|range| range_of(range, object.size)).transpose()?;
    let (status, bytes) = match &range {
        Some(range) => (StatusCode::PARTIAL_CONTENT, range.clone()),
        None => (StatusCode::OK, 0..object.size),
    };
    let length = bytes.end - bytes.start;
    let body = match *asked.method() {
        Method::HEAD => Body::empty(),
        _ => cloud.slowness.body(object.slice(bytes.start, bytes.end)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    describe(&mut response, &object, asked)?;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(Range { start, end }) = range {
        let told = format!("bytes {start}-{}/{}", end - 1, object.size);
        response.headers_mut().insert(header::CONTENT_RANGE, HeaderValue::from_str(&told).expect("digits"));
    }
    Ok(response)
}

/// A refusal unless the object is the version that is wanted, in quotes or not, or any is.
pub(super) fn expect_version(object: &Object, wanted: &str) -> Result<(), Fault> {
    let is_met = wanted.trim() == "*" || bare(wanted) == object.bare_etag();
    if is_met { Ok(()) } else { Err(Fault::Precondition) }
}

fn describe(response: &mut Response, object: &Arc<Object>, asked: &Asked) -> Result<(), Fault> {
    let headers = response.headers_mut();
    headers.insert(header::ETAG, object.etag.clone());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let modified = object.modified.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    headers.insert(header::LAST_MODIFIED, HeaderValue::from_str(&modified).expect("a date is ASCII"));
    for (name, value) in &object.described.0 {
        headers.insert(name.clone(), value.clone());
    }
    for (parameter, name) in CHOSEN {
        if let Some(value) = asked.parameter(parameter) {
            let unreadable = |_| Fault::Malformed(format!("{parameter} is not a header's value"));
            headers.insert(name, HeaderValue::from_str(&value).map_err(unreadable)?);
        }
    }
    Ok(())
}

/// `bytes=2-5`, `bytes=2-`, `bytes=-5`; one range alone (RFC 9110, 14.1.2).
fn range_of(text: &str, size: u64) -> Result<Range<u64>, Fault> {
    let unreadable = || Fault::Malformed(format!("the range {text}"));
    let number = |digits: &str| digits.trim().parse::<u64>().map_err(|_| unreadable());
    let (first, last) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or_else(unreadable)?;
    let range = match (first.trim(), last.trim()) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => number(first)?..number(last)?.saturating_add(1).min(size),
    };
    if range.is_empty() { Err(Fault::Range) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_the_object_does() {
        let read = |text| range_of(text, 10).ok();
        assert_eq!(read("bytes=2-5"), Some(2..6));
        assert_eq!(read("bytes=2-"), Some(2..10));
        assert_eq!(read("bytes=-3"), Some(7..10));
        assert_eq!(read("bytes=-30"), Some(0..10));
        assert_eq!(read("bytes=8-99"), Some(8..10));
        assert_eq!(read("bytes=10-"), None);
        assert_eq!(read("bytes=5-4"), None);
        assert_eq!(read("items=1-2"), None);
    }
}
