//! The clock's door: pushes each scheduled job when its cron expression says so, once per fleet.
//!
//! The ledger keeps the last tick of each schedule. Whoever moves it forward by compare-and-set pushes the job; everyone else
//! has been beaten to it. Ticks that were missed while nobody ran become one.

use std::time::Duration;

use croner::Cron;
use longshore_jobs::expire_uploads::ExpireUploads;
use longshore_jobs::fold_reports::FoldReports;
use longshore_jobs::job::{Context, Job, JobError, Lane, NewJob, with_causes};
use longshore_jobs::ledger::schedules;
use longshore_jobs::model::Timestamp;
use longshore_jobs::poll_arrivals::PollArrivals;
use longshore_jobs::rebuild_reports::RebuildReports;
use longshore_jobs::resume_stalled::ResumeStalled;
use longshore_jobs::sweep_bucket::SweepBucket;
use tokio_util::sync::CancellationToken;

/// How often the clock is looked at. A tick is late by at most this.
const LOOK: Duration = Duration::from_millis(500);

/// One scheduled job.
#[derive(Clone)]
pub struct Schedule {
    /// The kind of job, which is the schedule's name in ledger and configuration.
    pub kind: &'static str,
    /// When it ticks, in UTC.
    pub cron: Cron,
    make: fn(Timestamp) -> NewJob,
}

impl Schedule {
    /// The schedule of a kind; `None` when no job of that kind can be scheduled.
    #[must_use]
    pub fn of(kind: &str, cron: Cron) -> Option<Self> {
        let (kind, make) = SCHEDULABLE.iter().find(|(name, _)| *name == kind)?;
        Some(Self { kind, cron, make: *make })
    }

    /// The latest tick between `last` and `now`; `None` when there was none. Without a last tick it is due at once.
    fn due(&self, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let Some(last) = last else {
            return Some(now);
        };
        let next = self.cron.find_next_occurrence(&last.to_utc(), false).ok()?;
        (next.timestamp_millis() <= now.as_millis()).then_some(now)
    }
}

/// A job as of a time.
type Made = fn(Timestamp) -> NewJob;

/// The jobs that can be scheduled, by kind.
const SCHEDULABLE: &[(&str, Made)] = &[
    (PollArrivals::KIND, |now| NewJob::of(&PollArrivals {}, Lane::Interactive, now)),
    (ResumeStalled::KIND, |now| NewJob::of(&ResumeStalled {}, Lane::Interactive, now)),
    (ExpireUploads::KIND, |now| NewJob::of(&ExpireUploads {}, Lane::Interactive, now)),
    (SweepBucket::KIND, |now| NewJob::of(&SweepBucket {}, Lane::Interactive, now)),
    (FoldReports::KIND, |now| NewJob::of(&FoldReports { org: None }, Lane::Interactive, now)),
    (RebuildReports::KIND, |now| NewJob::of(&RebuildReports { org: None }, Lane::Bulk, now)),
];

/// Ticks until it is stopped.
pub async fn run(ctx: Context, schedules: Vec<Schedule>, stop: CancellationToken) {
    loop {
        for schedule in &schedules {
            if let Err(error) = tick(&ctx, schedule).await {
                tracing::warn!(schedule = schedule.kind, error = with_causes(&error), "a tick is late");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Pushes the job if it is due and nobody else has. A crash between claim and push loses this tick; the next one does its work.
async fn tick(ctx: &Context, schedule: &Schedule) -> Result<bool, JobError> {
    let last = schedules::last_tick(&ctx.db, schedule.kind).await?;
    let Some(tick) = schedule.due(last, ctx.now()) else {
        return Ok(false);
    };
    if !schedules::claim_tick(&ctx.db, schedule.kind, last, tick).await? {
        return Ok(false);
    }
    ctx.queue.push(vec![(schedule.make)(tick)]).await?;
    Ok(true)
}
