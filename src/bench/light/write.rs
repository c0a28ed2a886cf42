//! PUT in one piece, and DELETE of one and of many.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use super::Cloud;
use super::fault::Fault;
use super::memory::Memory;
use super::object::{Described, Object};
use super::s3::Asked;
use super::xml::{answer, elements, escape, unescape};

/// The most that a document of a request may be long: 1,000 keys of 1,024 bytes, each escaped.
const MOST_XML: u64 = 8 << 20;

/// `PUT /bucket/key`.
pub(super) async fn put(cloud: &Cloud, asked: Asked, body: Body) -> Result<Response, Fault> {
    refuse_chunked(&asked)?;
    let bytes = cloud.memory.collect(asked.headers(), body).await?;
    let object = Object::new(vec![bytes], Described::of(asked.headers()));
    let etag = land(cloud, asked.path, object, "ObjectCreated:Put");
    Ok([(header::ETAG, etag)].into_response())
}

/// Puts the object in its place and tells whoever is to know. Returns its entity tag.
pub(super) fn land(cloud: &Cloud, path: String, object: Object, event: &'static str) -> HeaderValue {
    let object = cloud.objects.store(path.clone(), object);
    cloud.announcer.announce(&cloud.messages, &path, &object, event);
    object.etag.clone()
}

/// The body would be frames and not bytes of the object.
pub(super) fn refuse_chunked(asked: &Asked) -> Result<(), Fault> {
    let kind = asked.header("x-amz-content-sha256").unwrap_or_default();
    if kind.starts_with("STREAMING-") {
        return Err(Fault::NotImplemented("aws-chunked bodies; set request checksums to WhenRequired"));
    }
    Ok(())
}

/// `DELETE /bucket/key`; what is not there is no error.
pub(super) fn delete(cloud: &Cloud, asked: &Asked) -> Response {
    cloud.objects.remove(&asked.path);
    StatusCode::NO_CONTENT.into_response()
}

/// `POST /bucket?delete`.
pub(super) async fn delete_many(cloud: &Cloud, asked: &Asked, body: Body) -> Result<Response, Fault> {
    let document = document(asked, body).await?;
    let is_quiet = elements(&document, "Quiet").any(|quiet| quiet == "true");
    let mut result = String::from("<DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for key in elements(&document, "Key") {
        let key = unescape(key).ok_or_else(|| Fault::Malformed(format!("the key {key}")))?;
        cloud.objects.remove(&format!("{}{key}", asked.path));
        if !is_quiet {
            write!(result, "<Deleted><Key>{}</Key></Deleted>", escape(&key)).expect("a string takes text");
        }
    }
    result.push_str("</DeleteResult>");
    Ok(answer(StatusCode::OK, &result))
}

/// A body that is a document.
pub(super) async fn document(asked: &Asked, body: Body) -> Result<String, Fault> {
    let bytes = Memory::new(MOST_XML).collect(asked.headers(), body).await?;
    String::from_utf8(bytes.to_vec()).map_err(|error| Fault::Malformed(error.to_string()))
}
