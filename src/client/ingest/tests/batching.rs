//! The fake server's batches.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use longshore_jobs::model::Status;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fake::{Fake, Row, read_parts, take};

/// A batch of the fake.
#[derive(Default)]
pub(super) struct Batched {
    pub(super) is_prefix: bool,
    pub(super) is_closed: bool,
    /// What closes it: `manifest`, `policy` or `callback`.
    pub(super) closed_by: &'static str,
    /// Whether its policy has ended.
    pub(super) is_lapsed: bool,
    /// Uploads in the bucket that it does not know of yet.
    late: Vec<Uuid>,
    /// So many answers say that it is not ready yet.
    unready: u64,
    /// Its uploads, those of earlier calls among them, in their order.
    members: Vec<Uuid>,
    pub(super) manifest: HashMap<String, String>,
}

pub(super) fn routes() -> Router<Arc<Fake>> {
    Router::new()
        .route("/api/batches", post(create))
        .route("/api/batches/{id}", get(show))
        .route("/api/batches/{id}/uploads", get(list))
        .route("/api/batches/{id}/manifest", put(pin))
        .route("/api/batches/{id}/policy", post(renew))
        .route("/api/batches/{id}/callback", post(callback))
        .route("/bucket/below/{id}", post(form))
}

impl Fake {
    /// As if these had never come.
    pub(super) fn forget(&self, gone: &[Uuid]) {
        let mut batches = self.batches.lock().unwrap();
        batches.values_mut().for_each(|batch| batch.members.retain(|id| !gone.contains(id)));
    }

    /// Files of the batch that nobody here has promised.
    pub(super) fn add_strangers(&self, batch: Uuid, count: usize) {
        for _ in 0..count {
            let (id, mut row) = (Uuid::now_v7(), self.rows.lock().unwrap().values().next().unwrap().clone());
            row.filename = format!("stranger/{id}");
            self.rows.lock().unwrap().insert(id, row);
            self.batches.lock().unwrap().get_mut(&batch).unwrap().members.push(id);
        }
    }

    /// Whether the batch is closed, or is by this.
    fn is_closed_by(&self, id: Uuid, what: &str) -> bool {
        let mut batches = self.batches.lock().unwrap();
        let batch = batches.get_mut(&id).unwrap();
        batch.is_closed |= batch.closed_by == what;
        batch.is_closed
    }

    fn batch(&self, id: Uuid) -> Value {
        let mut batches = self.batches.lock().unwrap();
        let batch = batches.get_mut(&id).unwrap();
        let ready = batch.unready == 0;
        batch.unready = batch.unready.saturating_sub(1);
        let rows = self.rows.lock().unwrap();
        let own: Vec<_> = batch.members.iter().map(|id| &rows[id]).filter(|row| row.batch == Some(id)).collect();
        let final_ones = own.iter().filter(|row| row.status.is_final()).count();
        let promised = if batch.is_closed { 0 } else { batch.manifest.len() };
        let tasks = own.len().max(promised);
        let has_policy = batch.is_prefix && !batch.is_closed && !batch.is_lapsed;
        let form = json!({"method": "POST", "url": format!("{}/bucket/below/{id}", self.url.lock().unwrap()),
            "fields": {"key": format!("staging/o/batch/{id}/${{filename}}"), "policy": "cG9saWN5"}, "expires": 900});
        json!({"batches": [{"id": id, "ready": ready, "closedAt": batch.is_closed.then_some("2026-01-01T00:00:00.000Z"),
            "taskStatusPending": tasks - final_ones, "taskStatusRunning": 0, "upload": has_policy.then_some(form)}]})
    }
}

async fn create(State(fake): State<Arc<Fake>>, headers: HeaderMap, body: Bytes) -> Response {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    if let Some(id) = fake.keys.lock().unwrap().get(&key) {
        return Json(fake.batch(*id)).into_response();
    }
    let text = std::str::from_utf8(&body).unwrap();
    let batch = if headers["content-type"] == "application/json" {
        Batched { is_prefix: true, ..Batched::default() }
    } else {
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if lines.iter().any(|line| line["filename"].as_str().unwrap().contains("refused")) {
            let told = json!({"message": "Line 1: field `size` must be less", "error": {"type": "unprocessable_error", "message": "x"}});
            return (StatusCode::UNPROCESSABLE_ENTITY, Json(told)).into_response();
        }
        Batched { unready: 2, ..Batched::default() }
    };
    let id = Uuid::now_v7();
    let members = if batch.is_prefix { Vec::new() } else { text.lines().map(|line| fake.member(id, line)).collect() };
    let status = if batch.is_prefix { StatusCode::CREATED } else { StatusCode::ACCEPTED };
    fake.batches.lock().unwrap().insert(id, Batched { members, ..batch });
    fake.keys.lock().unwrap().insert(key, id);
    (status, Json(fake.batch(id))).into_response()
}

