//! Does nothing: for measuring a queue and for trying whether workers work.
//!
//! Before: nothing. A second run does nothing too.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};

/// Nothing, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Noop {
    /// Told apart by this.
    pub id: Uuid,
}

impl Job for Noop {
    const KIND: &'static str = "noop";
    const POOL: Pool = Pool::Upkeep;

    fn subject(&self) -> Uuid {
        self.id
    }

    async fn run(self, _ctx: &Context) -> Result<End, JobError> {
        Ok(End::Done)
    }
}
