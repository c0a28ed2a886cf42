//! Closes prefix batches whose policy ended a while ago, and rejects what their manifests have promised and nobody has sent.
//!
//! Before: the policy's end and a grace have passed, since a slow post that began in time may land later. A last listing has the
//! first word: as long as it finds an object without an upload, the batch stays open for the next run, but for a day at most: what
//! could not be let in by then never will be. A second run goes on with what is missing. It ends when every batch that is due was looked at once. Whatever lands later is removed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Pool};
use crate::ledger::{listings, manifests, prefixes};
use crate::list_batch::list_page;
use crate::model::Batch;
use crate::model::upload::ArrivedVia;

/// How many batches are read at once.
const PAGE: i64 = 100;
/// How long past the grace an object without an upload keeps its batch open.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// How many missing files are written together.
const TOGETHER: i64 = 500;

/// Closes what is due.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CloseBatches {}

impl Job for CloseBatches {
    const KIND: &'static str = "close_batches";
    const POOL: Pool = Pool::Upkeep;
    /// A million promised files that nobody sent take a while.
    const TIME_LIMIT: Duration = Duration::from_secs(1800);

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let before = ctx.now() - ctx.limits.expiry_grace;
        let (mut after, mut failed) = (None, None);
        loop {
            let due = listings::due_to_close(&ctx.db, before, after, PAGE).await?;
            let Some(last) = due.last().and_then(|batch| Some((batch.policy_expires_at?, batch.id))) else {
                break;
            };
            for batch in &due {
                // One whose objects cannot be listed keeps nobody else's open.
                if let Err(error) = close(ctx, batch).await {
                    failed = failed.or(Some(error));
                }
            }
            after = Some(last);
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(if after.is_none() { End::Moot } else { End::Done }),
        }
    }
}

async fn close(ctx: &Context, batch: &Batch) -> Result<(), JobError> {
    if is_waited_for(ctx, batch).await? {
        let last = batch.policy_expires_at.map(|ends| ends + ctx.limits.expiry_grace + PATIENCE);
        if last.is_none_or(|last| ctx.now() < last) {
            return Ok(());
        }
        tracing::error!(batch = %batch.id, "closed, although objects lie there that could not be let in for a day");
    }
    reject_missing(ctx, batch).await?;
    if listings::close(&ctx.db, batch, ctx.now()).await? {
        tracing::info!(batch = %batch.id, "closed");
        manifests::remove(&ctx.db, batch.id, None).await?;
    }
    Ok(())
}

/// Whether an object lies there that is no upload yet.
async fn is_waited_for(ctx: &Context, batch: &Batch) -> Result<bool, JobError> {
    let (mut after, mut found) = (None, 0);
    loop {
        let (new, next) = list_page(ctx, batch, after.as_deref(), ArrivedVia::Poll).await?;
        found += new;
        after = next;
        if after.is_none() {
            return Ok(found > 0);
        }
    }
}

