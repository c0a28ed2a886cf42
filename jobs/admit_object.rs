//! An object under a batch's prefix → arrived, or rejected: makes an upload of what a client has put where it was allowed to.
//!
//! Before: the batch is open. There need be no row for the object: its key is what it is known by. A second run, as after a
//! doubled notice, finds the row and goes the way of `record_arrival`. What comes for a closed batch is removed, as is what is
//! refused: more files than the batch allows, a path that climbs. It ends when the object has a row, or is gone.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::prefixes::{self, Admitted, Object};
use crate::model::keys;
use crate::model::upload::ArrivedVia;
use crate::outside::ObjectHead;
use crate::record_arrival::{applied, count, record};
use crate::verify_upload::VerifyUpload;

/// Looks at one object of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdmitObject {
    /// Where it is.
    pub key: String,
    /// Who says so.
    pub via: ArrivedVia,
}

impl Job for AdmitObject {
    const KIND: &'static str = "admit_object";
    const POOL: Pool = Pool::Arrive;

    /// By the key's SHA-256, as a UUID of version 8 (RFC 9562, appendix B.2).
    fn subject(&self) -> Uuid {
        let hash: [u8; 32] = Sha256::digest(self.key.as_bytes()).into();
        let (half, _) = hash.split_first_chunk().expect("32 bytes are more than 16");
        Builder::from_custom_bytes(*half).into_uuid()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let Some((batch, path)) = keys::batch_of(&self.key) else {
            count(self.via, "unknown_key");
            return Ok(End::Moot);
        };
        let Some(head) = ctx.bucket.head(&self.key).await? else {
            count(self.via, "stale");
            return Ok(End::Moot);
        };
        let content_type = mime_guess::from_path(path).first_raw().map(str::to_owned);
        let now = ctx.now();
        let resume_at = now + ctx.limits.resume_after;
        let object = Object { batch, head: head.clone(), content_type, via: self.via, now, resume_at };
        let admitted = prefixes::admit(&ctx.db, object).await?;
        follow(ctx, &head, self.via, admitted).await
    }
}

impl AdmitObject {
    /// The job for an object that was told of, one of very many.
    #[must_use]
    pub fn told(ctx: &Context, key: String, via: ArrivedVia) -> NewJob {
        NewJob::of(&Self { key, via }, Lane::Bulk, ctx.now())
    }
}

