//! Somebody who calls, and what comes back.

use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use longshore_jobs::model::org::Token;
use serde_json::Value;

use super::World;

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Reply {
    /// The reply, having asserted its status.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// Status, slug and both messages of an error.
    pub fn error(&self) -> (u16, &str, &str, &str) {
        let text = |pointer: &str| self.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        (self.status.as_u16(), text("/error/type"), text("/message"), text("/error/message"))
    }

    pub fn slug(&self) -> &str {
        self.error().1
    }

    pub fn upload(&self) -> &Value {
        &self.body["uploads"][0]
    }

    pub fn file(&self) -> &Value {
        &self.body["files"][0]
    }

    pub fn batch(&self) -> &Value {
        &self.body["batches"][0]
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

/// Somebody who calls.
#[derive(Clone)]
pub struct Client<'w> {
    pub token: Option<Token>,
    pub world: &'w World,
}

impl Client<'_> {
    pub fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(path);
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    pub async fn call(&self, method: &str, path: &str) -> Reply {
        self.world.send(self.request(method, path).body(Body::empty()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.post_preferring(path, body, "").await
    }

    pub async fn post_preferring(&self, path: &str, body: Value, prefer: &str) -> Reply {
        let request = self.request("POST", path).header("content-type", "application/json").header("prefer", prefer);
        self.world.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub async fn post_lines(&self, path: &str, lines: &str) -> Reply {
        let request = self.request("POST", path).header("content-type", "application/x-ndjson");
        self.world.send(request.body(Body::from(lines.to_owned())).unwrap()).await
    }

    pub async fn form(&self, parts: &[(&str, &str, &[u8])]) -> Reply {
        self.raw_form("multipart/form-data; boundary=XX", form_of(parts)).await
    }

    pub async fn raw_form(&self, content_type: &str, body: Vec<u8>) -> Reply {
        let request = self.request("POST", "/api/files").header("content-type", content_type);
        self.world.send(request.body(Body::from(body)).unwrap()).await
    }
}

/// A form with the boundary `XX`: field name, file name, content.
pub fn form_of(parts: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (name, filename, content) in parts {
        let head = format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{filename}\"\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--XX--\r\n");
    form
}
