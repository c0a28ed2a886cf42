//! Everything at a glance, as cheap as a scrape: it counts nothing that the metrics do not keep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use futures_util::future::join_all;
use longshore_jobs::ledger::failures::{self, Cause};
use longshore_jobs::ledger::page::COUNT_CAP;
use longshore_jobs::ledger::sweeps::Sum;
use longshore_jobs::ledger::totals::Ended;
use longshore_jobs::ledger::uploads::Open;
use longshore_jobs::ledger::{Db, LedgerError, dead_letters, reports, schedules, sweeps, uploads};
use longshore_jobs::model::{Status, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::Http;
use super::super::answer::GOT;
use super::super::errors::ApiError;
use super::super::openapi::shapes;
use super::super::operations::{Check, Outcome};
use super::desk::Engines;
use super::pools::{self, PoolEntry};
use super::{Operator, seconds};

/// What has failed since then counts as failing.
const LATELY: Duration = Duration::from_secs(900);
/// How many failed jobs are looked at, the last ones.
const LOOKED_AT: i64 = 1_000;
/// How many causes are told.
const CAUSES: usize = 5;

/// How everything is.
#[derive(Serialize, ToSchema)]
pub struct OverviewAnswer {
    message: &'static str,
    overview: [OverviewEntry; 1],
}

/// How everything is, about a second ago at most.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OverviewEntry {
    #[schema(value_type = shapes::Timestamp)]
    as_of: Timestamp,
    version: &'static str,
    engines: Engines,
    pools: Vec<PoolEntry>,
    uploads: OpenEntries,
    ended: EndedEntry,
    /// Those of `ended` of which there are more than it says.
    ended_capped: Vec<&'static str>,
    dead_letters: i64,
    report: ReportAge,
    /// How each check of `/readyz` goes.
    #[schema(value_type = BTreeMap<String, Outcome>)]
    checks: BTreeMap<&'static str, Outcome>,
    schedules: Vec<ScheduleEntry>,
    /// What most jobs have failed of in the last 15 minutes, at most five causes; of very many jobs, the last thousand are looked at.
    failing: Vec<FailingEntry>,
    /// What the last look through the bucket has found.
    sweep: Vec<SweepEntry>,
}

/// Uploads that have not ended, by state. Of very many it is the last count, half a minute old at most.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct OpenEntries {
    requested: OpenEntry,
    issued: OpenEntry,
    arrived: OpenEntry,
    verified: OpenEntry,
}

/// The uploads in one state.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OpenEntry {
    count: i64,
    /// How long ago the oldest of them was asked for; null when there is none.
    #[schema(required)]
    oldest_age_seconds: Option<f64>,
}

/// Uploads by how they ended.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct EndedEntry {
    /// The files that there are.
    done: i64,
    /// Counted to 100,000, as are the others.
    rejected: i64,
    expired: i64,
    cancelled: i64,
}

/// How far behind the reports are.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReportAge {
    /// How long ago the oldest change was made that no report has yet; null when there is none.
    #[schema(required)]
    oldest_delta_age_seconds: Option<f64>,
}

/// What jobs of one kind fail of.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FailingEntry {
    #[schema(example = "verify_upload")]
    kind: String,
    /// That of the last one; the others differ in ids and paths at most.
    error: String,
    /// How many jobs.
    jobs: i64,
    /// When the last one failed.
    #[schema(value_type = shapes::Timestamp)]
    last_at: Timestamp,
    /// What the last one was about: an upload, a batch, an org; null when it was about everything.
    #[schema(required)]
    example: Option<Uuid>,
}

/// A job that is on a schedule.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ScheduleEntry {
    #[schema(example = "fold_reports")]
    kind: String,
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    last_tick_at: Option<Timestamp>,
}

/// What ledger and bucket do not agree about.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepEntry {
    /// `staging` and `blob`: objects that no row needs. `row`: rows without an object.
    kind: String,
    orphans: i64,
    #[schema(required)]
    bytes: Option<i64>,
    #[schema(value_type = shapes::Timestamp)]
    as_of: Timestamp,
}

/// See how everything is.
///
/// Read about once a second at most, however many ask. Scope `admin`.
#[utoipa::path(get, path = "/api/admin/overview", tag = "Admin", operation_id = "getOverview",
    responses((status = 200, description = "How everything is", body = OverviewAnswer)))]
pub async fn overview(_: Operator, State(http): State<Arc<Http>>) -> Result<Json<OverviewAnswer>, ApiError> {
    let entry = http.desk.overview(Box::pin(read(&http))).await?;
    Ok(Json(OverviewAnswer { message: GOT, overview: [entry] }))
}

