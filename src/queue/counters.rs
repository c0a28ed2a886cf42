//! Counters that exist at zero from the start, so that a rate over them is right from the first event on.

use longshore_jobs::job::Pool;
use longshore_jobs::roster;

/// Registers what the queue counts. To be called once the recorder stands.
pub fn register() {
    for entry in roster::all() {
        metrics::counter!("longshore_jobs_enqueued_total", "kind" => entry.kind).increment(0);
    }
    for pool in Pool::ALL {
        metrics::counter!("longshore_jobs_rescued_total", "pool" => pool.as_str()).increment(0);
    }
}
