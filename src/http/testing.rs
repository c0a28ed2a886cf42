//! What the tests of the door use in place of a bucket, a queue and a clock: small things that hold state.

pub mod document;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, Request, StatusCode};
use longshore_jobs::job::{self, Context, Delivery, Limits, NewJob, Verdict};
use longshore_jobs::ledger::{Db, api_keys, orgs};
use longshore_jobs::model::org::{ApiKey, Scope, Scopes, Token};
use longshore_jobs::model::policy::{PolicyTerms, PostPolicy};
use longshore_jobs::model::{Digest, Timestamp};
use longshore_jobs::outside::{
    self, BucketAddress, BucketError, Chunks, Clock, Listing, LookError, ObjectHead, Queue, QueueError, QueuedJob,
    Stored,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use serde_json::Value;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::admin::desk::{Desk, Engines, Setup};
use super::{Http, Operations, Settings, router};
use crate::queue::engine::Engine;
use crate::queue::pauses::Pauses;
use crate::queue::sql::SqlQueue;

/// A clock that stands until it is turned.
pub struct HandClock(AtomicI64);

impl HandClock {
    pub fn turn(&self, length: Duration) {
        self.0.fetch_add(i64::try_from(length.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// A bucket in memory.
#[derive(Default)]
pub struct Shelf {
    pub objects: Mutex<BTreeMap<String, (ObjectHead, Bytes)>>,
    /// Whether every request fails.
    pub away: AtomicBool,
}

impl Shelf {
    /// Where objects lie.
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn lay(&self, key: &str, bytes: Bytes) -> ObjectHead {
        let head = ObjectHead {
            key: key.to_owned(),
            size: i64::try_from(bytes.len()).unwrap(),
            etag: Uuid::new_v4().to_string(),
            content_type: None,
            modified_at: Timestamp::from_millis(0),
        };
        self.objects.lock().unwrap().insert(key.to_owned(), (head.clone(), bytes));
        head
    }

    fn answers(&self, op: &'static str) -> Result<(), BucketError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(BucketError::Failed { op, source: "secret internals of the bucket".into() });
        }
        Ok(())
    }

    fn version(&self, head: &ObjectHead) -> Result<Bytes, BucketError> {
        match self.objects.lock().unwrap().get(&head.key) {
            None => Err(BucketError::Missing { key: head.key.clone() }),
            Some((now, _)) if now.etag != head.etag => Err(BucketError::Changed { key: head.key.clone() }),
            Some((_, bytes)) => Ok(bytes.clone()),
        }
    }
}

#[async_trait]
impl outside::Bucket for Shelf {
    async fn sign(&self, terms: PolicyTerms) -> Result<PostPolicy, BucketError> {
        self.answers("sign")?;
        let fields =
            BTreeMap::from([("key".to_owned(), terms.place.key()), ("policy".to_owned(), "signed".to_owned())]);
        Ok(PostPolicy { url: self.address().url, fields, expires_at: terms.expires_at })
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        self.answers("head")?;
        Ok(self.objects.lock().unwrap().get(key).map(|(head, _)| head.clone()))
    }

    async fn read(&self, head: &ObjectHead) -> Result<outside::Body, BucketError> {
        let bytes = self.version(head)?;
        Ok(outside::Body::Stream(futures_util::stream::iter([Ok(bytes)]).boxed()))
    }

    async fn put(&self, key: &str, _: Option<&str>, mut bytes: Chunks<'_>) -> Result<Stored, BucketError> {
        self.answers("put")?;
        let mut whole = BytesMut::new();
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|source| BucketError::BrokenOff { key: key.to_owned(), source })?;
            whole.extend_from_slice(&chunk);
        }
        let sha256 = Digest::of(&whole);
        Ok(Stored { head: self.lay(key, whole.freeze()), sha256 })
    }

    async fn copy(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError> {
        let bytes = self.version(from)?;
        self.lay(to, bytes.clone());
        Ok(Some(Digest::of(&bytes)))
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        self.answers("delete")?;
        self.objects.lock().unwrap().retain(|key, _| !keys.contains(key));
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError> {
        self.answers("list")?;
        let objects = self.objects.lock().unwrap();
        let heads = objects.values().map(|(head, _)| head);
        let behind = |head: &&ObjectHead| head.key.starts_with(prefix) && after.is_none_or(|after| *head.key > *after);
        Ok(Listing { objects: heads.filter(behind).cloned().collect(), next: None })
    }

    async fn presign_get(&self, key: &str, _: &str, life: Duration) -> Result<String, BucketError> {
        self.answers("presign")?;
        Ok(format!("https://bucket.test/{key}?expires={}", life.as_secs()))
    }

    fn address(&self) -> BucketAddress {
        BucketAddress {
            url: "https://bucket.test/uploads".to_owned(),
            bucket: "uploads".to_owned(),
            region: "eu-north-1".to_owned(),
            access_key_id: "AKIATEST".to_owned(),
        }
    }
}

/// A queue in memory: works at once in the background, or keeps what it is given until it is drained.
#[derive(Default)]
pub struct Line {
    waiting: Arc<Waiting>,
    works_with: OnceLock<Context>,
    /// Whether jobs stay where they are.
    pub idle: AtomicBool,
    /// Whether every push fails.
    pub away: AtomicBool,
    /// Whether no push ever ends.
    pub silent: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    jobs: Mutex<Vec<NewJob>>,
    /// Held by the one who works, so that whoever drains waits for what is under way.
    working: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Queue for Line {
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(QueueError { count: jobs.len(), source: "secret internals of the queue".into() });
        }
        if self.silent.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        self.waiting.jobs.lock().unwrap().extend(jobs);
        if !self.idle.load(Ordering::Relaxed) {
            tokio::spawn(work_off(self.works_with.get().unwrap().clone(), Arc::clone(&self.waiting)));
        }
        Ok(())
    }

    async fn about(&self, subjects: &[Uuid]) -> Result<Vec<QueuedJob>, LookError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(LookError("secret internals of the queue".into()));
        }
        let jobs = self.waiting.jobs.lock().unwrap();
        let ours = jobs.iter().filter(|job| subjects.contains(&job.subject()));
        let queued = |job: &NewJob| QueuedJob {
            kind: job.kind().to_owned(),
            subject: job.subject(),
            pool: job.pool(),
            is_running: false,
            due: job.due(),
            attempts: 0,
            max_attempts: job.max_attempts(),
            error: None,
        };
        Ok(ours.map(queued).collect())
    }
}

impl Line {
    /// What waits.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.waiting.jobs.lock().unwrap().iter().map(NewJob::kind).collect()
    }

    /// Works until nothing is left, whenever it is due.
    pub async fn drain(&self) {
        work_off(self.works_with.get().unwrap().clone(), Arc::clone(&self.waiting)).await;
    }
}

