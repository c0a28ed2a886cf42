//! Deletes beside everything else: the books agree after each step, whatever was done and by how many at once.

use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::collect_blobs::CollectBlobs;
use crate::job::Job as _;
use crate::ledger::births::{self, Birth};
use crate::ledger::{blobs, files, reports, uploads};
use crate::model::report::Delta;
use crate::model::{Digest, Status, Upload};
use crate::testkit::World;

crate::on_every_engine! {
    whatever_is_stored_and_deleted_the_report_agrees_with_a_recount,
    of_many_deletes_of_one_file_one_deletes_it,
    a_deleted_file_frees_its_ref,
    late_bytes_come_back_once_the_file_of_their_ref_is_deleted,
}

/// Few, so that they meet.
const CONTENTS: [&[u8]; 4] = [b"", b"a", b"two", b"of some length"];

async fn whatever_is_stored_and_deleted_the_report_agrees_with_a_recount(world: World) {
    let (db, mut random, mut standing) = (&world.ctx.db, StdRng::seed_from_u64(4), Vec::<Upload>::new());
    for step in 0..120 {
        let content = CONTENTS[random.random_range(0..CONTENTS.len())];
        match random.random_range(0..10) {
            0..3 => standing.push(world.uploaded(content).await),
            3 => {
                let row = Upload { sha256: Some(Digest::of(content)), ..world.requested() };
                let known = Birth::requested(row, Some(content.len().try_into().unwrap()));
                standing.extend(births::ask(db, known).await.unwrap().filter(|born| born.status == Status::Done));
            }
            4..8 if !standing.is_empty() => {
                let gone = standing.swap_remove(random.random_range(0..standing.len()));
                assert!(files::delete(db, gone.file_id, world.ctx.now()).await.unwrap());
            }
            _ => {
                world.clock.advance(Duration::from_secs(random.random_range(0..30) * 3600));
                CollectBlobs {}.run(&world.ctx).await.unwrap();
            }
        }
        check(&world, &standing, step).await;
    }
}

/// The report agrees with a recount, both with what stands, and the bucket with the ledger.
async fn check(world: &World, standing: &[Upload], step: usize) {
    assert_eq!(reports::recount(&world.ctx.db, world.org).await.unwrap().drift, Delta::NONE, "step {step}");
    if !step.is_multiple_of(10) {
        return;
    }
    let report = world.report().await;
    let mut different: Vec<Digest> = standing.iter().filter_map(Upload::known_sha256).collect();
    different.sort_unstable_by_key(Digest::to_string);
    different.dedup();
    let counted = (report.files, report.unique_files);
    assert_eq!(counted, (standing.len().try_into().unwrap(), different.len().try_into().unwrap()), "step {step}");
    for digest in different {
        let blob = blobs::find(&world.ctx.db, world.org, digest).await.unwrap().unwrap();
        assert!(world.blob_keys().contains(&blob.object_key), "step {step}");
    }
}

async fn of_many_deletes_of_one_file_one_deletes_it(world: World) {
    let beside = world.beside().await;
    for round in 0..5 {
        let bytes = format!("round {round}");
        let (kept, gone) = (world.uploaded(bytes.as_bytes()).await, world.uploaded(bytes.as_bytes()).await);

        let delete = |number: usize| {
            let db = if number.is_multiple_of(2) { &world.ctx.db } else { &beside };
            files::delete(db, gone.file_id, world.ctx.now())
        };
        let deleted = join_all((0..10).map(delete)).await;

        assert_eq!(deleted.into_iter().filter(|deleted| *deleted.as_ref().unwrap()).count(), 1);
        assert_eq!(world.report().await.files, round + 1, "of two one is left");
        assert!(files::find(&world.ctx.db, kept.file_id).await.unwrap().is_some());
        let upload = world.upload(gone.id).await;
        assert_eq!((upload.status, upload.file_deleted_at), (Status::Done, Some(world.ctx.now())));
    }
}

/// The row of an upload with a ref, in a state.
fn with_ref(world: &World, status: Status) -> Upload {
    Upload { client_ref: Some("mine".to_owned()), status, ..world.requested() }
}

async fn a_deleted_file_frees_its_ref(world: World) {
    let db = &world.ctx.db;
    let first = world.issue(with_ref(&world, Status::Requested)).await;
    world.bucket.land(&first.object_key, b"bytes");
    world.notice(&first).await;
    world.drain().await;
    let twin = Birth::requested(with_ref(&world, Status::Requested), None);
    assert!(births::ask(db, twin.clone()).await.unwrap().is_none());

    files::delete(db, first.file_id, world.ctx.now()).await.unwrap();

    assert!(uploads::find_by_ref(db, world.org, "mine").await.unwrap().is_none());
    let second = births::ask(db, twin).await.unwrap().unwrap();
    assert_eq!(uploads::find_by_ref(db, world.org, "mine").await.unwrap().unwrap().id, second.id);
}

async fn late_bytes_come_back_once_the_file_of_their_ref_is_deleted(world: World) {
    let db = &world.ctx.db;
    let late = with_ref(&world, Status::Expired);
    uploads::insert(db, vec![late.clone()]).await.unwrap();
    let second = world.issue(with_ref(&world, Status::Requested)).await;
    world.bucket.land(&second.object_key, b"bytes");
    world.notice(&second).await;
    world.drain().await;
    assert!(uploads::is_superseded(db, late.id).await.unwrap());

    files::delete(db, second.file_id, world.ctx.now()).await.unwrap();
    world.bucket.land(&late.object_key, b"late");
    world.notice(&late).await;
    world.drain().await;

    assert!(!uploads::is_superseded(db, late.id).await.unwrap());
    assert_eq!(world.upload(late.id).await.status, Status::Done);
}
