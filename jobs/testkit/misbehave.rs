//! A job that ends in whatever way a test asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};

/// Ends as told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Misbehave {
    /// Told apart by this.
    pub id: Uuid,
    /// In which way.
    pub how: How,
}

/// The ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// With an error that a later attempt may cure.
    Fail,
    /// With an error that no attempt cures.
    GiveUp,
    /// Too early.
    Snooze,
    /// In a panic.
    Panic,
    /// Not at all.
    Hang,
}

impl Job for Misbehave {
    const KIND: &'static str = "misbehave";
    const POOL: Pool = Pool::Upkeep;
    const ATTEMPTS: u32 = 3;
    const TIME_LIMIT: Duration = Duration::from_millis(20);

    fn subject(&self) -> Uuid {
        self.id
    }

    async fn run(self, _ctx: &Context) -> Result<End, JobError> {
        match self.how {
            How::Fail => Err(JobError::Retry("it failed".into())),
            How::GiveUp => Err(JobError::GiveUp("it is hopeless".into())),
            How::Snooze => Err(JobError::Snooze { wait: Duration::from_secs(7), why: "it is too early" }),
            How::Panic => panic!("it fell over"),
            How::Hang => std::future::pending().await,
        }
    }
}
