//! The processes that work pools.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use longshore_jobs::job::Pool;
use longshore_jobs::ledger::workers::{self, Worker};
use longshore_jobs::model::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::Http;
use super::super::answer::GOT;
use super::super::errors::ApiError;
use super::super::openapi::shapes;
use super::Operator;

/// Processes, the longest there first.
#[derive(Serialize, ToSchema)]
pub struct WorkersAnswer {
    message: &'static str,
    workers: Vec<WorkerEntry>,
}

/// A process that works pools. It is seen every ten seconds; one that died is shown for an hour.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WorkerEntry {
    /// New at every start: machine, process and something random.
    name: String,
    version: String,
    #[schema(value_type = shapes::Timestamp)]
    started_at: Timestamp,
    #[schema(value_type = shapes::Timestamp)]
    seen_at: Timestamp,
    pools: Vec<ShareEntry>,
}

/// What a process did in one pool when it was last seen.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ShareEntry {
    #[schema(value_type = shapes::Pool)]
    pool: Pool,
    /// Jobs that it may run at once.
    concurrency: u64,
    /// Jobs that it ran.
    running: u64,
    /// Runs that ended in a second, on average over ten.
    per_second: f64,
}

impl From<Worker> for WorkerEntry {
    fn from(worker: Worker) -> Self {
        let Worker { name, version, started_at, seen_at, pools } = worker;
        let entry = |(pool, share): (Pool, workers::Share)| ShareEntry {
            pool,
            concurrency: share.concurrency,
            running: share.running,
            per_second: share.per_second,
        };
        Self { name, version, started_at, seen_at, pools: pools.into_iter().map(entry).collect() }
    }
}

/// See who works.
///
/// Scope `admin`.
#[utoipa::path(get, path = "/api/admin/workers", tag = "Admin", operation_id = "listWorkers",
    responses((status = 200, description = "Every process that works", body = WorkersAnswer)))]
pub async fn list(_: Operator, State(http): State<Arc<Http>>) -> Result<Json<WorkersAnswer>, ApiError> {
    let workers = workers::list(&http.ctx.db).await?.into_iter().map(WorkerEntry::from).collect();
    Ok(Json(WorkersAnswer { message: GOT, workers }))
}
