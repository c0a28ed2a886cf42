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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::LedgerError;
    use crate::ledger::idempotency::Standing;
    use crate::model::Digest;
    use crate::model::idempotency::{IdempotencyKey, Route};
    use crate::testkit::World;

    crate::on_every_engine! {
        a_key_is_forgotten_a_day_after_its_first_use,
        an_old_key_may_be_used_anew_before_it_is_forgotten,
    }

    fn key(world: &World, text: &str) -> IdempotencyKey {
        let (key, body_sha256) = (text.to_owned(), Digest::of(b"body"));
        IdempotencyKey { org_id: world.org, route: Route::Uploads, key, body_sha256, sent_at: world.ctx.now() }
    }

    async fn a_key_is_forgotten_a_day_after_its_first_use(world: World) {
        let db = &world.ctx.db;
        let (old, made) = (key(&world, "old"), Uuid::now_v7());
        idempotency::keep(db, old.clone(), made).await.unwrap();
        world.clock.advance(Duration::from_secs(1));
        idempotency::keep(db, key(&world, "young"), made).await.unwrap();

        world.clock.advance(KEY_LIFE - Duration::from_secs(1));

        assert_eq!(idempotency::find(db, &old).await.unwrap(), Some(Standing::Made(made)));
        assert_eq!(idempotency::find(db, &key(&world, "old")).await.unwrap(), None, "its day is over");
        assert_eq!(ForgetKeys {}.run(&world.ctx).await.unwrap(), End::Done);
        assert_eq!(idempotency::find(db, &old).await.unwrap(), None);
        assert_eq!(idempotency::find(db, &key(&world, "young")).await.unwrap(), Some(Standing::Made(made)));
        assert_eq!(ForgetKeys {}.run(&world.ctx).await.unwrap(), End::Moot);
    }

    async fn an_old_key_may_be_used_anew_before_it_is_forgotten(world: World) {
        let db = &world.ctx.db;
        idempotency::keep(db, key(&world, "k"), Uuid::now_v7()).await.unwrap();
        let taken = idempotency::keep(db, key(&world, "k"), Uuid::now_v7()).await;
        assert!(matches!(taken, Err(LedgerError::Repeated)));

        world.clock.advance(KEY_LIFE);
        let (again, made) = (IdempotencyKey { body_sha256: Digest::of(b"other"), ..key(&world, "k") }, Uuid::now_v7());
        idempotency::keep(db, again.clone(), made).await.unwrap();

        assert_eq!(idempotency::find(db, &again).await.unwrap(), Some(Standing::Made(made)));
        assert_eq!(idempotency::find(db, &key(&world, "k")).await.unwrap(), Some(Standing::OtherBody));
    }
}
