//! `/api/admin`: what operators see and do, over all orgs. Every route needs the scope `admin`.
//!
//! # Layout
//!
//! - `overview`: everything at a glance; `pools`: what waits and runs, pause and resume
//! - `workers`: the processes that work
//! - `letters`: dead letters, and `decide`: what becomes of them
//! - `orgs`: orgs, reports, rebuilds; `figures`: what there is of one org, for people and for Prometheus
//! - `uploads`: uploads of all orgs; `timeline`: one upload's way; `search`: from a word to the thing
//! - `desk`: what all of this needs beyond the ledger

mod decide;
pub mod desk;
mod figures;
mod letters;
mod orgs;
mod overview;
mod params;
mod pools;
mod search;
mod timeline;
mod uploads;
mod workers;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use longshore_jobs::model::org::Scope;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Http;
use super::auth::Caller;
use super::errors::ApiError;

/// Everything below `/api/admin`.
pub fn routes() -> OpenApiRouter<Arc<Http>> {
    OpenApiRouter::default()
        .routes(routes!(overview::overview))
        .routes(routes!(pools::list))
        .routes(routes!(pools::pause))
        .routes(routes!(pools::resume))
        .routes(routes!(workers::list))
        .routes(routes!(letters::list))
        .routes(routes!(letters::show))
        .routes(routes!(decide::retry))
        .routes(routes!(decide::discard))
        .routes(routes!(orgs::list))
        .routes(routes!(orgs::show))
        .routes(routes!(orgs::report))
        .routes(routes!(orgs::rebuild))
        .routes(routes!(figures::metrics))
        .routes(routes!(uploads::list))
        .routes(routes!(timeline::show))
        .routes(routes!(search::search))
}

/// A caller that may do what operators do; any other is refused before anything is looked at.
struct Operator(Caller);

impl Operator {
    /// By which the log tells who has done something.
    fn key(&self) -> &str {
        self.0.key()
    }
}

impl FromRequestParts<Arc<Http>> for Operator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, http: &Arc<Http>) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, http).await?;
        caller.needs(Scope::Admin)?;
        Ok(Self(caller))
    }
}

/// The name in the path; `None` when it is no text.
struct Name(Option<String>);

impl FromRequestParts<Arc<Http>> for Name {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, http: &Arc<Http>) -> Result<Self, Infallible> {
        let text = Path::<String>::from_request_parts(parts, http).await.ok();
        Ok(Self(text.map(|Path(text)| text)))
    }
}

/// A length of time as answers tell it.
const fn seconds(length: Duration) -> f64 {
    length.as_secs_f64()
}
