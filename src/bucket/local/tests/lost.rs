//! Data files that were removed or cut behind the bucket's back, and a disk that fails.

use std::fs::OpenOptions;
use std::path::PathBuf;

use longshore_jobs::job::{Job as _, with_causes};
use longshore_jobs::ledger::blobs;
use longshore_jobs::ledger::sweeps::{self, Kind};
use longshore_jobs::model::{Status, Upload};
use longshore_jobs::sweep_bucket::SweepBucket;
use longshore_jobs::testkit::World;

use super::*;

const LIFE: Duration = Duration::from_secs(60);

impl Rig {
    async fn path_of(&self, key: &str) -> PathBuf {
        let row = self.bucket.index.find(key).await.unwrap().unwrap();
        self.bucket.files.path(&row.file)
    }

    /// With one object at each of these keys.
    async fn with(keys: &[&str]) -> Self {
        let rig = Self::new().await;
        for key in keys {
            rig.bucket.put(key, None, chunks(b"0123456789")).await.unwrap();
        }
        rig
    }

    async fn fetch(&self, key: &str) -> Answer {
        let url = self.bucket.presign_get(key, "name", LIFE).await.unwrap();
        let path = url.strip_prefix("http://127.0.0.1:8080").unwrap();
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }
}

async fn assert_gone(rig: &Rig, lost: &ObjectHead, left: &[&str]) {
    assert_eq!(rig.bucket.head(&lost.key).await.unwrap(), None);
    assert!(matches!(rig.bucket.read(lost).await, Err(BucketError::Missing { .. })));
    assert_eq!(rig.keys().await, left);
    let answer = rig.fetch(&lost.key).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "NoSuchKey"), "{}", answer.text());
}

#[tokio::test]
async fn an_object_whose_file_is_lost_is_none_until_its_bytes_come_again() {
    let rig = Rig::with(&["a", "b", "c"]).await;
    let lost = rig.bucket.head("b").await.unwrap().unwrap();

    fs::remove_file(rig.path_of("b").await).unwrap();
    assert_gone(&rig, &lost, &["a", "c"]).await;

    rig.bucket.put("b", None, chunks(b"0123456789")).await.unwrap();
    assert_eq!(rig.keys().await, ["a", "b", "c"]);
    assert_eq!(rig.fetch("b").await.text(), "0123456789");
}

#[tokio::test]
async fn a_file_that_was_cut_is_lost() {
    let rig = Rig::with(&["a", "b"]).await;
    let lost = rig.bucket.head("a").await.unwrap().unwrap();

    OpenOptions::new().write(true).open(rig.path_of("a").await).unwrap().set_len(9).unwrap();

    assert_gone(&rig, &lost, &["b"]).await;
}

#[tokio::test]
async fn a_listing_goes_on_behind_a_page_of_which_all_is_lost() {
    let rig = Rig::new().await;
    let first = rig.bucket.put("k/0000", None, chunks(b"one file for many")).await.unwrap().head;
    for number in 1..PAGE {
        rig.bucket.copy(&first, &format!("k/{number:04}")).await.unwrap();
    }
    rig.bucket.put("k/last", None, chunks(b"of its own")).await.unwrap();
    fs::remove_file(rig.path_of("k/0000").await).unwrap();

    let page = rig.bucket.list("k/", None).await.unwrap();
    assert_eq!((page.objects.len(), page.next.as_deref()), (0, Some("k/0999")));
    let page = rig.bucket.list("k/", page.next.as_deref()).await.unwrap();
    assert_eq!((page.objects.len(), page.next), (1, None));
}

#[tokio::test]
async fn a_disk_that_is_away_loses_nothing() {
    let rig = Rig::with(&["a"]).await;
    let (data, aside) = (rig.dir.path().join("data"), rig.dir.path().join("aside"));
    fs::rename(&data, &aside).unwrap();
    for is_mounted_on in [false, true] {
        if is_mounted_on {
            fs::create_dir(&data).unwrap();
        }
        assert!(matches!(rig.bucket.head("a").await, Err(BucketError::Failed { op: "head", .. })));
        assert!(rig.bucket.list("", None).await.is_err());
        assert_eq!(rig.fetch("a").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    fs::remove_dir(&data).unwrap();
    fs::rename(&aside, &data).unwrap();
    assert_eq!(rig.fetch("a").await.text(), "0123456789");
}

#[tokio::test]
async fn a_failure_names_the_object_and_its_file() {
    let rig = Rig::with(&["staging/a"]).await;
    let head = rig.bucket.head("staging/a").await.unwrap().unwrap();
    let path = rig.path_of("staging/a").await;
    fs::remove_file(&path).unwrap();
    // Whoever runs this may be root, who may read whatever there is: a link to itself is beyond everybody.
    std::os::unix::fs::symlink(&path, &path).unwrap();

    let Err(error) = rig.bucket.read(&head).await else { panic!("it was read") };

    let expected = format!("read failed on the bucket: read the object staging/a at {}: ", path.display());
    assert!(with_causes(&error).starts_with(&expected), "{}", with_causes(&error));
    fs::remove_dir(rig.dir.path().join("tmp")).unwrap();
    let error = rig.bucket.put("k", None, chunks(b"bytes")).await.unwrap_err();
    let expected = format!("put failed on the bucket: write the object k at {}: No such", rig.dir.path().display());
    assert!(with_causes(&error).starts_with(&expected), "{}", with_causes(&error));
}

/// A pipeline over a local bucket.
async fn pipeline() -> (Rig, World) {
    let (rig, mut world) = (Rig::new().await, World::new().await);
    world.ctx.bucket = rig.bucket.clone();
    (rig, world)
}

async fn uploaded(rig: &Rig, world: &World) -> Upload {
    let upload = world.issued().await;
    rig.bucket.put(&upload.object_key, None, chunks(b"bytes")).await.unwrap();
    world.notice(&upload).await;
    world.drain().await;
    let upload = world.upload(upload.id).await;
    assert_eq!(upload.status, Status::Done);
    upload
}

async fn lost_rows(world: &World) -> i64 {
    world.clock.advance(Duration::from_secs(1));
    SweepBucket {}.run(&world.ctx).await.unwrap();
    let sums = sweeps::sums(&world.ctx.db).await.unwrap();
    sums.into_iter().find(|sum| sum.kind == Kind::Row).map_or(0, |sum| sum.orphans)
}

#[tokio::test]
async fn a_lost_blob_is_found_by_the_sweep_and_healed_by_the_next_upload_of_its_bytes() {
    let (rig, world) = pipeline().await;
    uploaded(&rig, &world).await;
    let blob = async || blobs::find(&world.ctx.db, world.org, Digest::of(b"bytes")).await.unwrap().unwrap();
    assert_eq!(lost_rows(&world).await, 0);

    fs::remove_file(rig.path_of(&blob().await.object_key).await).unwrap();
    assert_eq!(lost_rows(&world).await, 1);

    uploaded(&rig, &world).await;
    assert_eq!(rig.fetch(&blob().await.object_key).await.text(), "bytes");
    assert_eq!(lost_rows(&world).await, 0);
}
