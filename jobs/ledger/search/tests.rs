//! What is found, and how little is read for it.

use super::super::plan_tests;
use super::places::EACH_PLACE;
use super::*;
use crate::ledger::{batches, dead_letters, files, orgs, uploads};
use crate::model::target::TargetKind;
use crate::testkit::World;

crate::on_every_engine! {
    an_upload_is_found_by_all_that_is_known_of_it,
    what_came_to_nothing_is_found_and_so_is_what_is_still_open,
    things_of_every_kind_are_found_by_their_ids,
    hits_of_all_orgs_are_shown_newest_first_and_not_too_many,
    nothing_reads_a_whole_table,
}

async fn found(world: &World, asked: &str) -> Vec<(Uuid, By, &'static str)> {
    let results = search(&world.ctx.db, asked.to_owned()).await.unwrap();
    assert!(results.hits.iter().all(|hit| hit.thing.org().is_none_or(|org| results.orgs.contains_key(&org))));
    results.hits.into_iter().map(|hit| named(&hit)).collect()
}

fn named(hit: &Hit) -> (Uuid, By, &'static str) {
    let (id, kind) = match &hit.thing {
        Thing::Upload(upload) => (upload.id, "upload"),
        Thing::File(upload) => (upload.id, "file"),
        Thing::Batch(batch, _) => (batch.id, "batch"),
        Thing::Org(org) => (org.id, "org"),
        Thing::Letter(found) => (found.letter.id, "letter"),
        Thing::Key(key) => (key.org_id, "key"),
    };
    (id, hit.by, kind)
}

/// An upload of which everything is known, before it is inserted.
fn known(world: &World, name: &str) -> Upload {
    Upload {
        filename: name.to_owned(),
        target_kind: Some(TargetKind::Style),
        target_number: Some("S-7".to_owned()),
        client_ref: Some(format!("ref of {name}")),
        sha256: Some(Digest::of(name.as_bytes())),
        ..world.requested()
    }
}

/// That upload, all the way through.
async fn stored(world: &World, name: &str) -> Upload {
    let upload = world.issue(known(world, name)).await;
    world.bucket.land(&upload.object_key, name.as_bytes());
    world.notice(&upload).await;
    world.drain().await;
    world.upload(upload.id).await
}

async fn an_upload_is_found_by_all_that_is_known_of_it(world: World) {
    let upload = stored(&world, "a.jpg").await;
    let hash = Digest::of(b"a.jpg").to_hex();
    let file = |by| vec![(upload.id, by, "file")];

    assert_eq!(found(&world, &upload.file_id.to_string()).await, file(By::Id));
    assert_eq!(found(&world, &upload.id.to_string()).await, [(upload.id, By::Id, "upload")]);
    for spelling in [hash.clone(), format!("sha256-{hash}"), format!("sha256:{hash}"), hash.to_uppercase()] {
        assert_eq!(found(&world, &spelling).await, file(By::Hash), "{spelling}");
    }
    assert_eq!(found(&world, "a.jpg").await, file(By::Filename));
    assert_eq!(found(&world, "S-7").await, file(By::Style));
    assert_eq!(found(&world, "ref of a.jpg").await, file(By::Ref));
    assert!(found(&world, "a.jp").await.is_empty() && found(&world, "A.JPG").await.is_empty());

    files::delete(&world.ctx.db, upload.file_id, world.ctx.now()).await.unwrap();
    assert_eq!(found(&world, "ref of a.jpg").await, [(upload.id, By::Ref, "upload")]);
}

async fn what_came_to_nothing_is_found_and_so_is_what_is_still_open(world: World) {
    let db = &world.ctx.db;
    let (open, ended) = (known(&world, "open.txt"), known(&world, "ended.txt"));
    uploads::insert(db, vec![open.clone(), ended.clone()]).await.unwrap();
    assert!(uploads::cancel(db, ended.id, world.ctx.now()).await.unwrap());

    for upload in [&open, &ended] {
        let name = upload.filename.as_str();
        assert_eq!(found(&world, name).await, [(upload.id, By::Filename, "upload")]);
        let hash = Digest::of(name.as_bytes()).to_string();
        assert_eq!(found(&world, &hash).await, [(upload.id, By::Hash, "upload")]);
        assert_eq!(found(&world, &format!("ref of {name}")).await, [(upload.id, By::Ref, "upload")]);
    }
}

