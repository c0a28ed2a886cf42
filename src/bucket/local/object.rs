//! Presigned GET and HEAD of one object, with ranges and conditions (RFC 9110, sections 13 and 14).

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use longshore_jobs::model::sigv4::Request;
use percent_encoding::percent_decode_str;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::fault::Fault;
use super::index::Row;
use super::whole::Opened;
use super::{LocalBucket, http_date};

/// Reads of 4 KiB would be the limit of a download.
const BLOCK: usize = 512 * 1024;

/// `GET` or `HEAD /{bucket}/{key}`.
pub(crate) async fn get(
    State(bucket): State<Arc<LocalBucket>>,
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let Path((name, key)) = path.map_err(|_| Fault::Uri)?;
    if name != bucket.name {
        return Err(Fault::NoSuchBucket);
    }
    let query = decode_query(query.as_deref().unwrap_or_default()).ok_or(Fault::Uri)?;
    verify(&bucket, &method, &key, query.clone())?;
    let row = bucket.look(&key).await?.ok_or(Fault::NoSuchKey)?;
    if let Some(early) = held_back(&row, &headers) {
        return early;
    }
    let span = Span::asked(&row, &headers)?;
    let body = match method {
        Method::HEAD => Body::empty(),
        _ => body(&bucket, &row, span).await?,
    };
    Ok(answer(&row, span, &query, body))
}

fn decode_query(query: &str) -> Option<Vec<(String, String)>> {
    let decode = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| Some((decode(name)?, decode(value)?))).collect()
}

fn verify(bucket: &LocalBucket, method: &Method, key: &str, query: Vec<(String, String)>) -> Result<(), Fault> {
    if !query.iter().any(|(name, _)| name == "X-Amz-Signature") {
        return Err(Fault::Anonymous);
    }
    let (host, path) = bucket.place(key);
    let request = Request { method: method.as_str(), host: &host, path: &path, query };
    Ok(bucket.signer().verify_presigned(&request)?)
}

/// What the conditions answer in place of the object.
fn held_back(row: &Row, headers: &HeaderMap) -> Option<Result<Response, Fault>> {
    if headers.get(header::IF_MATCH).is_some_and(|tags| !names(tags, &row.etag)) {
        return Some(Err(Fault::Precondition));
    }
    if headers.get(header::IF_NONE_MATCH).is_some_and(|tags| names(tags, &row.etag)) {
        let etag = [(header::ETAG, quoted(&row.etag))];
        return Some(Ok((StatusCode::NOT_MODIFIED, etag).into_response()));
    }
    None
}

/// Whether a list of entity tags has this one; S3 takes them without quotes too.
fn names(tags: &HeaderValue, etag: &str) -> bool {
    let mut tags = tags.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.trim_matches('"') == etag)
}

fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

/// Which bytes go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    length: u64,
    partial: bool,
}

impl Span {
    fn asked(row: &Row, headers: &HeaderMap) -> Result<Self, Fault> {
        let size = u64::try_from(row.size).unwrap_or(0);
        let other_version = headers.get(header::IF_RANGE).is_some_and(|tag| !names(tag, &row.etag));
        let range = headers.get(header::RANGE).filter(|_| !other_version).and_then(|range| range.to_str().ok());
        Self::of(range.unwrap_or_default(), size).ok_or(Fault::Range { size: row.size })
    }

    /// One range; several, or what is none, give the whole object. `None` when nothing of it is there.
    fn of(range: &str, size: u64) -> Option<Self> {
        let whole = Some(Self { start: 0, length: size, partial: false });
        let bounds = range.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-'));
        let Some((first, last)) = bounds.map(|(first, last)| (first.trim(), last.trim())) else { return whole };
        let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
            (Ok(start), Ok(last)) if start <= last => (start, last.saturating_add(1).min(size)),
            (Ok(start), _) if last.is_empty() => (start, size),
            (_, Ok(length)) if first.is_empty() && length > 0 => (size.saturating_sub(length), size),
            (_, Ok(_)) if first.is_empty() => return None,
            _ => return whole,
        };
        if start >= size { None } else { Some(Self { start, length: end - start, partial: true }) }
    }
}

async fn body(bucket: &LocalBucket, row: &Row, span: Span) -> Result<Body, Fault> {
    let Opened::Whole(file) = bucket.open_version(row.clone()).await? else { return Err(Fault::NoSuchKey) };
    let file = seek(file, span.start).map_err(|source| bucket.unread(row, source))?;
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(BLOCK);
    Ok(Body::from_stream(ReaderStream::with_capacity(file.take(span.length), BLOCK)))
}

/// Seeking in a local file only sets a number.
fn seek(mut file: File, start: u64) -> io::Result<File> {
    file.seek(SeekFrom::Start(start))?;
    Ok(file)
}

fn answer(row: &Row, span: Span, query: &[(String, String)], body: Body) -> Response {
    let disposition = query.iter().find(|(name, _)| name == "response-content-disposition");
    let mut said = vec![
        (header::CONTENT_TYPE, row.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned())),
        (header::CONTENT_DISPOSITION, disposition.map_or("attachment", |(_, value)| value).to_owned()),
        (header::CONTENT_LENGTH, span.length.to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, quoted(&row.etag)),
        (header::LAST_MODIFIED, http_date(row.modified_at)),
    ];
    if span.partial {
        let range = format!("bytes {}-{}/{}", span.start, span.start + span.length - 1, row.size);
        said.push((header::CONTENT_RANGE, range));
    }
    said.extend(metadata(row));
    let mut response = Response::new(body);
    *response.status_mut() = if span.partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    for (name, value) in said {
        // What no header can hold is left out, but an object is never shown in place.
        let fallback = (name == header::CONTENT_DISPOSITION).then(|| HeaderValue::from_static("attachment"));
        if let Some(value) = HeaderValue::from_str(&value).ok().or(fallback) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn metadata(row: &Row) -> Vec<(HeaderName, String)> {
    let pairs: std::collections::BTreeMap<String, String> = serde_json::from_str(&row.metadata).unwrap_or_default();
    let named = |(name, value): (String, String)| Some((format!("x-amz-meta-{name}").parse().ok()?, value));
    pairs.into_iter().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: u64, length: u64) -> Option<Span> {
        Some(Span { start, length, partial: true })
    }

    #[test]
    fn one_range_is_served_and_what_is_none_gives_the_whole() {
        let whole = Some(Span { start: 0, length: 10, partial: false });
        for (range, expected) in [
            ("", whole),
            ("bytes=0-4", part(0, 5)),
            ("bytes=4-4", part(4, 1)),
            ("bytes=4-", part(4, 6)),
            ("bytes=4-99", part(4, 6)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-99", part(0, 10)),
            ("bytes=10-", None),
            ("bytes=10-12", None),
            ("bytes=-0", None),
            ("bytes=5-4", whole),
            ("bytes=0-1,3-4", whole),
            ("bytes=a-b", whole),
            ("lines=1-2", whole),
        ] {
            assert_eq!(Span::of(range, 10), expected, "{range}");
        }
        assert_eq!(Span::of("bytes=0-", 0), None);
    }
}