async fn work_off(ctx: Context, waiting: Arc<Waiting>) {
    let _alone = waiting.working.lock().await;
    loop {
        let jobs = std::mem::take(&mut *waiting.jobs.lock().unwrap());
        if jobs.is_empty() {
            return;
        }
        for job in jobs {
            let delivery = Delivery {
                kind: job.kind().to_owned(),
                subject: job.subject(),
                payload: job.payload().to_owned(),
                attempt: 1,
                max_attempts: job.max_attempts(),
                due: job.due(),
            };
            let verdict = job::perform(&ctx, &delivery).await;
            assert!(matches!(verdict, Verdict::Finished(_)), "{}: {verdict:?}", job.kind());
        }
    }
}

/// A door with everything behind it.
pub struct World {
    pub ctx: Context,
    pub clock: Arc<HandClock>,
    pub shelf: Arc<Shelf>,
    pub line: Arc<Line>,
    /// The queue that operators look at. Nobody works on it.
    pub engine: Arc<dyn Engine>,
    pub recorder: PrometheusRecorder,
    pub app: Router,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Limits::default(), Settings::default()).await
    }

    pub async fn with(limits: Limits, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("ledger.db")).await.unwrap();
        let clock = Arc::new(HandClock(AtomicI64::new(1_700_000_000_000)));
        let (shelf, line) = (Arc::new(Shelf::default()), Arc::new(Line::default()));
        let ctx = Context { db, bucket: shelf.clone(), queue: line.clone(), clock: clock.clone(), limits };
        line.works_with.set(ctx.clone()).ok().unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        let engine: Arc<dyn Engine> = Arc::new(SqlQueue::new(ctx.db.clone(), clock.clone()));
        let operations = operations(&ctx, &engine, &recorder);
        let app = router(Http::new(ctx.clone(), settings, operations), Router::new());
        Self { ctx, clock, shelf, line, engine, recorder, app, _folder: folder }
    }

    /// What another door onto this world needs.
    pub fn operations(&self) -> Operations {
        operations(&self.ctx, &self.engine, &self.recorder)
    }

    /// Lets jobs stay in the queue.
    pub fn idle(&self) {
        self.line.idle.store(true, Ordering::Relaxed);
    }

    pub async fn org(&self, name: &str) -> Uuid {
        orgs::create(&self.ctx.db, name.to_owned(), self.ctx.now()).await.unwrap().id
    }

    pub async fn key(&self, org: Uuid, scopes: &[Scope]) -> Token {
        let token = Token::random();
        let key = ApiKey {
            key: token.key.clone(),
            org_id: org,
            user_id: Uuid::now_v7(),
            name: "test".to_owned(),
            scopes: Scopes::of(scopes),
            secret_hash: token.secret_hash(),
            created_at: self.ctx.now(),
            expires_at: None,
            revoked_at: None,
        };
        api_keys::insert(&self.ctx.db, key).await.unwrap();
        token
    }

    /// A first org, and a client of it that may do everything.
    pub async fn client(&self) -> Client<'_> {
        let org = self.org(&Uuid::now_v7().to_string()).await;
        Client { token: Some(self.key(org, Scope::ALL).await), world: self }
    }

    /// A client without a key.
    pub fn nobody(&self) -> Client<'_> {
        Client { token: None, world: self }
    }

    /// What comes back, having held it against the document.
    pub async fn send(&self, request: Request<Body>) -> Reply {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let reply = Reply { status: head.status, headers: head.headers, text, body };
        document::hold(&method, &path, &reply);
        reply
    }
}

fn operations(ctx: &Context, engine: &Arc<dyn Engine>, recorder: &PrometheusRecorder) -> Operations {
    let engines = Engines { ledger: "sqlite", queue: "sql", bucket: "local", inbox: "none" };
    let setup = Setup { engines, schedules: vec!["fold_reports".to_owned()] };
    let desk = Desk::new(Arc::clone(engine), Pauses::new(ctx.db.clone()), setup);
    Operations { metrics: recorder.handle(), more_checks: Vec::new(), readings: Vec::new(), desk }
}

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
