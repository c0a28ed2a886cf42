//! Pools: what waits and runs in each, pause and resume.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use longshore_jobs::job::{Lane, Pool, with_causes};
use longshore_jobs::ledger::{dead_letters, pools, workers};
use longshore_jobs::model::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::Http;
use super::super::answer::{GOT, POSTED};
use super::super::errors::ApiError;
use super::super::openapi::{refusals, shapes};
use super::{Name, Operator, params, seconds};
use crate::queue::engine::Depth;

/// Pools, in the order of the way of an upload.
#[derive(Serialize, ToSchema)]
pub struct PoolsAnswer {
    message: &'static str,
    pools: Vec<PoolEntry>,
}

/// A group of workers that can be paused together, and its jobs.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolEntry {
    #[schema(value_type = shapes::Pool)]
    pool: Pool,
    /// Whether it starts no more jobs, in every process.
    paused: bool,
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    paused_at: Option<Timestamp>,
    /// Jobs that wait, due or not; null while the queue cannot be reached, like `due`, `running` and `oldestAgeSeconds`. Of very
    /// many it is the last count, half a minute old at most; so are `due` and `running`.
    #[schema(required)]
    waiting: Option<u64>,
    /// Of those, the ones that are due.
    #[schema(required)]
    due: Option<u64>,
    /// Jobs that a worker holds.
    #[schema(required)]
    running: Option<u64>,
    /// Dead letters.
    dead: i64,
    /// For how long the oldest of the due has been due; 0 when none is.
    #[schema(required)]
    oldest_age_seconds: Option<f64>,
    /// Runs that ended in a second, on average over ten; null when nobody works it.
    #[schema(required)]
    per_second: Option<f64>,
    /// Processes that work it, and were seen within the last 30 seconds.
    workers: u64,
}

/// Every pool. Flags and letters are in the ledger: a queue that is away leaves out its own figures alone.
pub async fn entries(http: &Http) -> Result<Vec<PoolEntry>, ApiError> {
    let db = &http.ctx.db;
    let depths = async { Ok(depths(http).await) };
    let flags = async { pools::paused(db).await.map_err(ApiError::from) };
    let dead = async { dead_letters::count_by_pool(db).await.map_err(ApiError::from) };
    let staffs = async { workers::by_pool(db, http.ctx.now()).await.map_err(ApiError::from) };
    let (depths, flags, dead, staffs) = tokio::try_join!(depths, flags, dead, staffs)?;
    let flags: BTreeMap<Pool, Timestamp> = flags.into_iter().collect();
    let dead: BTreeMap<Pool, i64> = dead.into_iter().collect();
    let entry = |&pool: &Pool| {
        let depth = depths.as_deref().map(|depths| depth_of(depths, pool));
        let paused_at = flags.get(&pool).copied();
        PoolEntry {
            pool,
            paused: paused_at.is_some(),
            paused_at,
            waiting: depth.map(|depth| depth.waiting),
            due: depth.map(|depth| depth.due),
            running: depth.map(|depth| depth.running),
            dead: dead.get(&pool).copied().unwrap_or(0),
            oldest_age_seconds: depth.map(|depth| seconds(depth.oldest_age)),
            per_second: staffs.get(&pool).map(|staff| staff.share.per_second),
            workers: staffs.get(&pool).map_or(0, |staff| staff.workers),
        }
    };
    Ok(Pool::ALL.iter().map(entry).collect())
}

async fn depths(http: &Http) -> Option<Vec<Depth>> {
    let read = http.desk.engine.depths().await;
    read.inspect_err(|error| tracing::warn!(error = with_causes(error), "the queue could not be looked at")).ok()
}

/// Of both lanes.
fn depth_of(depths: &[Depth], pool: Pool) -> Depth {
    let none = Depth { pool, lane: Lane::Bulk, waiting: 0, due: 0, running: 0, oldest_age: Duration::ZERO };
    depths.iter().filter(|depth| depth.pool == pool).fold(none, |sum, depth| Depth {
        waiting: sum.waiting + depth.waiting,
        due: sum.due + depth.due,
        running: sum.running + depth.running,
        oldest_age: sum.oldest_age.max(depth.oldest_age),
        ..sum
    })
}

/// See every pool.
///
/// Scope `admin`.
#[utoipa::path(get, path = "/api/admin/pools", tag = "Admin", operation_id = "listPools",
    responses((status = 200, description = "Every pool", body = PoolsAnswer)))]
pub async fn list(_: Operator, State(http): State<Arc<Http>>) -> Result<Json<PoolsAnswer>, ApiError> {
    Ok(Json(PoolsAnswer { message: GOT, pools: entries(&http).await? }))
}

/// Pause a pool.
///
/// It starts no more jobs, in every process, until it is resumed; what runs goes on. To pause it again changes nothing. Scope
/// `admin`.
#[utoipa::path(post, path = "/api/admin/pools/{pool}/pause", tag = "Admin", operation_id = "pausePool", params(params::Pool),
    responses((status = 200, description = "The pool", body = PoolsAnswer), refusals::OneOfAdmin))]
pub async fn pause(
    operator: Operator,
    State(http): State<Arc<Http>>,
    name: Name,
) -> Result<Json<PoolsAnswer>, ApiError> {
    set_paused(&http, &operator, name, true).await
}

/// Resume a pool.
///
/// To resume one that is not paused changes nothing. Scope `admin`.
#[utoipa::path(post, path = "/api/admin/pools/{pool}/resume", tag = "Admin", operation_id = "resumePool", params(params::Pool),
    responses((status = 200, description = "The pool", body = PoolsAnswer), refusals::OneOfAdmin))]
pub async fn resume(
    operator: Operator,
    State(http): State<Arc<Http>>,
    name: Name,
) -> Result<Json<PoolsAnswer>, ApiError> {
    set_paused(&http, &operator, name, false).await
}

async fn set_paused(http: &Http, operator: &Operator, name: Name, paused: bool) -> Result<Json<PoolsAnswer>, ApiError> {
    let pool: Option<Pool> = name.0.and_then(|name| name.parse().ok());
    let pool = pool.ok_or(ApiError::NoSuch("pool"))?;
    if http.desk.pauses.set(pool, paused, http.ctx.now()).await? {
        tracing::info!(by = operator.key(), %pool, paused, "an operator has paused a pool or let it go on");
    }
    http.desk.forget_overview().await;
    let mut pools = entries(http).await?;
    pools.retain(|entry| entry.pool == pool);
    Ok(Json(PoolsAnswer { message: POSTED, pools }))
}
