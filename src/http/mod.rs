//! The HTTP door: writes a row, puts a job on, and answers.
//!
//! # Layout
//!
//! - [`uploads`], [`files`], [`batches`]: the API; [`admin`]: what operators see and do; [`notices`]: events pushed by an S3 server;
//!   [`operations`] and [`gauges`]: probes and metrics; [`page`]: the upload page; [`console`]: the operator's; [`openapi`]: the API
//!   described by itself, and how to document a route.
//! - `observe`: what every request gets; `auth`: who calls; `asked` and `body`: what they ask for; `waiting`: how an answer
//!   waits for a worker; `answer` and [`errors`]: the envelope.

pub mod admin;
mod answer;
mod asked;
mod auth;
mod batches;
mod body;
mod console;
pub mod errors;
mod files;
mod folds;
pub mod gauges;
mod idempotency;
mod linger;
pub mod notices;
mod observe;
pub mod openapi;
pub mod operations;
mod page;
mod paging;
mod policy;
mod push;
mod rows;
mod uploads;
mod waiting;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn;
use http::HeaderValue;
use longshore_jobs::job::Context;
use metrics_exporter_prometheus::PrometheusHandle;
use utoipa_axum::router::OpenApiRouter;

use self::admin::desk::Desk;
use self::errors::ApiError;
use self::gauges::{Gauges, Reading};
use self::notices::WebhookSecret;
use self::operations::Check;

/// What the door needs to answer.
pub struct Http {
    ctx: Context,
    settings: Settings,
    keys: auth::Keys,
    checks: Vec<Check>,
    metrics: PrometheusHandle,
    gauges: Gauges,
    desk: Desk,
    page_policy: HeaderValue,
    /// The document, made when it is first asked for.
    document: OnceLock<Bytes>,
}

/// What those who run the service look at and turn.
pub struct Operations {
    /// Where the metrics are recorded.
    pub metrics: PrometheusHandle,
    /// Shown by `/readyz` beside those of the ledger and the bucket.
    pub more_checks: Vec<Check>,
    /// Set gauges before a scrape, beside those of the ledger.
    pub readings: Vec<Reading>,
    /// For `/api/admin`.
    pub desk: Desk,
}

/// How long, how much, and from whom.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an answer waits for a policy when the client does not say.
    pub wait: Duration,
    /// How long the answer to posted files waits for the pipeline.
    pub files_wait: Duration,
    /// The largest body that is not a file, in bytes.
    pub max_body: usize,
    /// What senders of notices have to show; `None`: notices do not come over HTTP.
    pub webhook_secret: Option<WebhookSecret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(2),
            files_wait: Duration::from_secs(30),
            max_body: 1 << 20,
            webhook_secret: None,
        }
    }
}

impl Http {
    /// A door onto the pipeline.
    #[must_use]
    pub fn new(ctx: Context, settings: Settings, operations: Operations) -> Arc<Self> {
        let Operations { metrics, more_checks, readings, desk } = operations;
        let mut checks = operations::standard_checks(&ctx);
        checks.extend(more_checks);
        let page_policy = page::content_security_policy(&ctx.bucket.address().url);
        let (keys, gauges) = (auth::Keys::default(), Gauges::new(&ctx, readings));
        Arc::new(Self { ctx, settings, keys, checks, metrics, gauges, desk, page_policy, document: OnceLock::new() })
    }

    /// Reads the gauges before anybody asks for them: the first time may take longer than a scrape waits.
    pub async fn warm_up(&self) {
        self.gauges.freshen().await;
    }
}

/// Every route of the service, and those beside it that get the same request id, span, panic guard and metrics: the local
/// bucket's.
pub fn router(state: Arc<Http>, beside: Router) -> Router {
    let mut routes = documented();
    if state.settings.webhook_secret.is_some() {
        routes = routes.merge(notices::routes());
    }
    let routes = Router::from(routes).merge(page::routes()).merge(console::routes()).merge(openapi::routes());
    finish(routes, state, beside)
}

/// The routes that are in the document, but for that of notices: it is not always there.
fn documented() -> OpenApiRouter<Arc<Http>> {
    OpenApiRouter::default()
        .merge(operations::routes())
        .merge(uploads::routes())
        .merge(files::routes())
        .merge(batches::routes())
        .merge(admin::routes())
}

/// Shows every request that the API knows at zero. To be called once the recorder stands.
pub fn start_at_zero() {
    openapi::for_each_answer(observe::start_at_zero);
}

/// Metrics and probes and nothing else, for an address of its own.
pub fn metrics_router(state: Arc<Http>) -> Router {
    finish(operations::routes().into(), state, Router::new())
}

fn finish(routes: Router<Arc<Http>>, state: Arc<Http>, beside: Router) -> Router {
    routes
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(state.settings.max_body))
        .with_state(state)
        .merge(beside)
        .layer(from_fn(observe::observe))
}
