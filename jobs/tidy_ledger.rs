//! Removes from the ledger what nobody needs any more: idempotency keys that are a day old, failed attempts of last month, and
//! the lines of manifests that never came into force, or whose batch is over for good.
//!
//! Before: nothing. A key that is too old counts for nothing even before it is forgotten, and lines that do not hold pin nothing,
//! so this only keeps the tables small. A second run finds none. It ends when nothing old is left.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::ledger::manifests::spent;
use crate::ledger::{LedgerError, failures, idempotency};
use crate::model::idempotency::KEY_LIFE;

/// How many go in one transaction.
const PAGE: i64 = 5_000;
/// How long after its last one the failed attempts of a job are kept.
pub const FAILURES_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Removes what is old enough.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct TidyLedger {}

impl Job for TidyLedger {
    const KIND: &'static str = "tidy_ledger";
    const POOL: Pool = Pool::Upkeep;
    /// A day of a busy service is millions of keys, should the schedule have stood still.
    const TIME_LIMIT: Duration = Duration::from_secs(1800);

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let (db, now) = (&ctx.db, ctx.now());
        let keys = page_by_page(|| idempotency::forget(db, now - KEY_LIFE, PAGE)).await?;
        let failed = page_by_page(|| failures::forget(db, now - FAILURES_KEPT, PAGE)).await?;
        let manifests = forget_manifests(ctx).await?;
        Ok(if keys + failed + manifests == 0 { End::Moot } else { End::Done })
    }
}

async fn page_by_page<F>(forget: impl Fn() -> F) -> Result<u64, LedgerError>
where
    F: Future<Output = Result<u64, LedgerError>>,
{
    let mut forgotten = 0;
    loop {
        let page = forget().await?;
        forgotten += page;
        if page == 0 {
            return Ok(forgotten);
        }
    }
}

/// How many manifests went.
async fn forget_manifests(ctx: &Context) -> Result<u64, JobError> {
    let (mut after, mut forgotten) = (spent::BEFORE_ALL, 0);
    while let Some(place) = spent::next(&ctx.db, after).await? {
        forgotten += u64::from(spent::forget(&ctx.db, place, ctx.now()).await?);
        after = place;
    }
    Ok(forgotten)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Delivery;
    use crate::ledger::batches;
    use crate::ledger::idempotency::Standing;
    use crate::ledger::manifests::{self, Held};
    use crate::model::idempotency::{IdempotencyKey, Route};
    use crate::model::manifest::Line;
    use crate::model::{Batch, Digest};
    use crate::noop::{Act, Noop};
    use crate::testkit::World;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    crate::on_every_engine! {
        a_key_is_forgotten_a_day_after_its_first_use,
        an_old_key_may_be_used_anew_before_it_is_forgotten,
        failed_attempts_are_forgotten_a_month_after_the_last,
        lines_that_never_came_into_force_go_after_a_day_and_those_that_hold_stay,
        lines_of_a_closed_batch_go_after_a_month_unless_an_upload_may_need_them,
    }

    fn key(world: &World, text: &str) -> IdempotencyKey {
        let (key, body_sha256) = (text.to_owned(), Digest::of(b"body"));
        IdempotencyKey { org_id: world.org, route: Route::Uploads, key, body_sha256, sent_at: world.ctx.now() }
    }

    async fn tidy(world: &World) -> End {
        TidyLedger {}.run(&world.ctx).await.unwrap()
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
        assert_eq!(tidy(&world).await, End::Done);
        assert_eq!(idempotency::find(db, &old).await.unwrap(), None);
        assert_eq!(idempotency::find(db, &key(&world, "young")).await.unwrap(), Some(Standing::Made(made)));
        assert_eq!(tidy(&world).await, End::Moot);
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

    async fn fail(world: &World, id: Uuid) {
        let payload = serde_json::to_string(&Noop { id, act: Act::Fail }).unwrap();
        let (kind, due) = (Noop::KIND.to_owned(), world.ctx.now());
        let delivery = Delivery { kind, subject: id, payload, attempt: 1, max_attempts: 3, due };
        crate::job::perform(&world.ctx, &delivery).await;
    }

    async fn failed_attempts_are_forgotten_a_month_after_the_last(world: World) {
        let (old, again) = (Uuid::now_v7(), Uuid::now_v7());
        fail(&world, old).await;
        fail(&world, again).await;
        world.clock.advance(DAY);
        fail(&world, again).await;

        world.clock.advance(FAILURES_KEPT - DAY);
        assert_eq!((tidy(&world).await, tidy(&world).await), (End::Done, End::Moot));

        let kept = failures::of(&world.ctx.db, &[old, again]).await.unwrap();
        assert_eq!(kept.iter().map(|kept| (kept.subject, kept.attempts)).collect::<Vec<_>>(), [(again, 2)]);
    }

    async fn lines(world: &World) -> Vec<String> {
        let query = "select path from manifest_lines order by path";
        sql!(world.ctx.db.reader(), c => sqlx::query_scalar(query).fetch_all(c).await).unwrap()
    }

    /// Lines of a manifest whose sender went away.
    async fn begin(world: &World, batch: &Batch, path: &str) {
        let line = Line { number: 1, path: path.to_owned(), sha256: Digest::of(b"b") };
        let generation = manifests::new_generation(world.ctx.now());
        manifests::add(&world.ctx.db, (batch.id, generation), &[line]).await.unwrap();
    }

    async fn lines_that_never_came_into_force_go_after_a_day_and_those_that_hold_stay(world: World) {
        let (one, other) = (world.prefix_batch(10).await, world.prefix_batch(10).await);
        assert_eq!(world.pin(&one, &[("held", b"a")]).await, Held::Yes);
        begin(&world, &one, "left").await;
        begin(&world, &other, "left too").await;
        world.clock.advance(Duration::from_secs(2));
        begin(&world, &one, "under way").await;

        world.clock.advance(spent::UNFINISHED - Duration::from_secs(1));
        assert_eq!((tidy(&world).await, tidy(&world).await), (End::Done, End::Moot));

        assert_eq!(lines(&world).await, ["held", "under way"]);
    }

    async fn lines_of_a_closed_batch_go_after_a_month_unless_an_upload_may_need_them(world: World) {
        let (over, late) = (world.prefix_batch(10).await, world.prefix_batch(10).await);
        for (batch, path) in [(&over, "over"), (&late, "late")] {
            world.pin(batch, &[(path, b"bytes")]).await;
            let key = world.land_in(batch, path, b"bytes");
            world.notice_of(&key).await;
            world.queue.drain(&world.ctx).await;
        }
        let straggler = world.land_in(&late, "straggler", b"bytes");
        let via = crate::model::upload::ArrivedVia::Notice;
        crate::admit_object::AdmitObject { key: straggler, via }.run(&world.ctx).await.unwrap();
        world.queue.forget();
        for batch in [&over, &late] {
            batches::close(&world.ctx.db, batch.id, world.ctx.now()).await.unwrap();
        }

        world.clock.advance(spent::CLOSED - Duration::from_secs(1));
        assert_eq!(tidy(&world).await, End::Moot);
        world.clock.advance(Duration::from_secs(1));
        assert_eq!((tidy(&world).await, tidy(&world).await), (End::Done, End::Moot));

        assert_eq!(lines(&world).await, ["late"]);
    }
}
