//! Folds the deltas of an org into its report.
//!
//! Before: nothing. Pushed whenever a file is stored, a second later so that many share one run, and by the schedule for
//! every org that a crash left behind. A second run finds no deltas. It ends when the org has none.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::reports;

/// Folds one org's deltas, or puts on a fold for each org that has some.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoldReports {
    /// The org; `None` for every one.
    pub org: Option<Uuid>,
}

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
        let folded = reports::fold(&ctx.db, org, ctx.now()).await?;
        any |= folded.deltas > 0;
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
