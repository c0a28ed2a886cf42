//! The clock's door: pushes each scheduled job when its cron expression says so, once per fleet.
//!
//! The ledger keeps the last tick of each schedule. Whoever moves it forward by compare-and-set pushes the job; everyone else
//! has been beaten to it. Ticks that were missed while nobody ran become one.

use std::time::Duration;

use croner::Cron;
use longshore_jobs::close_batches::CloseBatches;
use longshore_jobs::collect_blobs::CollectBlobs;
use longshore_jobs::expire_uploads::ExpireUploads;
use longshore_jobs::fold_reports::FoldReports;
use longshore_jobs::job::{Context, Job, JobError, Lane, NewJob, with_causes};
use longshore_jobs::ledger::schedules;
use longshore_jobs::model::Timestamp;
use longshore_jobs::poll_arrivals::PollArrivals;
use longshore_jobs::rebuild_reports::RebuildReports;
use longshore_jobs::resume_stalled::ResumeStalled;
use longshore_jobs::sweep_bucket::SweepBucket;
use longshore_jobs::tidy_ledger::TidyLedger;
use tokio_util::sync::CancellationToken;

/// How often the clock is looked at. A tick is late by at most this.
const LOOK: Duration = Duration::from_millis(500);

/// By how much the clocks of a fleet may differ at most. A last tick further ahead would silence its schedule until then.
const MOST_AHEAD: Duration = Duration::from_secs(24 * 3600);

/// One scheduled job.
#[derive(Clone)]
pub struct Schedule {
    /// The kind of job, which is the schedule's name in ledger and configuration.
    pub kind: &'static str,
    /// When it ticks, in UTC.
    pub cron: Cron,
    make: Make,
}

/// Makes the job of a tick.
type Make = fn(Timestamp) -> NewJob;

impl Schedule {
    /// The schedule of a kind; `None` when no job of that kind can be scheduled.
    #[must_use]
    pub fn of(kind: &str, cron: Cron) -> Option<Self> {
        let (kind, make) = SCHEDULABLE.iter().find(|(name, _)| *name == kind)?;
        Some(Self { kind, cron, make: *make })
    }

    /// `now`, if there was a tick between `last` and now; `None` when there was none. Without a last tick it is due at once; one
    /// far in the future was told by a clock that was wrong, and counts as none.
    fn due(&self, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let Some(last) = last.filter(|&last| last <= now + MOST_AHEAD) else {
            return Some(now);
        };
        let next = self.cron.find_next_occurrence(&last.to_utc(), false).ok()?;
        (next.timestamp_millis() <= now.as_millis()).then_some(now)
    }
}

/// The jobs that can be scheduled, by kind.
const SCHEDULABLE: &[(&str, Make)] = &[
    (PollArrivals::KIND, |now| NewJob::of(&PollArrivals {}, Lane::Interactive, now)),
    (ResumeStalled::KIND, |now| NewJob::of(&ResumeStalled {}, Lane::Interactive, now)),
    (ExpireUploads::KIND, |now| NewJob::of(&ExpireUploads {}, Lane::Interactive, now)),
    (CollectBlobs::KIND, |now| NewJob::of(&CollectBlobs {}, Lane::Interactive, now)),
    (TidyLedger::KIND, |now| NewJob::of(&TidyLedger {}, Lane::Bulk, now)),
    (CloseBatches::KIND, |now| NewJob::of(&CloseBatches {}, Lane::Interactive, now)),
    (SweepBucket::KIND, |now| NewJob::of(&SweepBucket {}, Lane::Interactive, now)),
    (FoldReports::KIND, |now| NewJob::of(&FoldReports { org: None }, Lane::Interactive, now)),
    (RebuildReports::KIND, |now| NewJob::of(&RebuildReports::all(), Lane::Bulk, now)),
];

