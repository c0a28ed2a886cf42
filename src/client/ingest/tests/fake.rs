//! A server that behaves as `API.md` says, as far as the client can see, and misbehaves on demand.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use longshore_jobs::model::{Digest, Status};
use serde_json::{Value, json};
use uuid::Uuid;

use super::batching::{self, Batched};
use crate::client::Api;

#[derive(Default)]
pub(super) struct Fake {
    pub(super) url: Mutex<String>,
    pub(super) rows: Mutex<HashMap<Uuid, Row>>,
    pub(super) stored: Mutex<HashSet<String>>,
    pub(super) callbacks: Mutex<u64>,
    pub(super) forms: Mutex<u64>,
    /// So many of the next forms are answered 503.
    pub(super) busy: Mutex<u64>,
    /// So many of the next forms are refused because their policy ran out.
    pub(super) expired: Mutex<u64>,
    /// So many of the next forms are given up because nothing came.
    pub(super) silent: Mutex<u64>,
    /// So many of the next creates have no policy yet.
    pub(super) slow: Mutex<u64>,
    /// So many of the next answers show an issued upload whose fresh policy is not signed yet.
    pub(super) unsigned: Mutex<u64>,
    /// After a renewal, so many answers are of that kind.
    pub(super) slow_renewals: Mutex<u64>,
    pub(super) renewals: Mutex<u64>,
    /// Method and path of every request.
    pub(super) asked: Mutex<Vec<String>>,
    pub(super) batches: Mutex<HashMap<Uuid, Batched>>,
    /// Batches by their `Idempotency-Key`.
    pub(super) keys: Mutex<HashMap<String, Uuid>>,
    pub(super) cancelled: Mutex<u64>,
    /// Uploads that arrive and are never seen to until somebody calls back.
    pub(super) unnoticed: Mutex<u64>,
    /// So many of the next forms below a prefix become uploads when somebody calls back.
    pub(super) late: Mutex<u64>,
    /// So many of the next manifests are told that another holds.
    pub(super) overtaken: Mutex<u64>,
    /// Uploads whose policy leads to where the bucket is not any more: it is not shown.
    pub(super) astray: Mutex<HashSet<Uuid>>,
    /// Uploads whose file was deleted.
    pub(super) deleted: Mutex<HashSet<Uuid>>,
}

#[derive(Clone)]
pub(super) struct Row {
    pub(super) client_ref: String,
    pub(super) sha256: String,
    pub(super) size: u64,
    pub(super) status: Status,
    pub(super) deduplicated: Option<bool>,
    pub(super) filename: String,
    pub(super) batch: Option<Uuid>,
}

/// Counts one down; whether there was one.
pub(super) fn take(count: &Mutex<u64>) -> bool {
    let mut count = count.lock().unwrap();
    let taken = *count > 0;
    *count = count.saturating_sub(1);
    taken
}

impl Fake {
    fn render(&self, id: Uuid, row: &Row) -> Value {
        json!({"uploads": [self.entry(id, row)]})
    }

