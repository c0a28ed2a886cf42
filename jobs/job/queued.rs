//! A job on its way through a queue: what is pushed, and what a worker is handed.

use uuid::Uuid;

use super::{Job, Lane, Pool};
use crate::model::Timestamp;
use crate::roster;

/// A job on its way to the queue. Made from a [`Job`] alone, so that what is not on the roster cannot be enqueued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    kind: &'static str,
    pool: Pool,
    max_attempts: u32,
    subject: Uuid,
    payload: String,
    lane: Lane,
    due: Timestamp,
}

impl NewJob {
    /// The job, to run at `due` or soon after.
    #[must_use]
    pub fn of<J: Job>(job: &J, lane: Lane, due: Timestamp) -> Self {
        debug_assert!(roster::find(J::KIND).is_some(), "{} is not on the roster", J::KIND);
        let payload = serde_json::to_string(job).expect("a payload is a struct of ids");
        Self { kind: J::KIND, pool: J::POOL, max_attempts: J::ATTEMPTS, subject: job.subject(), payload, lane, due }
    }

    /// A job as a queue has kept it, for instance to put a dead one on again; `None` when its kind is not on the roster.
    #[must_use]
    pub fn revive(kind: &str, subject: Uuid, payload: String, lane: Lane, due: Timestamp) -> Option<Self> {
        let entry = roster::find(kind)?;
        let (kind, pool, max_attempts) = (entry.kind, entry.pool, entry.attempts);
        Some(Self { kind, pool, max_attempts, subject, payload, lane, due })
    }

    /// This job and an earlier push of the same one as one job: the earlier due time, the better lane, this payload.
    #[must_use]
    pub fn joined_to(self, earlier: &Self) -> Self {
        Self { lane: self.lane.min(earlier.lane), due: self.due.min(earlier.due), ..self }
    }

    /// Its name on the roster.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Who runs it.
    #[must_use]
    pub const fn pool(&self) -> Pool {
        self.pool
    }

    /// How often it is tried.
    #[must_use]
    pub const fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// What it is about.
    #[must_use]
    pub const fn subject(&self) -> Uuid {
        self.subject
    }

    /// Its payload as JSON.
    #[must_use]
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Who goes first.
    #[must_use]
    pub const fn lane(&self) -> Lane {
        self.lane
    }

    /// Not before.
    #[must_use]
    pub const fn due(&self) -> Timestamp {
        self.due
    }
}

/// A job as a worker holds it.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its name; perhaps not on this program's roster.
    pub kind: String,
    /// What it is about.
    pub subject: Uuid,
    /// Its payload as JSON.
    pub payload: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// When it was due.
    pub due: Timestamp,
}
