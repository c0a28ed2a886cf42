//! Recounts an org's files, measures how far its report has drifted, and mends it; or those of every org, one after the other.
//!
//! Before: nothing. The difference is read in one snapshot and appended as a delta, so nothing is locked and nothing that is
//! stored meanwhile is counted twice. A second run finds no drift; one at the same time finds the same drift and that it has
//! been mended since. It ends when the difference is appended and a fold is on. One org is recounted at a time in a process:
//! a run for all of them holds one slot, so that folds find the others free, and puts itself on again behind the org that it
//! has come to. An org that cannot be recounted gets a run, and attempts, of its own.
//!
//! `longshore_report_drift_files` and `_bytes` add up the drift that was mended, whatever its sign and whichever the org, since
//! the process began: at 0 no report was ever off, and every rise is one that was.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use crate::fold_reports::FoldReports;
use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool, with_causes};
use crate::ledger::{orgs, reports};
use crate::model::report::Delta;

/// Rebuilds one org's report, or that of each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RebuildReports {
    /// The org; `None` for every one.
    pub org: Option<Uuid>,
    /// Of every one, those behind this one; `None` for all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Uuid>,
}

/// How long one that was asked for by itself waits in its slot for its turn.
const PATIENCE: Duration = Duration::from_secs(1);
/// When to look again after that.
const NEXT_TURN: Duration = Duration::from_secs(10);
/// How long one run goes from org to org.
const STRETCH: Duration = Duration::from_secs(60);

impl RebuildReports {
    /// Of one org.
    #[must_use]
    pub const fn of(org: Uuid) -> Self {
        Self { org: Some(org), after: None }
    }

    /// Of every one.
    #[must_use]
    pub const fn all() -> Self {
        Self { org: None, after: None }
    }
}

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
            Some(org) => rebuild_one(ctx, org).await,
            None => rebuild_each(ctx, self.after).await,
        }
    }
}

async fn rebuild_one(ctx: &Context, org: Uuid) -> Result<End, JobError> {
    let Ok(turn) = timeout(PATIENCE, reports::turn_to_recount(&ctx.db)).await else {
        return Err(JobError::Snooze { wait: NEXT_TURN, why: "another org is being recounted" });
    };
    rebuild(ctx, org).await?;
    drop(turn);
    Ok(End::Done)
}

async fn rebuild_each(ctx: &Context, after: Option<Uuid>) -> Result<End, JobError> {
    let started = Instant::now();
    for org in orgs_behind(ctx, after).await? {
        let turn = reports::turn_to_recount(&ctx.db).await;
        if let Err(error) = rebuild(ctx, org).await {
            tracing::warn!(%org, error = with_causes(&error), "a report is rebuilt by itself, as it failed among others");
            ctx.queue.push(vec![NewJob::of(&RebuildReports::of(org), Lane::Bulk, ctx.now())]).await?;
        }
        drop(turn);
        if started.elapsed() >= STRETCH {
            let rest = RebuildReports { org: None, after: Some(org) };
            ctx.queue.push(vec![NewJob::of(&rest, Lane::Bulk, ctx.now())]).await?;
            break;
        }
    }
    Ok(End::Done)
}

async fn orgs_behind(ctx: &Context, after: Option<Uuid>) -> Result<Vec<Uuid>, JobError> {
    let ids = orgs::list(&ctx.db).await?.into_iter().map(|org| org.id);
    let mut behind: Vec<Uuid> = ids.filter(|id| after.is_none_or(|after| *id > after)).collect();
    behind.sort_unstable();
    Ok(behind)
}

async fn rebuild(ctx: &Context, org: Uuid) -> Result<(), JobError> {
    let drift = reports::rebuild(&ctx.db, org, ctx.now()).await?;
    if drift != Delta::NONE {
        tracing::warn!(%org, ?drift, "a report had drifted and is mended");
        count(drift);
        ctx.push(&FoldReports { org: Some(org) }).await?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn count(drift: Delta) {
    metrics::gauge!("longshore_report_drift_files").increment(drift.files.abs() as f64);
    metrics::gauge!("longshore_report_drift_bytes").increment(drift.bytes.abs() as f64);
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
        a_rebuild_of_all_goes_on_behind_the_org_that_it_had_come_to,
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

        world.ctx.push(&RebuildReports::of(world.org)).await.unwrap();
        world.drain().await;

        assert_eq!(world.report().await.files, 1);
    }

    async fn a_report_that_drifted_is_mended(world: World) {
        let world = drifted(world).await;

        world.ctx.push(&RebuildReports::all()).await.unwrap();
        world.drain().await;

        let report = world.report().await;
        assert_eq!((report.files, report.bytes, report.unique_files, report.unique_bytes), (1, 7, 1, 7));
    }

    async fn a_rebuild_is_put_off_while_another_recounts(world: World) {
        let world = drifted(world).await;
        let turn = reports::turn_to_recount(&world.ctx.db).await;
        world.ctx.push(&RebuildReports::of(world.org)).await.unwrap();

        let (kind, verdict) = world.drain().await.remove(0);
        assert_eq!(kind, RebuildReports::KIND);
        assert!(matches!(verdict, Verdict::Snoozed { .. }), "{verdict:?}");

        drop(turn);
        world.clock.advance(NEXT_TURN);
        assert_eq!(world.report().await.files, 1);
    }
    async fn a_rebuild_of_all_goes_on_behind_the_org_that_it_had_come_to(world: World) {
        let world = drifted(world).await;
        let rest = |after| RebuildReports { org: None, after: Some(after) };

        rest(world.org).run(&world.ctx).await.unwrap();
        let report = reports::find(&world.ctx.db, world.org).await.unwrap();
        assert_eq!(report.totals.files, 6, "it had come to this one");

        rest(Uuid::nil()).run(&world.ctx).await.unwrap();
        assert_eq!(world.report().await.files, 1);
    }
}
