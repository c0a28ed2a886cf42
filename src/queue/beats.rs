//! The heartbeat of a worker: keeps its leases alive beside the work, however long a job runs or waits for its turn.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::job::{Pool, with_causes};

use super::engine::{Engine, EngineError, Lease};
use super::holds::Holds;

/// Renews what one worker holds.
pub(super) struct Heart {
    pub(super) pool: Pool,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) holds: Arc<Holds>,
}

impl Heart {
    /// Beats until it is aborted. A beat that fails is made up for by the next: a lease lasts three.
    pub(super) async fn run(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.beat().await {
                tracing::warn!(error = with_causes(&error), pool = %self.pool, "leases were not renewed");
            }
        }
    }

    /// Jobs that have started since the last beat are marked so here, all at once: most are done before and never need it.
    async fn beat(&self) -> Result<(), EngineError> {
        let unmarked = self.holds.unmarked();
        if !unmarked.is_empty() {
            self.holds.mark(&self.engine.mark_started(&unmarked).await?);
        }
        let leases = self.holds.leases();
        if leases.is_empty() {
            return Ok(());
        }
        let held: HashSet<Lease> = self.engine.renew(&leases).await?.into_iter().collect();
        let lost: Vec<Lease> = leases.into_iter().filter(|lease| !held.contains(lease)).collect();
        self.holds.lose(&lost);
        Ok(())
    }
}

/// Takes back what others have lost, until it is aborted.
pub(super) async fn rescue(engine: Arc<dyn Engine>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        match engine.reclaim().await {
            Ok(rescued) => {
                for (pool, jobs) in rescued {
                    tracing::warn!(%pool, jobs, "took back jobs whose lease had run out");
                    metrics::counter!("longshore_jobs_rescued_total", "pool" => pool.as_str()).increment(jobs);
                }
            }
            Err(error) => tracing::warn!(error = with_causes(&error), "lost jobs could not be looked for"),
        }
    }
}
