//! Folds the deltas of an org into its report.
//!
//! Before: nothing. Pushed whenever a file is stored, a second later so that many share one run, and by the schedule for
//! every org that a crash left behind. A second run finds no deltas. It ends when the org has none. On SQLite one
//! folds at a time in a process, and behind each write it rests for as long as that took, so that half of the writer's time is
//! left to those who upload.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::reports;

/// Folds one org's deltas, or puts on a fold for each org that has some.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoldReports {
    /// The org; `None` for every one.
    pub org: Option<Uuid>,
}

/// A ledger that was away for a while need not be rested from for as long.
const LONGEST_REST: Duration = Duration::from_millis(500);

impl FoldReports {
    /// How long after a change the fold is due.
    pub const DELAY: Duration = Duration::from_secs(1);
}

impl Job for FoldReports {
    const KIND: &'static str = "fold_reports";
    const POOL: Pool = Pool::Report;

    fn subject(&self) -> Uuid {
        self.org.unwrap_or(Uuid::nil())
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        match self.org {
            Some(org) => fold(ctx, org).await,
            None => fold_each(ctx).await,
        }
    }
}

async fn fold(ctx: &Context, org: Uuid) -> Result<End, JobError> {
    let started = Instant::now();
    let mut any = false;
    loop {
        let turn = reports::turn_to_fold(&ctx.db).await;
        let began = Instant::now();
        let folded = reports::fold(&ctx.db, org, ctx.now()).await?;
        any |= folded.deltas > 0;
        sleep(began.elapsed().min(LONGEST_REST)).await;
        drop(turn);
        if !folded.more {
            break;
        }
    }
    metrics::histogram!("longshore_report_fold_seconds").record(started.elapsed().as_secs_f64());
    Ok(if any { End::Done } else { End::Moot })
}

async fn fold_each(ctx: &Context) -> Result<End, JobError> {
    let orgs = reports::orgs_with_deltas(&ctx.db).await?;
    let now = ctx.now();
    let folds = orgs.into_iter().map(|org| NewJob::of(&FoldReports { org: Some(org) }, Lane::Bulk, now)).collect();
    ctx.queue.push(folds).await?;
    Ok(End::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::orgs;
    use crate::model::report::Delta;
    use crate::testkit::World;

    /// Appends so many deltas of one file of two bytes.
    async fn append(world: &World, org: Uuid, count: i64) {
        let query = "with recursive numbers (number) as (
                select 1
                union all
                select number + 1 from numbers where number < $2)
            insert into report_deltas (org_id, files, bytes, unique_files, unique_bytes, created_at)
            select $1, 1, 2, 0, 0, 0 from numbers";
        let appended = world.ctx.db.write_one(move |mut tx| {
            Box::pin(async move {
                sql!(tx.on(), c => sqlx::query(query).bind(org).bind(count).execute(c).await.map(drop))?;
                Ok(())
            })
        });
        appended.await.unwrap();
    }

    crate::on_every_engine! {
        more_deltas_than_one_fold_takes_are_all_folded_in_one_run,
        a_fold_of_all_puts_on_one_for_each_org_that_has_deltas,
    }

    async fn more_deltas_than_one_fold_takes_are_all_folded_in_one_run(world: World) {
        append(&world, world.org, 2_001).await;

        let job = FoldReports { org: Some(world.org) };
        assert_eq!(job.clone().run(&world.ctx).await.unwrap(), End::Done);

        let report = reports::find(&world.ctx.db, world.org).await.unwrap();
        assert_eq!(report.totals, Delta { files: 2_001, bytes: 4_002, ..Delta::NONE });
        assert_eq!(reports::oldest_delta(&world.ctx.db).await.unwrap(), None);
        assert_eq!(job.run(&world.ctx).await.unwrap(), End::Moot);
    }

    async fn a_fold_of_all_puts_on_one_for_each_org_that_has_deltas(world: World) {
        let (db, now) = (&world.ctx.db, world.ctx.now());
        let other = orgs::create(db, "other".to_owned(), now).await.unwrap().id;
        orgs::create(db, "idle".to_owned(), now).await.unwrap();
        append(&world, world.org, 1).await;
        append(&world, other, 2).await;

        FoldReports { org: None }.run(&world.ctx).await.unwrap();
        assert_eq!(world.queue.waiting(), ["fold_reports", "fold_reports"]);
        world.drain().await;

        for (org, files) in [(world.org, 1), (other, 2)] {
            assert_eq!(reports::find(db, org).await.unwrap().totals.files, files);
        }
    }
}