async fn read(http: &Http) -> Result<OverviewEntry, ApiError> {
    let (db, desk) = (&http.ctx.db, &http.desk);
    let ledger = async {
        let (open, ended, ticks, oldest, sweep) = tokio::try_join!(
            uploads::open(db),
            desk.ended(db),
            schedules::last_ticks(db),
            reports::oldest_delta(db),
            sweep_findings(db)
        )?;
        let dead = dead_letters::count_by_pool(db).await?;
        let failing = failing(db, http.ctx.now() - LATELY).await?;
        Ok::<_, ApiError>((open, ended, ticks, oldest, sweep, (dead, failing)))
    };
    let checks = async { Ok(join_all(http.checks.iter().map(Check::run)).await) };
    let (ledger, checks, pools) = tokio::try_join!(ledger, checks, pools::entries(http))?;
    let ((open, ended, ticks, oldest, sweep, (dead, failing)), now) = (ledger, http.ctx.now());
    Ok(OverviewEntry {
        as_of: now,
        version: env!("CARGO_PKG_VERSION"),
        engines: desk.setup.engines,
        pools,
        uploads: open_entries(&open, now),
        ended: ended_entry(&ended),
        ended_capped: capped(&ended),
        dead_letters: dead.iter().map(|(_, count)| count).sum(),
        report: ReportAge { oldest_delta_age_seconds: oldest.map(|oldest| seconds(now.since(oldest))) },
        checks: http.checks.iter().map(Check::name).zip(checks.into_iter().map(Outcome::of)).collect(),
        schedules: schedule_entries(&desk.setup.schedules, ticks),
        failing,
        sweep,
    })
}

async fn failing(db: &Db, since: Timestamp) -> Result<Vec<FailingEntry>, LedgerError> {
    let causes = failures::causes_of_living(db, since, LOOKED_AT).await?;
    Ok(causes.into_iter().take(CAUSES).map(FailingEntry::from).collect())
}

impl From<Cause> for FailingEntry {
    fn from(Cause { kind, jobs, last_at, error, example, .. }: Cause) -> Self {
        Self { kind, error, jobs, last_at, example: Some(example).filter(|example| !example.is_nil()) }
    }
}

fn open_entries(open: &[Open], now: Timestamp) -> OpenEntries {
    let of = |status| {
        let row = open.iter().find(|row| row.status == status);
        let oldest_age_seconds = row.map(|row| seconds(now.since(row.oldest)));
        OpenEntry { count: row.map_or(0, |row| row.count), oldest_age_seconds }
    };
    OpenEntries {
        requested: of(Status::Requested),
        issued: of(Status::Issued),
        arrived: of(Status::Arrived),
        verified: of(Status::Verified),
    }
}

fn ended_entry(ended: &Ended) -> EndedEntry {
    EndedEntry {
        done: ended.done,
        rejected: ended.rejected.min(COUNT_CAP),
        expired: ended.expired.min(COUNT_CAP),
        cancelled: ended.cancelled.min(COUNT_CAP),
    }
}

fn capped(ended: &Ended) -> Vec<&'static str> {
    let beyond = |count: i64| count > COUNT_CAP;
    let counts = [
        (Status::Done, ended.done_capped),
        (Status::Rejected, beyond(ended.rejected)),
        (Status::Expired, beyond(ended.expired)),
        (Status::Cancelled, beyond(ended.cancelled)),
    ];
    counts.into_iter().filter(|(_, beyond)| *beyond).map(|(status, _)| status.as_str()).collect()
}

/// Those that are set up, and those that have ever ticked.
fn schedule_entries(set_up: &[String], ticks: Vec<(String, Timestamp)>) -> Vec<ScheduleEntry> {
    let mut last: BTreeMap<String, Option<Timestamp>> = set_up.iter().map(|kind| (kind.clone(), None)).collect();
    last.extend(ticks.into_iter().map(|(kind, at)| (kind, Some(at))));
    last.into_iter().map(|(kind, last_tick_at)| ScheduleEntry { kind, last_tick_at }).collect()
}

/// What the last sweeps have found.
async fn sweep_findings(db: &Db) -> Result<Vec<SweepEntry>, LedgerError> {
    let entry = |sum: Sum| SweepEntry {
        kind: sum.kind.to_string(),
        orphans: sum.orphans,
        bytes: Some(sum.bytes),
        as_of: sum.as_of,
    };
    Ok(sweeps::sums(db).await?.into_iter().map(entry).collect())
}
