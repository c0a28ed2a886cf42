//! Runs against a server that behaves as `API.md` says, as far as the client can see, and misbehaves on demand.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Mutex;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use longshore_jobs::model::{Digest, Status};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

#[derive(Default)]
struct Fake {
    url: Mutex<String>,
    rows: Mutex<HashMap<Uuid, Row>>,
    stored: Mutex<HashSet<String>>,
    callbacks: Mutex<u64>,
    forms: Mutex<u64>,
    /// So many of the next forms are answered 503.
    busy: Mutex<u64>,
    /// So many of the next forms are refused because their policy ran out.
    expired: Mutex<u64>,
    /// So many of the next forms are given up because nothing came.
    silent: Mutex<u64>,
    /// So many of the next creates have no policy yet.
    slow: Mutex<u64>,
    /// So many of the next answers show an issued upload whose fresh policy is not signed yet.
    unsigned: Mutex<u64>,
    /// After a renewal, so many answers are of that kind.
    slow_renewals: Mutex<u64>,
    renewals: Mutex<u64>,
}

#[derive(Clone)]
struct Row {
    client_ref: String,
    sha256: String,
    size: u64,
    status: Status,
    deduplicated: Option<bool>,
}

/// Counts one down; whether there was one.
fn take(count: &Mutex<u64>) -> bool {
    let mut count = count.lock().unwrap();
    let taken = *count > 0;
    *count = count.saturating_sub(1);
    taken
}

