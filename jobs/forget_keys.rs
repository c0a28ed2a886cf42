//! Forgets idempotency keys that are a day old.
//!
//! Before: nothing. A key that is too old counts for nothing even before it is forgotten, so this only keeps the table small. A
//! second run finds none. It ends when no old key is left.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::ledger::idempotency;
use crate::model::idempotency::KEY_LIFE;

/// How many go in one transaction.
const PAGE: i64 = 5_000;

/// Forgets what is old enough.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ForgetKeys {}

impl Job for ForgetKeys {
    const KIND: &'static str = "forget_keys";
    const POOL: Pool = Pool::Upkeep;
    /// A day of a busy service is millions of keys, should the schedule have stood still.
    const TIME_LIMIT: std::time::Duration = std::time::Duration::from_secs(1800);

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let before = ctx.now() - KEY_LIFE;
        let mut forgotten = 0;
        loop {
            let page = idempotency::forget(&ctx.db, before, PAGE).await?;
            forgotten += page;
            if page == 0 {
                return Ok(if forgotten == 0 { End::Moot } else { End::Done });
            }
        }
    }
}
