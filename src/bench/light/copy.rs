//! Copies within the server. They share their bytes with the original, so they cost no memory.

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use sha2::{Digest as _, Sha256};

use super::Cloud;
use super::fault::Fault;
use super::object::{Described, Object};
use super::read::expect_version;
use super::s3::Asked;
use super::xml::answer;

/// Names the original.
pub(super) const SOURCE: &str = "x-amz-copy-source";
/// Above so many bytes hashing has a thread of its own.
const INLINE: u64 = 1 << 20;

/// `PUT /bucket/key` with a source.
pub(super) async fn copy(cloud: &Cloud, asked: &Asked) -> Result<Response, Fault> {
    let source = asked.header(SOURCE).unwrap_or_default().trim_start_matches('/');
    let source = percent_decode_str(source).decode_utf8().map_err(|error| Fault::Malformed(error.to_string()))?;
    let original = cloud.objects.find(&source).ok_or(Fault::NoSuchKey)?;
    if let Some(wanted) = asked.header("x-amz-copy-source-if-match") {
        expect_version(&original, wanted)?;
    }
    let checksum = match asked.header("x-amz-checksum-algorithm") {
        None => String::new(),
        Some("SHA256") => format!("<ChecksumSHA256>{}</ChecksumSHA256>", digest(&original).await),
        Some(_) => return Err(Fault::NotImplemented("checksums other than SHA256")),
    };
    let described = match asked.header("x-amz-metadata-directive") {
        Some("REPLACE") => Described::of(asked.headers()),
        _ => original.described.clone(),
    };
    let copy = cloud.objects.store(asked.path.clone(), Object::new(original.segments.clone(), described));
    let (etag, modified) = (copy.bare_etag(), copy.modified.format("%Y-%m-%dT%H:%M:%S%.3fZ"));
    let result = format!(
        "<CopyObjectResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LastModified>{modified}</LastModified>\
         <ETag>&quot;{etag}&quot;</ETag>{checksum}</CopyObjectResult>"
    );
    Ok(answer(StatusCode::OK, &result))
}

/// As S3 writes a SHA-256: base64.
async fn digest(object: &Object) -> String {
    let segments = object.segments.clone();
    let digest = if object.size <= INLINE {
        hash(&segments)
    } else {
        tokio::task::spawn_blocking(move || hash(&segments)).await.expect("hashing does not panic")
    };
    STANDARD.encode(digest)
}

fn hash(segments: &[Bytes]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    segments.iter().for_each(|segment| hasher.update(segment));
    hasher.finalize().into()
}
