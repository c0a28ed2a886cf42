//! Listings, page by page in the order of the keys.

use std::fmt::Write as _;

use axum::http::StatusCode;
use axum::response::Response;

use super::Cloud;
use super::fault::Fault;
use super::s3::{Asked, split};
use super::xml::{answer, escape};

/// As many keys as S3 puts on a page.
const MOST: usize = 1_000;

/// `GET /bucket?list-type=2`. The token of the next page is the last key of this one.
pub(super) fn page(cloud: &Cloud, asked: &Asked) -> Result<Response, Fault> {
    if asked.parameter("list-type").as_deref() != Some("2") {
        return Err(Fault::NotImplemented("listings other than list-type=2"));
    }
    if asked.parameter("delimiter").is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(Fault::NotImplemented("delimiters"));
    }
    let (bucket, _) = asked.bucket_and_key();
    let prefix = asked.parameter("prefix").unwrap_or_default();
    let after = asked.parameter("continuation-token").or_else(|| asked.parameter("start-after")).unwrap_or_default();
    let most = most(asked)?;
    let mut found = cloud.objects.page(&format!("{bucket}/{prefix}"), &format!("{bucket}/{after}"), most + 1);
    let is_truncated = found.len() > most;
    found.truncate(most);

    let mut page = format!(
        "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>{}</Name><Prefix>{}</Prefix>\
         <KeyCount>{}</KeyCount><MaxKeys>{most}</MaxKeys><IsTruncated>{is_truncated}</IsTruncated>",
        escape(bucket),
        escape(&prefix),
        found.len()
    );
    for (path, object) in &found {
        let modified = object.modified.format("%Y-%m-%dT%H:%M:%S%.3fZ");
        let (key, etag) = (escape(split(path).1), object.bare_etag());
        write!(
            page,
            "<Contents><Key>{key}</Key><LastModified>{modified}</LastModified><ETag>&quot;{etag}&quot;</ETag>\
             <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            object.size
        )
        .expect("a string takes text");
    }
    if let Some((last, _)) = found.last().filter(|_| is_truncated) {
        let token = escape(split(last).1);
        write!(page, "<NextContinuationToken>{token}</NextContinuationToken>").expect("a string takes text");
    }
    page.push_str("</ListBucketResult>");
    Ok(answer(StatusCode::OK, &page))
}

fn most(asked: &Asked) -> Result<usize, Fault> {
    let Some(asked) = asked.parameter("max-keys") else { return Ok(MOST) };
    let most: usize = asked.parse().map_err(|_| Fault::Malformed("max-keys is not a number".to_owned()))?;
    Ok(most.min(MOST))
}