impl Fake {
    /// The upload of a line: the one that its `ref` stands for, or else a new one.
    fn member(&self, batch: Uuid, line: &str) -> Uuid {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        let mut rows = self.rows.lock().unwrap();
        let stands =
            |row: &Row| row.client_ref == text("ref") && !matches!(row.status, Status::Rejected | Status::Cancelled);
        if let Some((id, _)) = rows.iter().find(|(_, row)| stands(row)) {
            return *id;
        }
        let known = self.stored.lock().unwrap().contains(&text("sha256"));
        let id = Uuid::now_v7();
        rows.insert(
            id,
            Row {
                client_ref: text("ref"),
                sha256: text("sha256"),
                filename: text("filename"),
                size: line["size"].as_u64().unwrap(),
                status: if known { Status::Done } else { Status::Issued },
                deduplicated: known.then_some(true),
                batch: Some(batch),
            },
        );
        id
    }
}

async fn show(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>) -> Json<Value> {
    Json(fake.batch(id))
}

/// Pages of ten at most, so that there are some.
async fn list(
    State(fake): State<Arc<Fake>>,
    Path(id): Path<Uuid>,
    Query(query): Query<HashMap<String, String>>,
) -> Json<Value> {
    let batches = fake.batches.lock().unwrap();
    let members = &batches[&id].members;
    let after = query.get("after").map(|after| after.parse::<Uuid>().unwrap());
    let start = after.map_or(0, |after| members.iter().position(|id| *id == after).unwrap() + 1);
    let page: Vec<_> = members[start..].iter().take(10).copied().collect();
    let next = page.last().filter(|_| start + page.len() < members.len());
    let rows = fake.rows.lock().unwrap();
    let uploads: Vec<_> = page.iter().map(|id| fake.entry(*id, &rows[id])).collect();
    Json(json!({ "uploads": uploads, "next": next }))
}

fn conflict() -> Response {
    let told = json!({"message": "Error", "error": {"type": "conflict_error", "message": "x"}});
    (StatusCode::CONFLICT, Json(told)).into_response()
}

async fn pin(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>, body: String) -> Response {
    if fake.is_closed_by(id, "manifest") || take(&fake.overtaken) {
        return conflict();
    }
    let lines = body.lines().map(|line| line.split_once("  ").unwrap());
    let manifest = lines.map(|(hash, name)| (name.to_owned(), format!("sha256-{hash}"))).collect();
    fake.batches.lock().unwrap().get_mut(&id).unwrap().manifest = manifest;
    Json(fake.batch(id)).into_response()
}

async fn renew(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>) -> Response {
    *fake.renewals.lock().unwrap() += 1;
    if fake.is_closed_by(id, "policy") {
        return conflict();
    }
    fake.batches.lock().unwrap().get_mut(&id).unwrap().is_lapsed = false;
    Json(fake.batch(id)).into_response()
}

async fn callback(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>) -> StatusCode {
    *fake.callbacks.lock().unwrap() += 1;
    let is_closed = fake.is_closed_by(id, "callback");
    let mut batches = fake.batches.lock().unwrap();
    let batch = batches.get_mut(&id).unwrap();
    let late = std::mem::take(&mut batch.late);
    if !is_closed {
        batch.members.extend(late);
    }
    let mut rows = fake.rows.lock().unwrap();
    for member in &batch.members {
        rows.get_mut(member).unwrap().status = Status::Done;
    }
    StatusCode::ACCEPTED
}

async fn form(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>, headers: HeaderMap, body: Body) -> Response {
    if let Some(refusal) = fake.mood() {
        return refusal;
    }
    let parts: HashMap<_, _> = read_parts(&headers, body).await.into_iter().collect();
    *fake.forms.lock().unwrap() += 1;
    let key = std::str::from_utf8(&parts["key"]).unwrap();
    let filename = key.strip_prefix(&format!("staging/o/batch/{id}/")).unwrap().to_owned();
    let mut batches = fake.batches.lock().unwrap();
    let batch = batches.get_mut(&id).unwrap();
    let sha256 = batch.manifest.get(&filename).expect("the hashes go ahead of the bytes").clone();
    let size = parts["file"].len() as u64;
    let (client_ref, status) = (String::new(), Status::Arrived);
    let mut row = Row { client_ref, sha256, size, status, deduplicated: None, filename, batch: Some(id) };
    fake.settle(&mut row, &parts["file"]);
    let upload = Uuid::now_v7();
    if take(&fake.late) {
        batch.late.push(upload)
    } else {
        batch.members.push(upload)
    }
    fake.rows.lock().unwrap().insert(upload, row);
    StatusCode::CREATED.into_response()
}
