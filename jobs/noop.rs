//! `noop`: a job that touches nothing, for benches, drills and the contract tests of queues.
//!
//! It belongs to no edge of the state machine and needs nothing to hold before; that it has begun is announced under its id, in its process.
//! A second run does the same again. It ends as [`Act`] tells it to, so that an operator can rehearse a failing job.

use std::future;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::model::Status;

/// Does nothing, in one of several ways.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Noop {
    /// Whatever makes it differ from another.
    pub id: Uuid,
    /// How it ends.
    #[serde(default, skip_serializing_if = "Act::is_done")]
    pub act: Act,
}

/// How a [`Noop`] ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Well.
    #[default]
    Done,
    /// With an error that a later attempt may cure.
    Fail,
    /// With an error that no attempt cures.
    GiveUp,
    /// Too early.
    Snooze,
    /// By a panic.
    Panic,
    /// Not at all, until its time limit ends it.
    Hang,
}

impl Act {
    fn is_done(&self) -> bool {
        *self == Self::Done
    }
}

impl Noop {
    /// One that ends well.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self { id, act: Act::Done }
    }
}

impl Job for Noop {
    const KIND: &'static str = "noop";
    const POOL: Pool = Pool::Upkeep;
    const TIME_LIMIT: Duration = Duration::from_secs(2);

    fn subject(&self) -> Uuid {
        self.id
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        ctx.db.moves().announce_here(self.id, Status::Done);
        match self.act {
            Act::Done => Ok(End::Done),
            Act::Fail => Err(JobError::Retry("it was told to fail".into())),
            Act::GiveUp => Err(JobError::GiveUp("it was told to give up".into())),
            Act::Snooze => Err(JobError::Snooze { wait: Duration::from_secs(60), why: "it was told to snooze" }),
            Act::Panic => panic!("it was told to panic"),
            Act::Hang => future::pending().await,
        }
    }
}