async fn things_of_every_kind_are_found_by_their_ids(world: World) {
    let (db, batch) = (&world.ctx.db, Batch::each((world.org, Uuid::nil()), None, 2, world.ctx.now()));
    batches::insert(db, batch.clone(), Vec::new(), None).await.unwrap();
    let letter = DeadLetter {
        id: Uuid::now_v7(),
        kind: "issue_batch".to_owned(),
        subject: batch.id,
        pool: crate::job::Pool::Issue,
        lane: crate::job::Lane::Bulk,
        payload: "{}".to_owned(),
        attempts: 1,
        crashes: 0,
        reason: "attempts".to_owned(),
        error: "it failed".to_owned(),
        died_at: world.ctx.now(),
    };
    let kept = letter.clone();
    db.write(move |mut tx| Box::pin(async move { dead_letters::insert(&mut tx, &kept).await })).await.unwrap();

    let of_letter = (letter.id, By::Id, "letter");
    assert_eq!(found(&world, &batch.id.to_string()).await, [(batch.id, By::Id, "batch"), of_letter]);
    assert_eq!(found(&world, &letter.id.to_string()).await, [of_letter]);
    assert_eq!(found(&world, &world.org.to_string()).await, [(world.org, By::Id, "org")]);
    assert_eq!(found(&world, "acme").await, [(world.org, By::Name, "org")]);
    assert!(found(&world, &Uuid::now_v7().to_string()).await.is_empty());
}

async fn hits_of_all_orgs_are_shown_newest_first_and_not_too_many(world: World) {
    let db = &world.ctx.db;
    let other = orgs::create(db, "other".to_owned(), world.ctx.now()).await.unwrap();
    let mut rows = Vec::new();
    for number in 0..60 {
        let org_id = if number % 2 == 0 { world.org } else { other.id };
        let target_kind = Some(TargetKind::Order);
        rows.push(Upload { org_id, target_kind, target_number: Some("many".into()), ..world.requested() });
    }
    rows.push(Upload { filename: "many".to_owned(), ..world.requested() });
    uploads::insert(db, rows.clone()).await.unwrap();

    let results = search(db, "many".to_owned()).await.unwrap();

    assert!(results.truncated);
    let mut expected = vec![(rows[60].id, By::Filename, "upload")];
    expected.extend(rows[11..60].iter().rev().map(|row| (row.id, By::Order, "upload")));
    assert_eq!(results.hits.iter().map(named).collect::<Vec<_>>(), expected);
    assert_eq!(results.orgs.len(), 2);
}

async fn nothing_reads_a_whole_table(world: World) {
    use plan_tests::{BLOBS, FILES, ORGS, UPLOADS};
    plan_tests::fill(&world, &[UPLOADS, BLOBS, FILES, ORGS]).await;
    let (text, org) = ("'f7'", format!("'{}'", world.org));
    let mut queries = Vec::new();
    for place in EACH_PLACE {
        queries.push((place.orgs(), vec![text, "51"]));
        queries.push((place.of_org(), vec![text, &org, "51"]));
    }
    for query in [BY_DIGEST, ENDED_BY_NAME, ENDED_BY_CLAIM, ENDED_BY_DIGEST, places::KEYS] {
        queries.push((query.to_owned(), vec![text, "51"]));
    }
    for query in [WITH_BYTES, places::LETTER_BY_ID, places::LETTERS_BY_SUBJECT] {
        queries.push((query.to_owned(), vec![&org, "51"]));
    }
    queries.push((places::open(OPEN), vec![text, "2500", "51"]));
    queries.push((COUNTS.to_owned(), vec!["'[]'"]));

    for (query, values) in queries {
        let plan = plan_tests::plan(&world, &query, &values).await;
        // Each org is probed, and what was found of each is put in order.
        let walks = plan_tests::walks(&plan, &["orgs", "o"]);
        assert!(walks.is_empty(), "{walks:?}: {query}\n{plan}");
        // In the order of the ids of an org, or of all, is end to end too.
        for index in ["uploads_by_org", "files_by_org", "uploads_pkey", "sqlite_autoindex_uploads"] {
            assert!(!plan.contains(index) || query.contains("exists"), "{index}: {query}\n{plan}");
        }
    }
}
