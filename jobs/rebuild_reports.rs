//! Recounts an org's files, measures how far its report has drifted, and mends it.
//!
//! Before: nothing. The difference is read in one snapshot and appended as a delta, so nothing is locked and nothing that is
//! stored meanwhile is counted twice. A second run finds no drift; one at the same time finds the same drift and that it has
//! been mended since. It ends when the difference is appended and a fold is on. While another org is recounted in the same
//! process it is put off, so that folds find a free slot.
//!
//! `longshore_report_drift_files` and `_bytes` add up the drift that was mended, whatever its sign and whichever the org, since
//! the process began: at 0 no report was ever off, and every rise is one that was.

use std::time::Duration;

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

/// When to look again whether it is one's turn: seldom, as thousands of orgs may wait for one that takes minutes.
const NEXT_TURN: Duration = Duration::from_secs(30);

impl Job for RebuildReports {
    const KIND: &'static str = "rebuild_reports";
    const POOL: Pool = Pool::Report;
    /// Counting ten million rows takes a while.
    const TIME_LIMIT: Duration = Duration::from_secs(900);

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
    let Some(turn) = reports::turn_to_recount(&ctx.db) else {
        return Err(JobError::Snooze { wait: NEXT_TURN, why: "another org is being recounted" });
    };
    let drift = reports::rebuild(&ctx.db, org, ctx.now()).await?;
    drop(turn);
    if drift != Delta::NONE {
        tracing::warn!(%org, ?drift, "a report had drifted and is mended");
        count(drift);
    }
    ctx.push(&FoldReports { org: Some(org) }).await?;
    Ok(End::Done)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn count(drift: Delta) {
    metrics::gauge!("longshore_report_drift_files").increment(drift.files.abs() as f64);
    metrics::gauge!("longshore_report_drift_bytes").increment(drift.bytes.abs() as f64);
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
    use crate::job::Verdict;
    use crate::testkit::World;

    crate::on_every_engine! {
        two_rebuilds_at_once_mend_a_drift_once,
        a_drift_is_mended_before_the_first_fold_too,
        a_report_that_drifted_is_mended,
        a_rebuild_is_put_off_while_another_recounts,
    }

    /// A world whose report is off.
    async fn drifted(world: World) -> World {
        world.uploaded(b"counted").await;
        world.report().await;
        let tampered = world.ctx.db.write_one(|mut tx| {
            let query = "update org_reports set files = files + 5, bytes = bytes - 3, unique_files = 0";
            Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).execute(c).await?.rows_affected())) })
        });
        assert_eq!(tampered.await.unwrap(), 1);
        world
    }

    async fn two_rebuilds_at_once_mend_a_drift_once(world: World) {
        let world = drifted(world).await;
        let (db, org, now) = (&world.ctx.db, world.org, world.ctx.now());
        let (one, two) = (reports::recount(db, org).await.unwrap(), reports::recount(db, org).await.unwrap());
        assert_eq!((one.drift.files, one), (-5, two));

        assert!(reports::mend(db, org, one, now).await.unwrap());
        assert!(!reports::mend(db, org, two, now).await.unwrap());

        assert_eq!(world.report().await.files, 1);
        assert_eq!(reports::rebuild(db, org, now).await.unwrap(), Delta::NONE);
    }

    async fn a_drift_is_mended_before_the_first_fold_too(world: World) {
        world.uploaded(b"counted").await;
        let lost = world.ctx.db.write_one(|mut tx| {
            Box::pin(async move {
                Ok(sql!(tx.on(), c => sqlx::query("delete from report_deltas").execute(c).await?.rows_affected()))
            })
        });
        assert_eq!(lost.await.unwrap(), 1);

        world.ctx.push(&RebuildReports { org: Some(world.org) }).await.unwrap();
        world.drain().await;

        assert_eq!(world.report().await.files, 1);
    }

    async fn a_report_that_drifted_is_mended(world: World) {
        let world = drifted(world).await;

        world.ctx.push(&RebuildReports { org: None }).await.unwrap();
        world.drain().await;

        let report = world.report().await;
        assert_eq!((report.files, report.bytes, report.unique_files, report.unique_bytes), (1, 7, 1, 7));
    }

    async fn a_rebuild_is_put_off_while_another_recounts(world: World) {
        let world = drifted(world).await;
        let turn = reports::turn_to_recount(&world.ctx.db).unwrap();
        world.ctx.push(&RebuildReports { org: Some(world.org) }).await.unwrap();

        let (kind, verdict) = world.drain().await.remove(0);
        assert_eq!(kind, RebuildReports::KIND);
        assert!(matches!(verdict, Verdict::Snoozed { .. }), "{verdict:?}");

        drop(turn);
        world.clock.advance(NEXT_TURN);
        assert_eq!(world.report().await.files, 1);
    }
}