/// Ticks until it is stopped, and then waits for nobody: the ledger may be silent.
pub async fn run(ctx: Context, schedules: Vec<Schedule>, stop: CancellationToken) {
    let ticking = async {
        loop {
            for schedule in &schedules {
                if let Err(error) = tick(&ctx, schedule).await {
                    tracing::warn!(schedule = schedule.kind, error = with_causes(&error), "a tick is late");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    stop.run_until_cancelled(ticking).await;
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
    if let Err(error) = ctx.queue.push(vec![(schedule.make)(tick)]).await {
        give_back(ctx, schedule, last, tick).await;
        return Err(error.into());
    }
    Ok(true)
}

/// Makes a tick due again, unless somebody has ticked since. A schedule that had never ticked has done so ages ago then.
async fn give_back(ctx: &Context, schedule: &Schedule, last: Option<Timestamp>, tick: Timestamp) {
    let last = last.unwrap_or(Timestamp::from_millis(0));
    if let Err(error) = schedules::claim_tick(&ctx.db, schedule.kind, Some(tick), last).await {
        tracing::warn!(schedule = schedule.kind, error = with_causes(&error), "a tick is lost");
    }
}

#[cfg(test)]
mod tests {
    use longshore_jobs::testkit::World;
    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn every_minute() -> Schedule {
        Schedule::of(PollArrivals::KIND, "* * * * *".parse().unwrap()).unwrap()
    }

    /// A world in which the schedule has ticked just now, at a full minute, and its job has run.
    async fn ticked(schedule: &Schedule) -> World {
        let world = World::new().await;
        world.clock.set(Timestamp::from_millis(1_767_225_600_000));
        assert!(tick(&world.ctx, schedule).await.unwrap());
        world.queue.forget();
        world
    }

    #[tokio::test]
    async fn two_tickers_on_one_ledger_push_once() {
        let schedule = every_minute();
        let world = ticked(&schedule).await;
        world.clock.advance(MINUTE);

        let (one, two) = tokio::join!(tick(&world.ctx, &schedule), tick(&world.ctx, &schedule));

        assert!(one.unwrap() ^ two.unwrap());
        assert_eq!(world.queue.waiting(), [PollArrivals::KIND]);
    }

    #[tokio::test]
    async fn two_tickers_begin_a_new_schedule_once() {
        let world = World::new().await;
        let schedule = every_minute();

        let (one, two) = tokio::join!(tick(&world.ctx, &schedule), tick(&world.ctx, &schedule));

        assert!(one.unwrap() ^ two.unwrap());
    }

    #[tokio::test]
    async fn missed_ticks_become_one() {
        let schedule = every_minute();
        let world = ticked(&schedule).await;

        world.clock.advance(MINUTE * 7 + MINUTE / 2);
        assert!(tick(&world.ctx, &schedule).await.unwrap());
        assert!(!tick(&world.ctx, &schedule).await.unwrap());

        world.clock.advance(MINUTE / 2);
        assert!(tick(&world.ctx, &schedule).await.unwrap(), "the next minute has its own");
    }

    #[tokio::test]
    async fn a_tick_whose_push_fails_is_made_up_for() {
        let (world, schedule) = (World::new().await, every_minute());

        // The first tick of all, and one behind another.
        for _ in 0..2 {
            world.queue.refuse(1);
            assert!(tick(&world.ctx, &schedule).await.is_err());
            assert!(tick(&world.ctx, &schedule).await.unwrap());
            assert!(!tick(&world.ctx, &schedule).await.unwrap());
            world.clock.advance(MINUTE);
        }
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_a_ledger_that_is_silent() {
        let world = World::new().await;
        let (begun, begins) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let busy = world.ctx.db.write_one(move |_| {
            Box::pin(async move {
                begun.send(()).unwrap();
                ended.await.unwrap();
                Ok(())
            })
        });
        let stopped = async {
            begins.await.unwrap();
            let stop = CancellationToken::new();
            let mut running = std::pin::pin!(run(world.ctx.clone(), vec![every_minute()], stop.clone()));
            // It wants to write down its first tick.
            assert!(timeout(LOOK, &mut running).await.is_err());
            stop.cancel();
            let stopped = timeout(MINUTE / 6, running).await;
            end.send(()).unwrap();
            stopped
        };

        let (written, stopped) = tokio::join!(busy, stopped);

        written.unwrap();
        stopped.expect("it waits for the ledger");
    }

    #[tokio::test]
    async fn a_last_tick_far_in_the_future_does_not_silence_the_schedule() {
        let schedule = every_minute();
        let world = ticked(&schedule).await;
        let last = world.ctx.now();

        world.clock.set(last - Duration::from_secs(3600));
        assert!(!tick(&world.ctx, &schedule).await.unwrap(), "clocks may differ by an hour");
        world.clock.set(last - (MOST_AHEAD + MINUTE));
        assert!(tick(&world.ctx, &schedule).await.unwrap());
        assert!(!tick(&world.ctx, &schedule).await.unwrap());
    }
}
