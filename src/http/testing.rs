//! What the tests of the door use in place of a bucket, a queue and a clock: small things that hold state.

mod client;
pub mod document;
mod line;
mod shelf;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use longshore_jobs::job::{Context, Limits};
use longshore_jobs::ledger::{Db, api_keys, orgs};
use longshore_jobs::model::Timestamp;
use longshore_jobs::model::org::{ApiKey, Scope, Scopes, Token};
use longshore_jobs::outside::Clock;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use serde_json::Value;
use tower::ServiceExt as _;
use uuid::Uuid;

pub use self::client::{Client, Reply, form_of};
pub use self::line::Line;
pub use self::shelf::Shelf;
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