    /// The refusal of a form that has nothing to do with the form.
    pub(super) fn mood(&self) -> Option<Response> {
        let told = |code, message| format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        if take(&self.busy) {
            return Some((StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response());
        }
        if take(&self.silent) {
            return Some((StatusCode::BAD_REQUEST, told("RequestTimeout", "Nothing came.")).into_response());
        }
        let expired = told("AccessDenied", "Invalid according to Policy: Policy expired.");
        take(&self.expired).then(|| (StatusCode::FORBIDDEN, expired).into_response())
    }

    /// What the server would make of bytes that have come.
    pub(super) fn settle(&self, row: &mut Row, file: &[u8]) {
        let digest = Digest::of(file).to_string();
        let right = digest == row.sha256 && file.len() as u64 == row.size;
        row.status = if right { Status::Done } else { Status::Rejected };
        row.deduplicated = right.then(|| !self.stored.lock().unwrap().insert(digest));
        if right && take(&self.unnoticed) {
            row.status = Status::Issued;
        }
    }

    pub(super) fn entry(&self, id: Uuid, row: &Row) -> Value {
        let astray = self.astray.lock().unwrap().contains(&id);
        let signed = row.status == Status::Issued && !astray && !take(&self.unsigned);
        let file = (!self.deleted.lock().unwrap().contains(&id)).then_some(id);
        let form = json!({"method": "POST", "url": format!("{}/bucket/{id}", self.url.lock().unwrap()),
            "fields": {"key": format!("staging/{id}"), "policy": "cG9saWN5"}, "expires": 900});
        json!({"id": id, "status": row.status, "fileId": file, "hash": row.sha256, "deduplicated": row.deduplicated,
            "filename": row.filename, "ref": row.client_ref, "batchId": row.batch,
            "reason": (row.status == Status::Rejected).then_some("digest_mismatch"),
            "updatedAt": "2026-01-01T00:00:00.000Z", "upload": signed.then_some(form)})
    }
}

async fn create(State(fake): State<Arc<Fake>>, headers: HeaderMap, body: Bytes) -> Response {
    if headers["authorization"] != "Bearer good" {
        let told = json!({"message": "Error getting authentication", "error": {"type": "authentication_error", "message": "x"}});
        return (StatusCode::UNAUTHORIZED, axum::Json(told)).into_response();
    }
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let (client_ref, sha256) =
        (asked["ref"].as_str().unwrap().to_owned(), asked["sha256"].as_str().unwrap().to_owned());
    let mut rows = fake.rows.lock().unwrap();
    if let Some((id, row)) = rows.iter_mut().find(|(_, row)| row.client_ref == client_ref) {
        if row.status == Status::Requested && !take(&fake.slow) {
            row.status = Status::Issued;
        }
        fake.astray.lock().unwrap().remove(id);
        return axum::Json(fake.render(*id, row)).into_response();
    }
    let known = fake.stored.lock().unwrap().contains(&sha256);
    let unsigned = !known && take(&fake.slow);
    let status = if known {
        Status::Done
    } else if unsigned {
        Status::Requested
    } else {
        Status::Issued
    };
    let size = asked["size"].as_u64().unwrap();
    let filename = asked["filename"].as_str().unwrap().to_owned();
    let row = Row { client_ref, sha256, size, status, deduplicated: known.then_some(true), filename, batch: None };
    let id = Uuid::now_v7();
    rows.insert(id, row.clone());
    (if unsigned { StatusCode::ACCEPTED } else { StatusCode::CREATED }, axum::Json(fake.render(id, &row)))
        .into_response()
}

async fn show(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>) -> Response {
    let row = fake.rows.lock().unwrap()[&id].clone();
    axum::Json(fake.render(id, &row)).into_response()
}

async fn renew(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>) -> Response {
    *fake.renewals.lock().unwrap() += 1;
    fake.astray.lock().unwrap().remove(&id);
    *fake.unsigned.lock().unwrap() = std::mem::take(&mut *fake.slow_renewals.lock().unwrap());
    show(State(fake), Path(id)).await
}

async fn callback(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>) -> StatusCode {
    *fake.callbacks.lock().unwrap() += 1;
    if let Some(row) = fake.rows.lock().unwrap().get_mut(&id)
        && row.deduplicated.is_some()
    {
        row.status = Status::Done;
    }
    StatusCode::ACCEPTED
}

async fn cancel(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>) -> Response {
    *fake.cancelled.lock().unwrap() += 1;
    fake.rows.lock().unwrap().get_mut(&id).unwrap().status = Status::Cancelled;
    show(State(fake), Path(id)).await
}

async fn log(State(fake): State<Arc<Fake>>, request: Request, next: Next) -> Response {
    fake.asked.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
    next.run(request).await
}

async fn form(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>, headers: HeaderMap, body: Body) -> Response {
    if let Some(refusal) = fake.mood() {
        return refusal;
    }
    let (names, file) = read_form(&headers, body).await;
    assert_eq!(names, ["key", "policy", "file"]);
    *fake.forms.lock().unwrap() += 1;
    let mut rows = fake.rows.lock().unwrap();
    fake.settle(rows.get_mut(&id).unwrap(), &file);
    StatusCode::CREATED.into_response()
}

/// The names of the form's parts, and the last one's bytes.
pub(super) async fn read_form(headers: &HeaderMap, body: Body) -> (Vec<String>, Bytes) {
    let parts = read_parts(headers, body).await;
    let file = parts.last().unwrap().1.clone();
    (parts.into_iter().map(|(name, _)| name).collect(), file)
}

pub(super) async fn read_parts(headers: &HeaderMap, body: Body) -> Vec<(String, Bytes)> {
    assert!(headers.contains_key("content-length") && !headers.contains_key("transfer-encoding"));
    let boundary = multer::parse_boundary(headers["content-type"].to_str().unwrap()).unwrap();
    let mut form = multer::Multipart::new(body.into_data_stream(), boundary);
    let mut parts = Vec::new();
    while let Some(field) = form.next_field().await.unwrap() {
        parts.push((field.name().unwrap().to_owned(), field.bytes().await.unwrap()));
    }
    parts
}

async fn report(State(fake): State<Arc<Fake>>) -> axum::Json<Value> {
    let count = fake.rows.lock().unwrap().values().filter(|row| row.status == Status::Done).count();
    axum::Json(json!({"files": [{"count": count, "size": 0.01, "asOf": "2026-01-01T00:00:01.000Z"}]}))
}

pub(super) async fn serve() -> (Arc<Fake>, Api) {
    let fake = Arc::new(Fake::default());
    let routes = Router::new()
        .route("/api/uploads", post(create))
        .route("/api/uploads/{id}", get(show).delete(cancel))
        .route("/api/uploads/{id}/policy", post(renew))
        .route("/api/uploads/{id}/callback", post(callback))
        .route("/api/files/report", get(report))
        .route("/bucket/{id}", post(form))
        .merge(batching::routes())
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&fake), log))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(&fake));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    fake.url.lock().unwrap().clone_from(&url);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (fake, Api::new(url.parse().unwrap(), "good".to_owned()))
}
