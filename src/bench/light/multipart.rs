//! Objects in parts: create, upload, complete, abort.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;

use super::Cloud;
use super::fault::Fault;
use super::object::{Described, Object, bare, new_etag};
use super::s3::Asked;
use super::write::{document, land, refuse_chunked};
use super::xml::{answer, elements, escape, unescape};

/// Uploads that are neither complete nor aborted, by their id.
#[derive(Default)]
pub(super) struct Multiparts(Mutex<HashMap<String, Multipart>>);

struct Multipart {
    path: String,
    described: Described,
    parts: BTreeMap<u32, Part>,
}

struct Part {
    etag: HeaderValue,
    bytes: Bytes,
}

impl Multiparts {
    fn open(&self) -> MutexGuard<'_, HashMap<String, Multipart>> {
        // Nothing that holds the lock can leave a map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /bucket/key?uploads`.
pub(super) fn create(cloud: &Cloud, asked: &Asked) -> Response {
    let id = format!("{:032x}", rand::random::<u128>());
    let upload =
        Multipart { path: asked.path.clone(), described: Described::of(asked.headers()), parts: BTreeMap::new() };
    cloud.multiparts.open().insert(id.clone(), upload);
    answer(StatusCode::OK, &element("InitiateMultipartUploadResult", asked, &format!("<UploadId>{id}</UploadId>")))
}

/// `PUT /bucket/key?partNumber=…&uploadId=…`.
pub(super) async fn part(cloud: &Cloud, asked: &Asked, id: &str, body: Body) -> Result<Response, Fault> {
    refuse_chunked(asked)?;
    let number = asked.parameter("partNumber").unwrap_or_default();
    let number = number.parse().map_err(|_| Fault::Malformed("partNumber is not a number".to_owned()))?;
    let bytes = cloud.memory.collect(asked.headers(), body).await?;
    let etag = new_etag();
    let mut open = cloud.multiparts.open();
    let upload = open.get_mut(id).ok_or(Fault::NoSuchUpload)?;
    upload.parts.insert(number, Part { etag: etag.clone(), bytes });
    Ok([(header::ETAG, etag)].into_response())
}

/// `POST /bucket/key?uploadId=…`: the parts that it names become the object, the others are dropped.
pub(super) async fn complete(cloud: &Cloud, asked: &Asked, id: &str, body: Body) -> Result<Response, Fault> {
    let named = named_parts(&document(asked, body).await?)?;
    let upload = take_complete(cloud, id, &named)?;
    let segments = named.iter().map(|(number, _)| upload.parts[number].bytes.clone()).collect();
    let object = Object::new(segments, upload.described);
    let etag = land(cloud, upload.path, object, "ObjectCreated:CompleteMultipartUpload");
    let etag = escape(etag.to_str().expect("it is made of digits"));
    Ok(answer(StatusCode::OK, &element("CompleteMultipartUploadResult", asked, &format!("<ETag>{etag}</ETag>"))))
}

/// Takes the upload away if each of the parts is there as it is named; else it stays open.
fn take_complete(cloud: &Cloud, id: &str, named: &[(u32, String)]) -> Result<Multipart, Fault> {
    let mut open = cloud.multiparts.open();
    let upload = open.get(id).ok_or(Fault::NoSuchUpload)?;
    for (number, etag) in named {
        let is_there =
            upload.parts.get(number).is_some_and(|part| bare(part.etag.to_str().unwrap_or_default()) == etag);
        if !is_there {
            return Err(Fault::Part(*number));
        }
    }
    open.remove(id).ok_or(Fault::NoSuchUpload)
}

/// `DELETE /bucket/key?uploadId=…`.
pub(super) fn abort(cloud: &Cloud, id: &str) -> Result<Response, Fault> {
    cloud.multiparts.open().remove(id).ok_or(Fault::NoSuchUpload)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Numbers and entity tags, in the order of the object's bytes.
fn named_parts(document: &str) -> Result<Vec<(u32, String)>, Fault> {
    let unreadable = || Fault::Malformed("the list of parts".to_owned());
    let read = |part: &str| -> Option<(u32, String)> {
        let number = elements(part, "PartNumber").next()?.trim().parse().ok()?;
        let etag = unescape(elements(part, "ETag").next()?)?;
        Some((number, bare(&etag).to_owned()))
    };
    let parts: Vec<_> = elements(document, "Part").map(read).collect::<Option<_>>().ok_or_else(unreadable)?;
    let is_in_order = parts.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if parts.is_empty() || !is_in_order { Err(unreadable()) } else { Ok(parts) }
}

fn element(name: &str, asked: &Asked, more: &str) -> String {
    let (bucket, key) = asked.bucket_and_key();
    let (bucket, key) = (escape(bucket), escape(key));
    format!(
        "<{name} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{bucket}</Bucket><Key>{key}</Key>{more}</{name}>"
    )
}
