//! Has an org's report folded after a door has changed it.

use longshore_jobs::fold_reports::FoldReports;
use longshore_jobs::job::{Lane, NewJob};
use uuid::Uuid;

use super::Http;

/// Puts a fold on. The delta is committed with what it counts: a fold that is lost is made up for by the schedule.
pub async fn fold_soon(http: &Http, org: Uuid) {
    let fold = FoldReports { org: Some(org) };
    let due = http.ctx.now() + FoldReports::DELAY;
    if let Err(error) = http.ctx.queue.push(vec![NewJob::of(&fold, Lane::Interactive, due)]).await {
        tracing::warn!(%error, "a fold is left to the schedule");
    }
}