async fn follow(ctx: &Context, head: &ObjectHead, via: ArrivedVia, admitted: Admitted) -> Result<End, JobError> {
    match admitted {
        Admitted::Arrived(upload) => {
            applied(via, ctx.now().since(head.modified_at));
            ctx.queue.push(vec![NewJob::of(&VerifyUpload { upload }, Lane::Bulk, ctx.now())]).await?;
            Ok(End::Done)
        }
        Admitted::Rejected(upload, reason) => {
            count(via, "applied");
            tracing::info!(%upload, %reason, "rejected");
            ctx.bucket.delete(std::slice::from_ref(&head.key)).await?;
            Ok(End::Done)
        }
        Admitted::Refused(reason) => {
            count(via, "applied");
            tracing::debug!(key = %head.key, %reason, "refused without a row");
            ctx.bucket.delete(std::slice::from_ref(&head.key)).await?;
            Ok(End::Done)
        }
        Admitted::Stands => match prefixes::standing(&ctx.db, &[&head.key]).await?.pop() {
            Some(upload) => record(ctx, upload, via).await,
            None => Ok(End::Moot),
        },
        Admitted::Closed => {
            count(via, "stale");
            ctx.bucket.delete(std::slice::from_ref(&head.key)).await?;
            Ok(End::Moot)
        }
        // Perhaps it is one of another ledger's.
        Admitted::Unknown => {
            count(via, "unknown_key");
            Ok(End::Moot)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::{batches, listings};
    use crate::model::batch::Count;
    use crate::model::upload::Reason;
    use crate::model::{Batch, Digest, Status, Timestamp};
    use crate::testkit::World;

    crate::on_every_engine! {
        files_under_a_prefix_become_uploads_named_by_their_paths,
        a_doubled_notice_changes_nothing,
        a_second_object_of_a_finished_key_is_removed,
        unsafe_paths_are_rejected_and_removed_and_take_no_place,
        a_file_over_the_batchs_size_is_rejected,
        no_more_files_are_let_in_than_the_batch_allows_however_many_come_at_once,
        of_refused_objects_without_end_no_more_rows_are_kept,
        of_the_same_object_at_once_one_becomes_an_upload,
        what_lands_in_a_closed_batch_is_removed,
        an_object_of_no_batch_is_left_alone,
    }

    fn rejected(name: &str, reason: Reason) -> (String, Status, Option<Reason>) {
        (name.to_owned(), Status::Rejected, Some(reason))
    }

    fn done(name: &str) -> (String, Status, Option<Reason>) {
        (name.to_owned(), Status::Done, None)
    }

    async fn files_under_a_prefix_become_uploads_named_by_their_paths(world: World) {
        let batch = world.prefix_batch(10).await;
        for path in ["a.jpg", "deep/er/наряд 🎉.png", "no type"] {
            let key = world.land_in(&batch, path, path.as_bytes());
            world.notice_of(&key).await;
        }
        world.drain().await;

        assert_eq!(world.files_of(&batch).await, [done("a.jpg"), done("deep/er/наряд 🎉.png"), done("no type")]);
        assert_eq!((world.staged_keys().len(), world.batch(batch.id).await.admitted), (0, 3));
        let key = format!("{}a.jpg", keys::batch_prefix(world.org, batch.id));
        let row = prefixes::standing(&world.ctx.db, &[&key]).await.unwrap().remove(0);
        assert_eq!((row.content_type.as_deref(), row.arrived_via), (Some("image/jpeg"), Some(ArrivedVia::Notice)));
        assert_eq!(row.verified_sha256, Some(Digest::of(b"a.jpg")));
        assert_eq!(world.report().await.files, 3);
    }

    async fn a_doubled_notice_changes_nothing(world: World) {
        let batch = world.prefix_batch(10).await;
        let key = world.land_in(&batch, "a", b"bytes");
        for _ in 0..3 {
            AdmitObject { key: key.clone(), via: ArrivedVia::Notice }.run(&world.ctx).await.unwrap();
        }
        world.drain().await;
        world.notice_of(&key).await;
        world.drain().await;

        assert_eq!(world.files_of(&batch).await, [done("a")]);
        assert_eq!((world.batch(batch.id).await.admitted, world.entries_of(b"bytes").await), (1, 1));
    }

    async fn a_second_object_of_a_finished_key_is_removed(world: World) {
        let batch = world.prefix_batch(10).await;
        for bytes in [b"first", b"later"] {
            let key = world.land_in(&batch, "a", bytes);
            world.notice_of(&key).await;
            world.drain().await;
        }

        assert_eq!(world.files_of(&batch).await, [done("a")]);
        assert_eq!((world.staged_keys(), world.entries_of(b"first").await), (Vec::new(), 1));
        assert_eq!(world.entries_of(b"later").await, 0);
    }

    async fn unsafe_paths_are_rejected_and_removed_and_take_no_place(world: World) {
        let batch = world.prefix_batch(1).await;
        let paths = ["", "../up", "a//b", "a\\b", "line\nend"];
        for path in paths.iter().chain(&["good"]) {
            let key = world.land_in(&batch, path, b"x");
            world.notice_of(&key).await;
            world.drain().await;
        }

        let mut expected: Vec<_> = paths.iter().map(|path| rejected(path, Reason::UnsafePath)).collect();
        expected.push(done("good"));
        expected.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(world.files_of(&batch).await, expected);
        assert!(world.staged_keys().is_empty());
    }

    async fn a_file_over_the_batchs_size_is_rejected(world: World) {
        let batch = world.prefix_batch(1).await;
        let key = world.land_in(&batch, "a", &[7; 1_001]);
        world.notice_of(&key).await;
        world.drain().await;

        assert_eq!(world.files_of(&batch).await, [rejected("a", Reason::TooLarge)]);
        assert!(world.staged_keys().is_empty());
    }

    fn object(batch: &Batch, key: &str, now: Timestamp) -> Object {
        let head =
            ObjectHead { key: key.to_owned(), size: 1, etag: "v".to_owned(), content_type: None, modified_at: now };
        Object { batch: batch.id, head, content_type: None, via: ArrivedVia::Notice, now, resume_at: now }
    }

    async fn no_more_files_are_let_in_than_the_batch_allows_however_many_come_at_once(world: World) {
        let (batch, other) = (world.prefix_batch(37).await, world.prefix_batch(5).await);
        let (here, beside, now) = (world.ctx.db.clone(), world.beside().await, world.ctx.now());
        let prefixes: Vec<_> = [&batch, &other].iter().map(|one| keys::batch_prefix(world.org, one.id)).collect();
        let asked = (0..400).map(|number| {
            let which = number % 4 / 3;
            let object = object([&batch, &other][which], &format!("{}{number}", prefixes[which]), now);
            let db = if number % 2 == 0 { here.clone() } else { beside.clone() };
            async move { prefixes::admit(&db, object).await.unwrap() }
        });

        let answers = futures_util::future::join_all(asked).await;

        let arrived = |answers: &[Admitted]| answers.iter().filter(|one| matches!(one, Admitted::Arrived(_))).count();
        assert_eq!(arrived(&answers), 42);
        for (batch, allowed, over) in [(&batch, 37, 263), (&other, 5, 95)] {
            let mut counts = batches::counts(&world.ctx.db, batch.id).await.unwrap();
            counts.sort_by_key(|count| count.status);
            let count = |status, uploads| Count { status, uploads, bytes: uploads };
            assert_eq!(counts, [count(Status::Arrived, allowed), count(Status::Rejected, over)]);
            assert_eq!(world.batch(batch.id).await.admitted, allowed);
            assert_eq!(
                world.files_of(batch).await.iter().filter(|file| file.2 == Some(Reason::TooManyFiles)).count(),
                usize::try_from(over).unwrap()
            );
        }
    }

    async fn of_refused_objects_without_end_no_more_rows_are_kept(world: World) {
        let (batch, now) = (world.prefix_batch(2).await, world.ctx.now());
        let prefix = keys::batch_prefix(world.org, batch.id);
        let asked = (0..1_010).map(|number| {
            let object = object(&batch, &format!("{prefix}{number}"), now);
            prefixes::admit(&world.ctx.db, object)
        });

        let answers = futures_util::future::join_all(asked).await;

        let refused = |one: &&Result<_, _>| matches!(one, Ok(Admitted::Refused(Reason::TooManyFiles)));
        assert_eq!(answers.iter().filter(refused).count(), 6);
        assert_eq!(world.files_of(&batch).await.len(), 2 + 1_002);
        let key = world.land_in(&batch, "one more", b"bytes");
        world.notice_of(&key).await;
        world.drain().await;
        assert_eq!((world.files_of(&batch).await.len(), world.staged_keys()), (2 + 1_002, Vec::new()));
    }

    async fn of_the_same_object_at_once_one_becomes_an_upload(world: World) {
        let batch = world.prefix_batch(10).await;
        let (here, beside, now) = (world.ctx.db.clone(), world.beside().await, world.ctx.now());
        let key = format!("{}a", keys::batch_prefix(world.org, batch.id));
        let asked = (0..40).map(|number| {
            let (object, db) = (object(&batch, &key, now), if number % 2 == 0 { here.clone() } else { beside.clone() });
            async move { prefixes::admit(&db, object).await.unwrap() }
        });

        let answers = futures_util::future::join_all(asked).await;

        assert_eq!(answers.iter().filter(|one| matches!(one, Admitted::Arrived(_))).count(), 1);
        assert_eq!(answers.iter().filter(|one| matches!(one, Admitted::Stands)).count(), 39);
        assert_eq!(world.batch(batch.id).await.admitted, 1);
    }

    async fn what_lands_in_a_closed_batch_is_removed(world: World) {
        let batch = world.prefix_batch(10).await;
        assert!(listings::close(&world.ctx.db, &batch, world.ctx.now()).await.unwrap());
        let key = world.land_in(&batch, "late", b"bytes");
        world.notice_of(&key).await;
        world.drain().await;

        assert_eq!((world.files_of(&batch).await, world.staged_keys()), (Vec::new(), Vec::new()));
    }

    async fn an_object_of_no_batch_is_left_alone(world: World) {
        let stranger = Batch::prefix((world.org, Uuid::nil()), None, (1, 1), world.ctx.now());
        let each = Batch::each((world.org, Uuid::nil()), None, 1, world.ctx.now());
        batches::insert(&world.ctx.db, each.clone(), Vec::new(), None).await.unwrap();
        let mine = world.prefix_batch(10).await;
        let elsewhere = Batch { org_id: Uuid::now_v7(), ..mine.clone() };
        for batch in [&stranger, &each, &elsewhere] {
            let key = world.land_in(batch, "a", b"bytes");
            world.notice_of(&key).await;
        }
        world.clock.advance(Duration::from_secs(1));
        world.drain().await;

        assert_eq!(world.staged_keys().len(), 3, "another ledger may know them");
        assert!(world.files_of(&mine).await.is_empty());
    }
}
