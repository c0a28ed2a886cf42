//! By how much the clock of this machine differs from the server's.
//!
//! On PostgreSQL many machines lend out and take back, and the clocks of some are wrong: one that is ahead by a lease would
//! take back what all others hold, one that is behind would lose what it holds. So leases go by the server's clock, as far as
//! this machine knows it: it compares at the start and before each rescue. Statements are still told the time, and do not ask
//! the server for it: one that was on its way for long would find leases run out that are being renewed behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use longshore_jobs::ledger::{Db, LedgerError};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::Clock;
use longshore_jobs::sql;

/// A difference below this makes none to a lease, and may be the way to the server and back.
const SMALL_MS: i64 = 500;
/// From this difference on somebody should look after the clock.
const WRONG_MS: i64 = 2_000;
/// An answer that took longer tells too little.
const PROMPT: Duration = Duration::from_secs(1);

/// SQLite has no clock but ours.
const SERVER_TIME: [&str; 2] =
    ["select cast(null as bigint)", "select cast(extract(epoch from clock_timestamp()) * 1000 as bigint)"];

/// Milliseconds by which the server's clock is ahead of ours; none as long as it has not been compared. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Drift(Arc<AtomicI64>);

impl Drift {
    /// What leases are reckoned by when it is `here` on this machine.
    pub(super) fn lease_time(&self, here: Timestamp) -> Timestamp {
        Timestamp::from_millis(here.as_millis().saturating_add(self.0.load(Ordering::Relaxed)))
    }

    /// Compares the clocks.
    pub(super) async fn compare(&self, db: &Db, clock: &dyn Clock) -> Result<(), LedgerError> {
        let before = clock.now();
        let query = db.reader().text(SERVER_TIME[0], SERVER_TIME[1]);
        let there: Option<i64> = sql!(db.reader(), c => sqlx::query_scalar(query).fetch_one(c).await)?;
        let took = clock.now().since(before);
        if let Some(there) = there.filter(|_| took <= PROMPT) {
            self.learn(there - (before + took / 2).as_millis());
        }
        Ok(())
    }

    fn learn(&self, ahead_ms: i64) {
        let known_ms = self.0.swap(if ahead_ms.abs() < SMALL_MS { 0 } else { ahead_ms }, Ordering::Relaxed);
        match (known_ms.abs() >= WRONG_MS, ahead_ms.abs() >= WRONG_MS) {
            (false, true) => tracing::warn!(
                behind_the_server_ms = ahead_ms,
                "the clock of this machine is wrong: leases go by the server's, but what is to be done later goes by ours"
            ),
            (true, false) => tracing::info!("the clock of this machine is right again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_go_by_what_was_last_learnt_and_small_differences_are_none() {
        let (drift, here) = (Drift::default(), Timestamp::from_millis(100_000));
        let mut lease_time = |ahead_ms| {
            drift.learn(ahead_ms);
            drift.lease_time(here).as_millis()
        };
        assert_eq!([499, -499, 500, -15_000, 0].map(&mut lease_time), [100_000, 100_000, 100_500, 85_000, 100_000]);
    }
}
