//! Counters that exist at zero from the start, so that a rate over them is right from the first event on.

use std::collections::HashMap;

use longshore_jobs::job::{NewJob, Pool};
use longshore_jobs::roster;

const ENQUEUED: &str = "longshore_jobs_enqueued_total";

/// Jobs that are to be counted as pushed, by kind.
pub(super) struct Enqueued(HashMap<&'static str, u64>);

impl Enqueued {
    pub(super) fn of(jobs: &[NewJob]) -> Self {
        let mut kinds = HashMap::new();
        for job in jobs {
            *kinds.entry(job.kind()).or_default() += 1;
        }
        Self(kinds)
    }

    /// They have been pushed.
    pub(super) fn count(self) {
        for (kind, jobs) in self.0 {
            metrics::counter!(ENQUEUED, "kind" => kind).increment(jobs);
        }
    }
}

/// Registers what the queue counts. To be called once the recorder stands.
pub fn register() {
    for entry in roster::all() {
        metrics::counter!(ENQUEUED, "kind" => entry.kind).increment(0);
    }
    for pool in Pool::ALL {
        metrics::counter!("longshore_jobs_rescued_total", "pool" => pool.as_str()).increment(0);
    }
}
