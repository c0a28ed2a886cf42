//! Recounts an org's files, measures how far its report has drifted, and mends it.
//!
//! Before: nothing. The difference is read in one snapshot and appended as a delta, so nothing is locked and nothing that is
//! stored meanwhile is counted twice. A second run finds no drift. It ends when the difference is appended and a fold is on.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fold_reports::FoldReports;
use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::{orgs, reports};
use crate::model::report::Delta;

/// Rebuilds one org's report, or puts on a rebuild for each org.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RebuildReports {
    /// The org; `None` for every one.
    pub org: Option<Uuid>,
}

impl Job for RebuildReports {
    const KIND: &'static str = "rebuild_reports";
    const POOL: Pool = Pool::Report;
    /// Counting ten million rows takes a while.
    const TIME_LIMIT: std::time::Duration = std::time::Duration::from_secs(900);

    fn subject(&self) -> Uuid {
        self.org.unwrap_or(Uuid::nil())
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        match self.org {
            Some(org) => rebuild(ctx, org).await,
            None => rebuild_each(ctx).await,
        }
    }
}

async fn rebuild(ctx: &Context, org: Uuid) -> Result<End, JobError> {
    let drift = reports::drift(&ctx.db, org).await?;
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    {
        metrics::gauge!("longshore_report_drift_files").set(drift.files.abs() as f64);
        metrics::gauge!("longshore_report_drift_bytes").set(drift.bytes.abs() as f64);
    }
    if drift != Delta::NONE {
        tracing::warn!(%org, ?drift, "a report had drifted and is mended");
        reports::mend(&ctx.db, org, drift, ctx.now()).await?;
    }
    ctx.push(&FoldReports { org: Some(org) }).await?;
    Ok(End::Done)
}

async fn rebuild_each(ctx: &Context) -> Result<End, JobError> {
    let now = ctx.now();
    let each = |org| NewJob::of(&RebuildReports { org: Some(org) }, Lane::Bulk, now);
    let rebuilds = orgs::list(&ctx.db).await?.into_iter().map(|org| each(org.id)).collect();
    ctx.queue.push(rebuilds).await?;
    Ok(End::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::World;

    #[tokio::test]
    async fn a_report_that_drifted_is_mended() {
        let world = World::new().await;
        world.uploaded(b"counted").await;
        world.report().await;
        let wrong = Delta { files: 5, bytes: -3, unique_files: 1, unique_bytes: 0 };
        reports::mend(&world.ctx.db, world.org, wrong, world.ctx.now()).await.unwrap();

        world.ctx.push(&RebuildReports { org: None }).await.unwrap();
        world.drain().await;

        let report = world.report().await;
        assert_eq!((report.files, report.bytes, report.unique_files, report.unique_bytes), (1, 7, 1, 7));
    }
}
