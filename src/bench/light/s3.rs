//! Which operation of S3 a request asks for, path style alone.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use super::fault::Fault;
use super::{Cloud, copy, form, list, multipart, read, write};

/// What is asked for, without the body.
pub(super) struct Asked {
    parts: Parts,
    /// `bucket/key`, or `bucket/` for the bucket itself.
    pub(super) path: String,
}

/// Answers one request.
pub(super) async fn answer(cloud: &Arc<Cloud>, request: Request) -> Response {
    cloud.slowness.wait().await;
    let (parts, body) = request.into_parts();
    let answered = match Asked::read(parts) {
        Ok(asked) if asked.is_of_bucket() => of_bucket(cloud, &asked, body).await,
        Ok(asked) => of_object(cloud, asked, body).await,
        Err(fault) => Err(fault),
    };
    answered.unwrap_or_else(|fault| {
        tracing::debug!(%fault, "refused by the light S3");
        fault.into_response()
    })
}

async fn of_bucket(cloud: &Cloud, asked: &Asked, body: Body) -> Result<Response, Fault> {
    match *asked.method() {
        Method::GET => list::page(cloud, asked),
        Method::POST if asked.has("delete") => write::delete_many(cloud, asked, body).await,
        Method::POST => form::post(cloud, asked, body).await,
        // Every bucket is there.
        Method::HEAD | Method::PUT => Ok(StatusCode::OK.into_response()),
        _ => Err(Fault::NotImplemented("this on a bucket")),
    }
}

async fn of_object(cloud: &Cloud, asked: Asked, body: Body) -> Result<Response, Fault> {
    let in_parts = asked.parameter("uploadId").map(Cow::into_owned);
    match (asked.method().clone(), in_parts) {
        (Method::GET | Method::HEAD, None) => read::object(cloud, &asked),
        (Method::PUT, None) if asked.header(copy::SOURCE).is_some() => copy::copy(cloud, &asked).await,
        (Method::PUT, None) => write::put(cloud, asked, body).await,
        (Method::PUT, Some(_)) if asked.header(copy::SOURCE).is_some() => Err(Fault::NotImplemented("copies of parts")),
        (Method::PUT, Some(id)) => multipart::part(cloud, &asked, &id, body).await,
        (Method::POST, None) if asked.has("uploads") => Ok(multipart::create(cloud, &asked)),
        (Method::POST, Some(id)) => multipart::complete(cloud, &asked, &id, body).await,
        (Method::DELETE, None) => Ok(write::delete(cloud, &asked)),
        (Method::DELETE, Some(id)) => multipart::abort(cloud, &id),
        _ => Err(Fault::NotImplemented("this on an object")),
    }
}

impl Asked {
    fn read(parts: Parts) -> Result<Self, Fault> {
        let unreadable = || Fault::Malformed("the path is not UTF-8".to_owned());
        let path = percent_decode_str(&parts.uri.path()[1..]).decode_utf8().map_err(|_| unreadable())?;
        let path = if path.contains('/') { path.into_owned() } else { format!("{path}/") };
        if path.starts_with('/') {
            return Err(Fault::NotImplemented("a list of buckets"));
        }
        Ok(Self { parts, path })
    }

    fn is_of_bucket(&self) -> bool {
        self.path.find('/') == Some(self.path.len() - 1)
    }

    pub(super) fn method(&self) -> &Method {
        &self.parts.method
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The header's text; `None` where there is none or it is not ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// The parameter's value, empty where it has none.
    pub(super) fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        let query = self.parts.uri.query()?;
        form_urlencoded::parse(query.as_bytes()).find_map(|(found, value)| (found == name).then_some(value))
    }

    fn has(&self, parameter: &str) -> bool {
        self.parameter(parameter).is_some()
    }

    /// The name of the bucket, and the key within it.
    pub(super) fn bucket_and_key(&self) -> (&str, &str) {
        split(&self.path)
    }
}

/// The name of the bucket, and the key within it.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.split_once('/').expect("a path has a bucket")
}
