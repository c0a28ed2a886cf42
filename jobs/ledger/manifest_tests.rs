//! What manifests promise, beside what comes and what other manifests say.

use uuid::Uuid;

use super::batches;
use super::manifests::{self, Held};
use crate::model::batch::Progress;
use crate::model::manifest::Line;
use crate::model::{Batch, Digest, Upload};
use crate::testkit::World;

crate::on_every_engine! {
    files_that_no_line_names_leave_the_promised_ones_pending,
    a_manifest_that_was_overtaken_does_not_hold,
    a_manifest_that_comes_after_the_files_counts_them,
    a_known_upload_may_be_named_once_it_is_stored,
    a_manifest_that_denies_the_bytes_of_a_known_file_does_not_hold,
}

async fn pending(world: &World, batch: &Batch) -> i64 {
    let counts = batches::counts(&world.ctx.db, batch.id).await.unwrap();
    Progress::of(&world.batch(batch.id).await, &counts).pending
}

async fn land(world: &World, batch: &Batch, paths: &[&str]) {
    for path in paths {
        let key = world.land_in(batch, path, b"bytes");
        world.notice_of(&key).await;
    }
    world.drain().await;
}

fn line(path: &str, bytes: &[u8]) -> Line {
    Line { number: 1, path: path.to_owned(), sha256: Digest::of(bytes) }
}

async fn files_that_no_line_names_leave_the_promised_ones_pending(world: World) {
    let batch = world.prefix_batch(10).await;
    world.pin(&batch, &[("a", b"bytes"), ("b", b"bytes"), ("c", b"bytes")]).await;

    land(&world, &batch, &["a", "x", "y", "z", "a"]).await;
    assert_eq!((world.batch(batch.id).await.matched, pending(&world, &batch).await), (1, 2));

    let missing = manifests::missing(&world.ctx.db, &world.batch(batch.id).await, "", 10).await.unwrap();
    super::prefixes::miss(&world.ctx.db, &batch, missing, world.ctx.now()).await.unwrap();
    assert_eq!((world.batch(batch.id).await.matched, pending(&world, &batch).await), (3, 0));
}

async fn a_manifest_that_comes_after_the_files_counts_them(world: World) {
    let batch = world.prefix_batch(10).await;
    land(&world, &batch, &["a", "b", "x"]).await;

    assert_eq!(world.pin(&batch, &[("a", b"bytes"), ("b", b"bytes"), ("c", b"bytes")]).await, Held::Yes);
    assert_eq!((world.batch(batch.id).await.matched, pending(&world, &batch).await), (2, 1));

    assert_eq!(world.pin(&batch, &[("x", b"bytes"), ("c", b"bytes")]).await, Held::Yes);
    assert_eq!((world.batch(batch.id).await.matched, pending(&world, &batch).await), (1, 1));
    assert_eq!(world.pin(&batch, &[("x", b"other")]).await, Held::Stored("x".to_owned()));
    assert_eq!(world.batch(batch.id).await.matched, 1);
}

async fn a_manifest_that_was_overtaken_does_not_hold(world: World) {
    let (db, now, batch) = (&world.ctx.db, world.ctx.now(), world.prefix_batch(10).await);
    for (generation, path) in [(7, "slow"), (8, "fast")] {
        manifests::add(db, (batch.id, generation), &[line(path, b"bytes")]).await.unwrap();
    }

    assert_eq!(manifests::hold(db, (&batch, 8), 1, now).await.unwrap(), Held::Yes);
    assert_eq!(manifests::hold(db, (&batch, 7), 1, now).await.unwrap(), Held::Overtaken);

    assert_eq!(manifests::expected(db, batch.id, "fast").await.unwrap(), Some(Digest::of(b"bytes")));
    assert_eq!(manifests::expected(db, batch.id, "slow").await.unwrap(), None);
}

/// A batch that has found this upload under its ref.
async fn that_knows(world: &World, upload: &Upload) -> Batch {
    let batch = Batch::each((world.org, Uuid::nil()), None, 1, world.ctx.now());
    batches::insert(&world.ctx.db, batch.clone(), Vec::new(), None).await.unwrap();
    let (id, known) = (batch.id, upload.id);
    let query = "insert into batch_known (batch_id, upload_id) values ($1, $2)";
    let kept = world.ctx.db.write_one(move |mut tx| {
        Box::pin(
            async move { Ok(sql!(tx.on(), c => sqlx::query(query).bind(id).bind(known).execute(c).await.map(drop))?) },
        )
    });
    kept.await.unwrap();
    batch
}

async fn a_known_upload_may_be_named_once_it_is_stored(world: World) {
    let (open, stored) = (world.issued().await, world.uploaded(b"bytes").await);
    for (upload, is_stored) in [(open, false), (stored, true)] {
        let batch = that_knows(&world, &upload).await;

        let named = manifests::named(&world.ctx.db, batch.id).await.unwrap();

        let found = (named.files.contains(&upload.filename), named.unstored.contains(&upload.filename));
        assert_eq!(found, (is_stored, !is_stored));
    }
}

async fn a_manifest_that_denies_the_bytes_of_a_known_file_does_not_hold(world: World) {
    let upload = world.uploaded(b"bytes").await;
    let batch = that_knows(&world, &upload).await;

    let name = upload.filename.as_str();
    assert_eq!(world.pin(&batch, &[(name, b"other")]).await, Held::Stored(name.to_owned()));
    assert_eq!(world.pin(&batch, &[(name, b"bytes")]).await, Held::Yes);
}
