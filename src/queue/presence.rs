//! The beats by which operators see which processes work, in the table `workers`.
//!
//! A beat is one small statement that waits for no disk and for which nothing waits. Where it fails the work goes on, and the
//! process seems to be gone until the next one.

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::job::{Pool, with_causes};
use longshore_jobs::ledger::workers::{self, BEAT, Share, Worker};
use longshore_jobs::ledger::{Db, LedgerError};
use longshore_jobs::outside::Clock;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::holds::Holds;

/// Every so many beats somebody looks for rows of the dead.
const LOOK_FOR_DEAD: u32 = 60;
/// Of the machine's name.
const LONGEST_HOST: usize = 64;

/// The presence of one process.
pub(super) struct Presence {
    db: Db,
    clock: Arc<dyn Clock>,
    staffs: Vec<(Pool, Arc<Holds>)>,
    row: Worker,
    /// When the ends of jobs were last counted.
    counted: Instant,
    /// How many had ended by then, in the order of the staffs.
    ended: Vec<u64>,
}

impl Presence {
    /// Of a process with a new name that works these pools.
    pub(super) fn new(db: Db, clock: Arc<dyn Clock>, staffs: Vec<(Pool, Arc<Holds>)>) -> Self {
        let now = clock.now();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let row = Worker { name: new_name(), version, started_at: now, seen_at: now, pools: Default::default() };
        let ended = vec![0; staffs.len()];
        Self { db, clock, staffs, row, counted: Instant::now(), ended }
    }

    /// Beats until `stop`, and then takes the row away. Of failures in a row the first is worth a warning.
    pub(super) async fn keep(mut self, stop: CancellationToken) {
        let mut failures = 0_u32;
        for turn in 0_u32.. {
            failures = match self.beat(turn).await {
                Ok(()) => 0,
                Err(error) => {
                    let error = with_causes(&error);
                    if failures == 0 {
                        tracing::warn!(error, "this process could not say that it works");
                    } else {
                        tracing::debug!(error, failures, "nor now");
                    }
                    failures.saturating_add(1)
                }
            };
            if stop.run_until_cancelled(sleep(BEAT)).await.is_none() {
                break;
            }
        }
        if let Err(error) = workers::leave(&self.db, self.row.name).await {
            tracing::debug!(error = with_causes(&error), "this process is seen for a while yet");
        }
    }

    async fn beat(&mut self, turn: u32) -> Result<(), LedgerError> {
        self.look();
        workers::beat(&self.db, self.row.clone()).await?;
        if turn.is_multiple_of(LOOK_FOR_DEAD) {
            workers::forget_dead(&self.db, self.row.seen_at).await?;
        }
        Ok(())
    }

    /// Brings the row up to date.
    fn look(&mut self) {
        let took = self.counted.elapsed();
        self.counted = Instant::now();
        self.row.seen_at = self.clock.now();
        for ((pool, holds), ended) in self.staffs.iter().zip(&mut self.ended) {
            let before = std::mem::replace(ended, holds.count_ended());
            let share = Share {
                concurrency: holds.size() as u64,
                running: holds.count_running() as u64,
                per_second: rate(*ended - before, took),
            };
            self.row.pools.insert(*pool, share);
        }
    }
}

/// In a second, to a hundredth: nobody reads more of it.
#[expect(clippy::cast_precision_loss, reason = "nobody ends 2^53 jobs between two beats")]
fn rate(ended: u64, took: Duration) -> f64 {
    if ended == 0 {
        return 0.0;
    }
    (ended as f64 / took.as_secs_f64().max(0.001) * 100.0).round() / 100.0
}

/// The machine, the process, and something random, as a process in a container may always have the same number.
fn new_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(LONGEST_HOST).collect();
    let host = if host.is_empty() { "worker" } else { &host };
    format!("{host}-{}-{:08x}", std::process::id(), rand::random::<u32>())
}

#[cfg(test)]
mod tests {
    use longshore_jobs::testkit::World;

    use super::*;

    #[tokio::test]
    async fn a_beat_tells_what_each_pool_does() {
        let world = World::new().await;
        let (holds, _told) = Holds::new(Pool::Verify, 7);
        let clock = Arc::clone(&world.ctx.clock);
        let mut presence = Presence::new(world.ctx.db.clone(), clock, vec![(Pool::Verify, holds)]);

        presence.beat(0).await.unwrap();

        let seen = workers::list(&world.ctx.db).await.unwrap().remove(0);
        assert_eq!(
            (seen.name.as_str(), seen.version.as_str()),
            (presence.row.name.as_str(), env!("CARGO_PKG_VERSION"))
        );
        let share = Share { concurrency: 7, running: 0, per_second: 0.0 };
        assert_eq!(seen.pools, [(Pool::Verify, share)].into_iter().collect());
    }

    #[tokio::test]
    async fn who_stops_is_not_seen_any_more() {
        let world = World::new().await;
        let presence = Presence::new(world.ctx.db.clone(), Arc::clone(&world.ctx.clock), Vec::new());
        let stop = CancellationToken::new();
        stop.cancel();

        presence.keep(stop).await;

        assert_eq!(workers::list(&world.ctx.db).await.unwrap(), []);
    }

    #[test]
    fn a_rate_is_that_of_the_time_between_two_beats() {
        assert_eq!(rate(125, Duration::from_secs(10)), 12.5);
        assert_eq!(rate(1, Duration::from_secs(30)), 0.03);
        assert_eq!(rate(0, Duration::ZERO), 0.0);
    }

    #[test]
    fn names_are_new_at_every_start() {
        assert_ne!(new_name(), new_name());
    }
}
