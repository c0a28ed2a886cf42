//! How often and how much: the figures of a worker.

use std::time::Duration;

use super::engine::LEASE;

/// How many jobs are claimed or settled at once at most.
pub(super) const BATCH: usize = 500;

/// How often a worker looks without being called.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The time between two looks at the queue and at the pause flags, should no bell have rung.
    pub poll: Duration,
    /// The time between two renewals of leases, and between two looks for lost ones.
    pub beat: Duration,
}

/// Beats to a lease: two may fail.
const BEATS: u32 = 3;

impl Pace {
    /// How long leases last at this pace.
    pub(super) fn leases(&self) -> Duration {
        BEATS * self.beat
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { poll: Duration::from_secs(1), beat: LEASE / BEATS }
    }
}

/// The wait between attempts to reach an engine: from 50 ms, doubled up to 5 s.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    pub(super) fn next(&mut self) -> Duration {
        let wait = Duration::from_millis(50 << self.0);
        self.0 = (self.0 + 1).min(7);
        wait.min(Duration::from_secs(5))
    }

    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_five_seconds_and_starts_again() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 50);
    }
}