async fn reject_missing(ctx: &Context, batch: &Batch) -> Result<(), JobError> {
    if batch.manifest.is_none() {
        return Ok(());
    }
    let mut after = String::new();
    loop {
        let missing = manifests::missing(&ctx.db, batch, &after, TOGETHER).await?;
        let Some(last) = missing.last() else { return Ok(()) };
        after.clone_from(&last.path);
        prefixes::miss(&ctx.db, batch, missing, ctx.now()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::manifests::Held;
    use crate::model::Status;
    use crate::model::upload::Reason;
    use crate::testkit::World;

    crate::on_every_engine! {
        a_batch_closes_after_its_policy_and_the_grace,
        what_the_manifest_promised_and_nobody_sent_is_missing,
        an_object_that_nobody_told_of_is_let_in_before_the_batch_closes,
        an_object_that_is_never_let_in_keeps_its_batch_open_for_a_day,
        a_batch_whose_objects_cannot_be_listed_keeps_no_other_open,
        a_renewed_policy_keeps_a_batch_open,
        a_manifest_that_came_in_between_keeps_a_batch_open,
    }

    async fn over(world: &World) {
        world.clock.advance(Duration::from_secs(900 + 3601));
    }

    async fn a_batch_closes_after_its_policy_and_the_grace(world: World) {
        let batch = world.prefix_batch(10).await;

        world.clock.advance(Duration::from_secs(900 + 3599));
        assert_eq!(CloseBatches {}.run(&world.ctx).await.unwrap(), End::Moot);
        assert_eq!(world.batch(batch.id).await.closed_at, None);

        world.clock.advance(Duration::from_secs(2));
        assert_eq!(CloseBatches {}.run(&world.ctx).await.unwrap(), End::Done);
        let closed = world.batch(batch.id).await;
        assert_eq!((closed.closed_at, closed.next_poll_at), (Some(world.ctx.now()), None));
        assert_eq!(CloseBatches {}.run(&world.ctx).await.unwrap(), End::Moot);
    }

    async fn what_the_manifest_promised_and_nobody_sent_is_missing(world: World) {
        let batch = world.prefix_batch(2_000).await;
        let missing: Vec<String> = (0..1_100).map(|number| format!("missing/{number:04}")).collect();
        let mut lines: Vec<(&str, &[u8])> = vec![("good", b"good"), ("other", b"promised")];
        lines.extend(missing.iter().map(|path| (path.as_str(), &b"never"[..])));
        assert_eq!(world.pin(&batch, &lines).await, Held::Yes);
        for (path, bytes) in [("good", &b"good"[..]), ("other", b"delivered"), ("extra", b"unpinned")] {
            let key = world.land_in(&batch, path, bytes);
            world.notice_of(&key).await;
        }
        world.drain().await;

        over(&world).await;
        world.ctx.push(&CloseBatches {}).await.unwrap();
        world.drain().await;

        let files = world.files_of(&batch).await;
        let of = |path: &str| files.iter().find(|file| file.0 == path).map(|file| (file.1, file.2)).unwrap();
        assert_eq!(of("good"), (Status::Done, None));
        assert_eq!(of("extra"), (Status::Done, None));
        assert_eq!(of("other"), (Status::Rejected, Some(Reason::DigestMismatch)));
        assert_eq!(files.iter().filter(|file| file.2 == Some(Reason::ObjectMissing)).count(), missing.len());
        assert!(world.batch(batch.id).await.closed_at.is_some() && world.staged_keys().is_empty());
    }

    async fn an_object_that_nobody_told_of_is_let_in_before_the_batch_closes(world: World) {
        let batch = world.prefix_batch(10).await;
        world.pin(&batch, &[("silent", b"silent")]).await;
        world.land_in(&batch, "silent", b"silent");

        over(&world).await;
        for closed in [false, true] {
            assert_eq!(world.batch(batch.id).await.closed_at, None);
            world.ctx.push(&CloseBatches {}).await.unwrap();
            world.drain().await;
            assert_eq!(world.batch(batch.id).await.closed_at.is_some(), closed);
        }

        assert_eq!(world.files_of(&batch).await, [("silent".to_owned(), Status::Done, None)]);
    }

    async fn an_object_that_is_never_let_in_keeps_its_batch_open_for_a_day(world: World) {
        let batch = world.prefix_batch(10).await;
        world.land_in(&batch, "stuck", b"bytes");

        over(&world).await;
        world.clock.advance(PATIENCE - Duration::from_secs(2));
        for closed in [false, true] {
            assert_eq!(CloseBatches {}.run(&world.ctx).await.unwrap(), End::Done);
            world.queue.forget();
            assert_eq!(world.batch(batch.id).await.closed_at.is_some(), closed);
            world.clock.advance(Duration::from_secs(2));
        }
    }

    async fn a_batch_whose_objects_cannot_be_listed_keeps_no_other_open(world: World) {
        let (sick, well) = (world.prefix_batch(10).await, world.prefix_batch(10).await);
        world.bucket.break_key(&crate::model::keys::batch_prefix(world.org, sick.id));

        over(&world).await;
        let ended = CloseBatches {}.run(&world.ctx).await;

        assert!(matches!(ended, Err(JobError::Retry(_))));
        assert_eq!(world.batch(sick.id).await.closed_at, None);
        assert!(world.batch(well.id).await.closed_at.is_some());
    }

    async fn a_renewed_policy_keeps_a_batch_open(world: World) {
        let seen = world.prefix_batch(10).await;
        let (now, later) = (world.ctx.now(), world.ctx.now() + Duration::from_secs(9_000));
        let policy = ("{}".to_owned(), later);
        assert!(prefixes::renew(&world.ctx.db, seen.id, policy.clone(), (now, now)).await.unwrap());

        assert!(!listings::close(&world.ctx.db, &seen, now).await.unwrap());

        let seen = world.batch(seen.id).await;
        assert!(
            !prefixes::renew(&world.ctx.db, seen.id, policy.clone(), (later + Duration::from_secs(1), now))
                .await
                .unwrap()
        );
        assert!(listings::close(&world.ctx.db, &seen, now).await.unwrap());
        assert!(!prefixes::renew(&world.ctx.db, seen.id, policy, (now, now)).await.unwrap());
    }

    async fn a_manifest_that_came_in_between_keeps_a_batch_open(world: World) {
        let seen = world.prefix_batch(10).await;
        world.pin(&seen, &[("a", b"a")]).await;

        assert!(!listings::close(&world.ctx.db, &seen, world.ctx.now()).await.unwrap());
        let seen = world.batch(seen.id).await;
        assert!(listings::close(&world.ctx.db, &seen, world.ctx.now()).await.unwrap());
        assert_eq!(world.pin(&seen, &[("b", b"b")]).await, Held::Closed);
    }
}
