//! Waits for an upload to get where an answer needs it.

use std::time::Duration;

use longshore_jobs::ledger::{Db, LedgerError, Waiter, uploads};
use longshore_jobs::model::{Status, Upload};
use tokio::time::Instant;

/// How often the row is read again although nothing was announced: another process may have moved it.
const READ_AGAIN: Duration = Duration::from_millis(250);
/// How soon it is read for the first time.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// Until when to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The client has a policy, or needs none any more.
    Policy,
    /// Nothing more is expected to happen.
    End,
}

impl Goal {
    fn may_be_reached_by(self, status: Status) -> bool {
        match self {
            Self::Policy => status != Status::Requested,
            Self::End => status.is_final(),
        }
    }

    fn is_reached(self, row: &Upload) -> bool {
        match self {
            Self::Policy => !lacks_policy(row),
            Self::End => row.status.is_final(),
        }
    }
}

/// Whether a worker has yet to sign its policy.
pub fn lacks_policy(upload: &Upload) -> bool {
    upload.status == Status::Requested || (upload.status == Status::Issued && upload.policy.is_none())
}

/// Somebody who waits for an upload to get somewhere.
pub struct Watch {
    db: Db,
    waiter: Waiter,
    seen: Upload,
}

/// Starts to listen for moves of the row that was `seen`. Call it before the job is pushed that will move it.
pub fn watch(db: &Db, seen: Upload) -> Watch {
    Watch { db: db.clone(), waiter: db.moves().watch(seen.id), seen }
}

impl Watch {
    /// The row as soon as it has reached the goal, or as it is after `longest`.
    pub async fn until(mut self, longest: Duration, goal: Goal) -> Result<Upload, LedgerError> {
        let deadline = Instant::now() + longest;
        // A move between the reading of `seen` and the start of the watch was not heard.
        let mut patience = FIRST_LOOK;
        while !goal.is_reached(&self.seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // Whether it was announced or is only time to look again, the row says how it stands.
            let moved = self.waiter.moved(|status| goal.may_be_reached_by(status));
            drop(tokio::time::timeout(left.min(patience), moved).await);
            patience = READ_AGAIN;
            self.seen = uploads::find(&self.db, self.seen.id).await?.unwrap_or(self.seen);
        }
        Ok(self.seen)
    }
}
