//! For those who run it: whether it lives, whether it is ready, and its metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderValue, StatusCode, header};
use longshore_jobs::job::{Context, with_causes};
use longshore_jobs::ledger::inspect;
use longshore_jobs::outside::BoxError;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Http;
use crate::metrics;

/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the outcome of a check that writes stands.
const STANDS: Duration = Duration::from_secs(10);
/// A key that need not exist: asking for it shows whether the bucket answers.
const PROBE_KEY: &str = "staging/readyz";

/// `/livez`, `/readyz` and `/metrics`.
pub fn routes() -> OpenApiRouter<Arc<Http>> {
    OpenApiRouter::default().routes(routes!(livez)).routes(routes!(readyz)).routes(routes!(render_metrics))
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

    /// As [`Check::helpful`], for a probe that costs something: its outcome stands for ten seconds, whoever asks.
    pub fn sparing<F, R>(name: &'static str, probe: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let (probe, last) = (Arc::new(probe), Arc::new(Mutex::new(None::<(Instant, Result<(), String>)>)));
        Self::helpful(name, move || {
            let (probe, last) = (Arc::clone(&probe), Arc::clone(&last));
            async move {
                let mut last = last.lock().await;
                let kept = last.take().filter(|(at, _)| at.elapsed() < STANDS);
                let (at, outcome) = match kept {
                    Some(kept) => kept,
                    None => (Instant::now(), probe().await.map_err(|error| with_causes(&*error))),
                };
                *last = Some((at, outcome.clone()));
                Ok(outcome?)
            }
        })
    }

    /// What it is called.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether all is well.
    pub async fn run(&self) -> bool {
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
    let db = ctx.db.clone();
    let writes = Check::sparing("writes", move || {
        let db = db.clone();
        async move { Ok(inspect::touch(&db).await?) }
    });
    vec![ledger, writes, bucket]
}

/// Whether the process lives; it says nothing about what it leans on.
#[derive(Serialize, ToSchema)]
struct Life {
    status: Health,
}

/// Whether the service can answer, check by check.
#[derive(Serialize, ToSchema)]
struct Readiness {
    status: Health,
    checks: BTreeMap<&'static str, Outcome>,
}

/// `degraded`: requests are answered, but some work has to wait. `down`: nothing can be answered.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Health {
    Ok,
    Degraded,
    Down,
}

/// How a check went.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    Failed,
}

impl Outcome {
    /// Of a check that has run.
    pub const fn of(passed: bool) -> Self {
        if passed { Self::Ok } else { Self::Failed }
    }
}

/// Is the process alive?
///
/// Asks nothing that it leans on.
#[utoipa::path(get, path = "/livez", tag = "Operations", operation_id = "livez", security(()),
    responses((status = 200, description = "It is", body = Life)))]
async fn livez() -> Json<Life> {
    Json(Life { status: Health::Ok })
}

/// Can the service answer?
///
/// Runs each check. Without the bucket or its notices it is degraded, and work waits; so it is while the ledger or the disk of the
/// bucket takes no writes, which is tried every ten seconds at most. Without the ledger it is down.
#[utoipa::path(get, path = "/readyz", tag = "Operations", operation_id = "readyz", security(()),
    responses(
        (status = 200, description = "It can, perhaps degraded", body = Readiness),
        (status = 503, description = "It cannot", body = Readiness)))]
async fn readyz(State(http): State<Arc<Http>>) -> Response {
    let passed = join_all(http.checks.iter().map(Check::run)).await;
    let failed = |(check, passed): (&Check, &bool)| (!passed).then_some(check.vital);
    let failures: Vec<bool> = http.checks.iter().zip(&passed).filter_map(failed).collect();
    let (code, status) = match failures.iter().max() {
        None => (StatusCode::OK, Health::Ok),
        Some(false) => (StatusCode::OK, Health::Degraded),
        Some(true) => (StatusCode::SERVICE_UNAVAILABLE, Health::Down),
    };
    let checks = http.checks.iter().zip(passed).map(|(check, passed)| (check.name, Outcome::of(passed))).collect();
    (code, Json(Readiness { status, checks })).into_response()
}

/// Figures for Prometheus.
///
/// Counts of things are read from ledger and queue, at most once a second. An answer waits but a moment for them: what takes
/// longer goes on behind it, and `longshore_reading_age_seconds` tells how old the figures are that it shows.
#[utoipa::path(get, path = "/metrics", tag = "Operations", operation_id = "metrics", security(()),
    responses((status = 200, description = "In Prometheus' text format", body = String, content_type = "text/plain")))]
async fn render_metrics(State(http): State<Arc<Http>>) -> Response {
    http.gauges.freshen().await;
    let media_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, media_type)], metrics::render(&http.metrics)).into_response()
}