impl Fake {
    fn render(&self, id: Uuid, row: &Row) -> Value {
        let signed = row.status == Status::Issued && !take(&self.unsigned);
        let form = json!({"method": "POST", "url": format!("{}/bucket/{id}", self.url.lock().unwrap()),
            "fields": {"key": format!("staging/{id}"), "policy": "cG9saWN5"}, "expires": 900});
        json!({"uploads": [{"id": id, "status": row.status, "fileId": id, "deduplicated": row.deduplicated,
            "reason": (row.status == Status::Rejected).then_some("digest_mismatch"),
            "updatedAt": "2026-01-01T00:00:00.000Z", "upload": signed.then_some(form)}]})
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
    let row =
        Row { client_ref, sha256, size: asked["size"].as_u64().unwrap(), status, deduplicated: known.then_some(true) };
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
    *fake.unsigned.lock().unwrap() = std::mem::take(&mut *fake.slow_renewals.lock().unwrap());
    show(State(fake), Path(id)).await
}

async fn callback(State(fake): State<Arc<Fake>>) -> StatusCode {
    *fake.callbacks.lock().unwrap() += 1;
    StatusCode::ACCEPTED
}

async fn form(State(fake): State<Arc<Fake>>, Path(id): Path<Uuid>, headers: HeaderMap, body: Body) -> Response {
    if take(&fake.busy) {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response();
    }
    if take(&fake.silent) {
        let told = "<Error><Code>RequestTimeout</Code><Message>Nothing came.</Message></Error>";
        return (StatusCode::BAD_REQUEST, told).into_response();
    }
    if take(&fake.expired) {
        let told =
            "<Error><Code>AccessDenied</Code><Message>Invalid according to Policy: Policy expired.</Message></Error>";
        return (StatusCode::FORBIDDEN, told).into_response();
    }
    assert!(headers.contains_key("content-length") && !headers.contains_key("transfer-encoding"));
    let boundary = multer::parse_boundary(headers["content-type"].to_str().unwrap()).unwrap();
    let mut form = multer::Multipart::new(body.into_data_stream(), boundary);
    let (mut names, mut file) = (Vec::new(), Bytes::new());
    while let Some(field) = form.next_field().await.unwrap() {
        names.push(field.name().unwrap().to_owned());
        file = field.bytes().await.unwrap();
    }
    assert_eq!(names, ["key", "policy", "file"]);
    *fake.forms.lock().unwrap() += 1;
    let mut rows = fake.rows.lock().unwrap();
    let row = rows.get_mut(&id).unwrap();
    let digest = Digest::of(&file).to_string();
    let right = digest == row.sha256 && file.len() as u64 == row.size;
    row.status = if right { Status::Done } else { Status::Rejected };
    row.deduplicated = right.then(|| !fake.stored.lock().unwrap().insert(digest));
    StatusCode::CREATED.into_response()
}

async fn report(State(fake): State<Arc<Fake>>) -> axum::Json<Value> {
    let count = fake.rows.lock().unwrap().values().filter(|row| row.status == Status::Done).count();
    axum::Json(json!({"files": [{"count": count, "size": 0.01, "asOf": "2026-01-01T00:00:01.000Z"}]}))
}

async fn serve() -> (Arc<Fake>, Api) {
    let fake = Arc::new(Fake::default());
    let routes = Router::new()
        .route("/api/uploads", post(create))
        .route("/api/uploads/{id}", get(show))
        .route("/api/uploads/{id}/policy", post(renew))
        .route("/api/uploads/{id}/callback", post(callback))
        .route("/api/files/report", get(report))
        .route("/bucket/{id}", post(form))
        .layer(axum::extract::DefaultBodyLimit::disable())
        .with_state(Arc::clone(&fake));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    fake.url.lock().unwrap().clone_from(&url);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (fake, Api::new(url.parse().unwrap(), "good".to_owned()))
}

fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

async fn ingest(api: &Api, folder: &tempfile::TempDir) -> Summary {
    let paths = vec![folder.path().to_owned()];
    let options = IngestOptions { paths, target: None, concurrency: 1 };
    run(api.clone(), options, Progress::silent(), CancellationToken::new()).await
}

#[tokio::test]
async fn files_go_up_once_and_a_second_run_sends_nothing() {
    let (fake, api) = serve().await;
    let large = (0..1_500_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let folder = folder(&[("a", b"same".to_vec()), ("b", b"same".to_vec()), ("empty", vec![]), ("large", large)]);

    let first = ingest(&api, &folder).await;
    let second = ingest(&api, &folder).await;

    assert!(first.is_complete() && second.is_complete(), "{first}{second}");
    assert_eq!((first.files, first.uploaded, first.duplicates, first.bytes_saved), (4, 3, 1, 4));
    assert_eq!((second.uploaded, second.duplicates, second.already_there), (0, 0, 4));
    assert_eq!((*fake.forms.lock().unwrap(), first.report.unwrap().count), (3, 4));
}

#[tokio::test]
async fn a_busy_bucket_a_late_policy_and_one_that_ran_out_are_outlived() {
    let (fake, api) = serve().await;
    (*fake.busy.lock().unwrap(), *fake.expired.lock().unwrap(), *fake.slow.lock().unwrap()) = (2, 1, 2);

    let summary = ingest(&api, &folder(&[("a", b"a".to_vec())])).await;

    assert!(summary.is_complete(), "{summary}");
    assert_eq!((summary.uploaded, *fake.forms.lock().unwrap()), (1, 1));
}

#[tokio::test]
async fn a_policy_that_is_being_renewed_is_waited_for_and_not_renewed_again() {
    let (fake, api) = serve().await;
    *fake.unsigned.lock().unwrap() = 3;
    let summary = ingest(&api, &folder(&[("a", b"a".to_vec())])).await;
    assert!(summary.is_complete(), "{summary}");
    assert_eq!((*fake.renewals.lock().unwrap(), *fake.forms.lock().unwrap()), (0, 1));
}

#[tokio::test]
async fn a_renewal_that_takes_its_time_is_asked_for_once() {
    let (fake, api) = serve().await;
    *fake.expired.lock().unwrap() = 1;
    *fake.slow_renewals.lock().unwrap() = 3;

    let summary = ingest(&api, &folder(&[("a", b"a".to_vec())])).await;

    assert!(summary.is_complete(), "{summary}");
    assert_eq!((*fake.renewals.lock().unwrap(), *fake.forms.lock().unwrap()), (1, 1));
}

#[tokio::test]
async fn a_form_that_fell_silent_is_posted_again() {
    let (fake, api) = serve().await;
    *fake.silent.lock().unwrap() = 2;
    let summary = ingest(&api, &folder(&[("a", b"a".to_vec())])).await;
    assert!(summary.is_complete(), "{summary}");
    assert_eq!(*fake.forms.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_file_that_changes_on_its_way_fails_alone() {
    let (fake, api) = serve().await;
    let folder = folder(&[("a", b"a".to_vec()), ("b", vec![1; 300_000])]);
    let changed = walk::walk(&[folder.path().to_owned()], &[]).files.remove(1);
    let (content, _) = content::read(&changed).await.unwrap();
    fs::write(&changed.path, b"shorter").unwrap();
    let policy = crate::client::api::PolicyForm {
        url: format!("{}/bucket/{}", fake.url.lock().unwrap(), Uuid::now_v7()),
        fields: Default::default(),
        expires: 900,
    };

    let error = crate::client::form::post(&api.transport, &policy, &content, |_| {}).await.unwrap_err();

    assert!(matches!(error, crate::client::ApiError::Unreadable { .. }), "{error:?}");
    assert!(!error.is_about_everything());
}

#[tokio::test]
async fn a_token_that_does_not_do_ends_the_run_at_once() {
    let (_fake, api) = serve().await;
    let api = Api::new(api.base().clone(), "bad".to_owned());

    let summary = ingest(&api, &folder(&[("a", b"a".to_vec()), ("b", b"b".to_vec())])).await;

    assert!(summary.broken_off.as_ref().is_some_and(|why| why.contains("401")), "{summary}");
    assert!(summary.report.is_none());
}

#[tokio::test]
async fn a_run_that_is_stopped_says_so_and_is_not_complete() {
    let (_fake, api) = serve().await;
    let folder = folder(&[("a", b"a".to_vec())]);
    let stop = CancellationToken::new();
    stop.cancel();
    let options = IngestOptions { paths: vec![folder.path().to_owned()], target: None, concurrency: 4 };

    let summary = run(api, options, Progress::silent(), stop).await;

    assert!(!summary.is_complete());
    assert_eq!(summary.broken_off.as_deref(), Some("interrupted"));
}
