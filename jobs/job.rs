//! What a job is, and the one wrapper that runs it.
//!
//! A job carries ids only. It reads the row, moves it by compare-and-set, and puts on the next job; run twice, or in
//! parallel, or after a crash at any line, it does no harm. [`perform()`] gives every run its span, its timer, its panic guard
//! and its time limit, and turns what came out into a [`Verdict`] that a queue can store.
//!
//! # Layout
//!
//! - `context`: what a job works with
//! - `queued`: a job on its way through a queue
//! - `perform`: the wrapper, and a line of the roster, which it runs
//! - `verdict`: what becomes of a job that has run; `causes`: an error in a line

mod causes;
mod context;
mod perform;
mod queued;
mod verdict;

use std::future::Future;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::ledger::LedgerError;
use crate::model::words;
use crate::outside::{BucketError, QueueError};

pub use causes::with_causes;
pub(crate) use context::show_trace;
pub use context::{Context, Limits};
pub use perform::{Entry, perform};
pub use queued::{Delivery, NewJob};
pub use verdict::Verdict;

words! {
    /// A group of workers that share a concurrency limit and can be paused together.
    Pool, "a pool" {
        /// Signs policies.
        Issue = "issue",
        /// Records arrivals.
        Arrive = "arrive",
        /// Hashes objects.
        Verify = "verify",
        /// Stores files.
        Store = "store",
        /// Folds and rebuilds reports.
        Report = "report",
        /// Everything on a schedule.
        Upkeep = "upkeep",
    }
}

words! {
    /// Who goes first within a pool.
    Lane, "a lane" {
        /// A person waits for it.
        Interactive = "interactive",
        /// It is one of very many.
        Bulk = "bulk",
    }
}

/// A unit of work.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name in the queue: stored, so never changed.
    const KIND: &'static str;
    /// Who runs it.
    const POOL: Pool;
    /// How often it is tried before it is dead. With the waits in between that is about eight hours: longer than an outage
    /// of bucket or ledger that nobody mends.
    const ATTEMPTS: u32 = 20;
    /// How long one run may take.
    const TIME_LIMIT: Duration = Duration::from_secs(60);

    /// What it is about: a second push with the same subject joins the first. Nil for jobs about everything.
    fn subject(&self) -> Uuid;

    /// Does it.
    fn run(self, ctx: &Context) -> impl Future<Output = Result<End, JobError>> + Send;
}

/// How a run ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It did its one thing.
    Done,
    /// Somebody was faster; there was nothing left to do.
    Moot,
}

/// Why a run did not end well.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A later attempt may succeed; this one counts.
    #[error(transparent)]
    Retry(Box<dyn std::error::Error + Send + Sync>),
    /// It is too early; no attempt is counted.
    #[error("not yet: {why}")]
    Snooze {
        /// When to look again.
        wait: Duration,
        /// What it waits for.
        why: &'static str,
    },
    /// No attempt can succeed.
    #[error(transparent)]
    GiveUp(Box<dyn std::error::Error + Send + Sync>),
}

impl From<LedgerError> for JobError {
    fn from(error: LedgerError) -> Self {
        if error.is_breach() { Self::GiveUp(error.into()) } else { Self::Retry(error.into()) }
    }
}

impl From<QueueError> for JobError {
    fn from(error: QueueError) -> Self {
        Self::Retry(error.into())
    }
}

impl From<BucketError> for JobError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Throttled { .. } => {
                // Those who were throttled together must not come back together.
                let wait = Duration::from_millis(rand::random_range(1_000..=3_000));
                Self::Snooze { wait, why: "the bucket asks for fewer requests" }
            }
            other => Self::Retry(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_were_throttled_together_come_back_apart() {
        let waits: std::collections::HashSet<_> = (0..20)
            .map(|_| match JobError::from(BucketError::Throttled { op: "head" }) {
                JobError::Snooze { wait, .. } => wait,
                other => panic!("{other}"),
            })
            .collect();

        assert!(waits.len() > 10, "{waits:?}");
        assert!(waits.iter().all(|wait| (1..=3).contains(&wait.as_secs())), "{waits:?}");
    }
}
