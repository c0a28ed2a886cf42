//! What operators read and move beyond the ledger, and what is kept of slow answers so that asking often costs little.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_jobs::ledger::kept::Kept;
use longshore_jobs::ledger::totals::{self, Ended, OpenOf};
use longshore_jobs::ledger::{Db, LedgerError};
use serde::Serialize;
use tokio::sync::Mutex;
use utoipa::ToSchema;

use super::overview::OverviewEntry;
use crate::queue::engine::Engine;
use crate::queue::pauses::Pauses;

/// How long an overview is good for.
const FRESH: Duration = Duration::from_secs(1);

/// What the operators' API needs of this process.
pub struct Desk {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) pauses: Pauses,
    pub(super) setup: Setup,
    overview: Mutex<Option<(Instant, OverviewEntry)>>,
    ended: Kept<Ended>,
    open_by_org: Kept<Arc<[OpenOf]>>,
}

/// What the process was set up with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What it is built on.
    pub engines: Engines,
    /// The kinds of jobs that are on a schedule.
    pub schedules: Vec<String>,
}

/// What the service is built on.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct Engines {
    /// `sqlite` or `postgres`.
    pub ledger: &'static str,
    /// `sql` or `redis`.
    pub queue: &'static str,
    /// `local` or `s3`.
    pub bucket: &'static str,
    /// `local`, `sqs`, `webhook` or `none`.
    pub inbox: &'static str,
}

impl Desk {
    /// A desk at this queue.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>, pauses: Pauses, setup: Setup) -> Self {
        let (ended, open_by_org) = (Kept::default(), Kept::default());
        Self { engine, pauses, setup, overview: Mutex::default(), ended, open_by_org }
    }

    /// The last overview while it is fresh, else what is read now. One reads at a time; the others wait for what it finds.
    pub(super) async fn overview<E>(
        &self,
        read: impl Future<Output = Result<OverviewEntry, E>>,
    ) -> Result<OverviewEntry, E> {
        let mut last = self.overview.lock().await;
        if let Some((at, overview)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            tracing::trace!(age = ?at.elapsed(), "the last overview");
            return Ok(overview.clone());
        }
        let overview = read.await?;
        *last = Some((Instant::now(), overview.clone()));
        Ok(overview)
    }

    /// For who has just changed what it shows.
    pub(super) async fn forget_overview(&self) {
        *self.overview.lock().await = None;
    }

    /// How many uploads have come to which end; of many, the last count.
    pub(super) async fn ended(&self, db: &Db) -> Result<Ended, LedgerError> {
        let db = db.clone();
        self.ended.or_count(Ended::counted, async move { totals::ended(&db).await }).await
    }

    /// The open uploads of each org; of many, the last count.
    pub(super) async fn open_by_org(&self, db: &Db) -> Result<Arc<[OpenOf]>, LedgerError> {
        let db = db.clone();
        let rows = |open: &Arc<[OpenOf]>| open.iter().map(|open| open.count.unsigned_abs()).sum();
        self.open_by_org.or_count(rows, async move { Ok(totals::open_by_org(&db).await?.into()) }).await
    }
}
