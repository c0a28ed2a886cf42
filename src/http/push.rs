//! A push for which a client waits.

use std::time::Duration;

use longshore_jobs::job::{NewJob, with_causes};
use tokio::time::timeout;

use super::Http;

/// Puts a job on, or says why it is not. A queue that is away or silent must not keep the client: what the job is about stands
/// in the ledger, and is resumed.
pub async fn push_within(http: &Http, job: NewJob, limit: Duration) -> Result<(), String> {
    match timeout(limit, http.ctx.queue.push(vec![job])).await {
        Ok(pushed) => pushed.map_err(|error| with_causes(&error)),
        Err(_) => Err(format!("the queue was silent for {limit:?}")),
    }
}
