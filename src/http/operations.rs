//! For those who run it: whether it lives, whether it is ready, and its metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderValue, StatusCode, header};
use longshore_jobs::job::{Context, with_causes};
use longshore_jobs::ledger::{LedgerError, reports, uploads};
use longshore_jobs::model::Status;
use longshore_jobs::outside::BoxError;
use serde_json::{Map, Value, json};

use super::Http;

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long gauges read from the ledger are good for.
const FRESH: Duration = Duration::from_secs(1);
/// A key that need not exist: asking for it shows whether the bucket answers.
const PROBE_KEY: &str = "staging/readyz";

const OPEN: [Status; 4] = [Status::Requested, Status::Issued, Status::Arrived, Status::Verified];

/// `/livez`, `/readyz` and `/metrics`.
pub fn routes() -> Router<Arc<Http>> {
    Router::new().route("/livez", get(livez)).route("/readyz", get(readyz)).route("/metrics", get(render_metrics))
}

/// Something that `/readyz` looks at.
pub struct Check {
    name: &'static str,
    vital: bool,
    probe: Probe,
}

/// Something to be asked now and then.
pub type Probe = Box<dyn Fn() -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

impl Check {
    /// A check without which nothing can be answered: `/readyz` is 503 when it fails.
    pub fn vital<F, R>(name: &'static str, probe: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self { name, vital: true, probe: Box::new(move || Box::pin(probe())) }
    }

    /// A check of something that work can wait for: the service is degraded, not down, when it fails.
    pub fn helpful<F, R>(name: &'static str, probe: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        Self { vital: false, ..Self::vital(name, probe) }
    }

    async fn run(&self) -> bool {
        let error = match tokio::time::timeout(PATIENCE, (self.probe)()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => with_causes(&*error),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        tracing::warn!(check = self.name, error, "not ready");
        false
    }
}

/// The checks of what every [`Context`] has.
pub fn standard_checks(ctx: &Context) -> Vec<Check> {
    let (db, bucket) = (ctx.db.clone(), Arc::clone(&ctx.bucket));
    let ledger = Check::vital("ledger", move || {
        let db = db.clone();
        async move { Ok(db.ping().await?) }
    });
    let bucket = Check::helpful("bucket", move || {
        let bucket = Arc::clone(&bucket);
        async move { Ok(bucket.head(PROBE_KEY).await.map(drop)?) }
    });
    vec![ledger, bucket]
}

async fn livez() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

async fn readyz(State(http): State<Arc<Http>>) -> Response {
    let passed = join_all(http.checks.iter().map(Check::run)).await;
    let failed = |(check, passed): (&Check, &bool)| (!passed).then_some(check.vital);
    let failures: Vec<bool> = http.checks.iter().zip(&passed).filter_map(failed).collect();
    let (code, status) = match failures.iter().max() {
        None => (StatusCode::OK, "ok"),
        Some(false) => (StatusCode::OK, "degraded"),
        Some(true) => (StatusCode::SERVICE_UNAVAILABLE, "down"),
    };
    let word = |passed: bool| json!(if passed { "ok" } else { "failed" });
    let checks: Map<String, Value> =
        http.checks.iter().zip(passed).map(|(check, passed)| (check.name.to_owned(), word(passed))).collect();
    (code, Json(json!({ "status": status, "checks": checks }))).into_response()
}

async fn render_metrics(State(http): State<Arc<Http>>) -> Response {
    if http.gauges.are_stale() {
        http.gauges.read(&http.ctx).await;
    }
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, media_type)], http.metrics.render()).into_response()
}

/// Sets gauges before a scrape.
pub type Reading = Probe;

/// What sets the gauges, and when it last did.
pub struct Gauges {
    readings: Vec<Reading>,
    last: Mutex<Option<Instant>>,
}

impl Gauges {
    /// With these readings beside those of the ledger.
    pub const fn new(readings: Vec<Reading>) -> Self {
        Self { readings, last: Mutex::new(None) }
    }

    /// Sets every gauge; one that cannot be read keeps its value.
    async fn read(&self, ctx: &Context) {
        if let Err(error) = read_gauges(ctx).await {
            tracing::warn!(error = with_causes(&error), "the gauges could not be read from the ledger");
        }
        for reading in &self.readings {
            if let Err(error) = reading().await {
                tracing::warn!(error = with_causes(&*error), "some gauges could not be read");
            }
        }
    }

    /// Whether they are to be read now; whoever is told so does it, and nobody else for a second.
    fn are_stale(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = last.is_none_or(|at| at.elapsed() >= FRESH);
        if stale {
            *last = Some(Instant::now());
        }
        stale
    }
}

async fn read_gauges(ctx: &Context) -> Result<(), LedgerError> {
    let (open, now) = (uploads::open(&ctx.db).await?, ctx.now());
    for status in OPEN {
        let row = open.iter().find(|row| row.status == status);
        #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 uploads")]
        let count = row.map_or(0, |row| row.count) as f64;
        let age = row.map_or(Duration::ZERO, |row| now.since(row.oldest));
        metrics::gauge!("longshore_uploads_open", "state" => status.as_str()).set(count);
        metrics::gauge!("longshore_upload_oldest_open_age_seconds", "state" => status.as_str()).set(age.as_secs_f64());
    }
    let oldest = reports::oldest_delta(&ctx.db).await?;
    let age = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
    metrics::gauge!("longshore_report_age_seconds").set(age.as_secs_f64());
    Ok(())
}
