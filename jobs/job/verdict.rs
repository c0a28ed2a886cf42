//! What becomes of a job that has run.

use std::time::Duration;

use super::End;
use crate::model::Timestamp;

/// What a queue is to do with a job that has run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forget it.
    Finished(End),
    /// Run it again then; no attempt was used.
    Snoozed {
        /// When.
        until: Timestamp,
    },
    /// Run it again then; an attempt was used.
    Retried {
        /// When.
        at: Timestamp,
        /// What went wrong, with its causes.
        error: String,
    },
    /// Keep it with the dead letters.
    Dead {
        /// One word for filters: `attempts`, `gave_up`, `undecodable`, `unknown_kind`.
        reason: &'static str,
        /// What went wrong, with its causes.
        error: String,
    },
}

impl Verdict {
    /// What becomes of a job whose attempt has failed: another one later, or death when there are none left.
    #[must_use]
    pub fn failed(attempt: u32, max_attempts: u32, now: Timestamp, error: String) -> Self {
        if attempt >= max_attempts {
            return Self::Dead { reason: "attempts", error };
        }
        Self::Retried { at: now + backoff(attempt), error }
    }

    /// One word for metrics and logs.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Finished(End::Done) => "done",
            Self::Finished(End::Moot) => "moot",
            Self::Snoozed { .. } => "snoozed",
            Self::Retried { .. } => "retried",
            Self::Dead { .. } => "dead",
        }
    }
}

/// Half a second, doubled for each attempt up to an hour and eight minutes, with a jitter of a quarter to either side.
fn backoff(attempt: u32) -> Duration {
    let base = 500 * (1_u64 << attempt.saturating_sub(1).min(13));
    Duration::from_millis(rand::random_range(base * 3 / 4..=base * 5 / 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job as _;
    use crate::noop::Noop;

    #[test]
    fn an_outage_of_hours_kills_no_job() {
        let waits: Duration = (1..Noop::ATTEMPTS).map(backoff).sum();
        assert!(waits > Duration::from_secs(5 * 3600), "dead after {waits:?}");
        assert!(waits < Duration::from_secs(11 * 3600), "not yet dead after {waits:?}");
    }

    #[test]
    fn backoff_doubles_with_a_jitter_and_stops_at_4096_seconds() {
        for (attempt, base) in [(1, 500), (2, 1000), (5, 8000), (14, 4_096_000), (40, 4_096_000)] {
            let wait = u64::try_from(backoff(attempt).as_millis()).unwrap();
            assert!((base * 3 / 4..=base * 5 / 4).contains(&wait), "attempt {attempt}: {wait}");
        }
    }
}
