//! Below `blobs/`, and the sweep as a whole.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::ledger::sweeps::{Finding, Span};
use crate::ledger::{Db, blobs as rows};
use crate::model::{Digest, Status, Timestamp};
use crate::testkit::World;

crate::on_every_engine! {
    an_object_that_no_row_names_goes_after_the_window,
    what_is_only_looked_at_stays,
    the_copy_of_a_store_that_runs_is_let_be,
    what_was_adopted_meanwhile_is_never_removed,
    the_sight_of_a_young_copy_begins_no_window,
    a_row_without_its_object_is_told_of_until_the_bytes_come_again,
    an_object_of_another_size_is_none,
    what_is_being_collected_is_neither,
    after_a_restore_of_an_older_ledger_there_is_time_to_notice,
    objects_of_others_are_left,
    what_a_look_lets_be_keeps_its_first_sight,
    what_doctor_has_left_goes,
    a_run_that_was_broken_off_goes_on_where_it_stopped,
    a_long_staging_is_swept_in_parts_and_keeps_nobody_from_the_blobs,
    a_bucket_that_was_emptied_is_forgotten_piece_by_piece,
    tens_of_thousands_of_both_are_told_apart,
    an_empty_bucket_is_missed_row_by_row,
}

/// Beside rows in order, a listing in another order would make orphans of blobs.
#[test]
fn a_listing_that_is_not_in_the_order_of_its_keys_ends_the_sweep() {
    let listing = |keys: &[&str]| -> Vec<ObjectHead> {
        let head = |key: &&str| ObjectHead {
            key: (*key).to_owned(),
            size: 1,
            etag: String::new(),
            content_type: None,
            modified_at: Timestamp::default(),
        };
        keys.iter().map(head).collect()
    };
    assert!(blobs::in_order(&listing(&["blobs/A", "blobs/a", "blobs/b"])).is_ok());
    for disordered in [["blobs/a", "blobs/A"], ["blobs/a", "blobs/a"]] {
        assert!(matches!(blobs::in_order(&listing(&disordered)), Err(JobError::GiveUp(_))), "{disordered:?}");
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

fn window(world: &World) -> Duration {
    world.ctx.limits.sweep_restore_window
}

async fn run(ctx: &Context) -> End {
    SweepBucket {}.run(ctx).await.unwrap()
}

async fn findings(db: &Db, kind: Kind) -> Vec<Finding> {
    sweeps::list(db, (kind, Timestamp::from_millis(i64::MAX)), "", 100).await.unwrap()
}

/// What the last sweep has found: how many, and how many bytes.
async fn sum(db: &Db, kind: Kind) -> (i64, i64) {
    let sums = sweeps::sums(db).await.unwrap();
    sums.into_iter().find(|sum| sum.kind == kind).map(|sum| (sum.orphans, sum.bytes)).unwrap()
}

/// An object without a row, as a crash between copy and commit leaves it.
fn orphan_in(world: &World, bytes: &[u8]) -> String {
    let key = keys::blob(world.org, Digest::of(bytes));
    world.bucket.land(&key, bytes);
    key
}

/// A row that names the object, as the commit would have left it.
async fn adopt(db: &Db, org: Uuid, key: &str, (bytes, now): (&[u8], Timestamp)) {
    let (id, sha256, size, key) = (Uuid::now_v7(), Digest::of(bytes), bytes.len() as i64, key.to_owned());
    let query = "insert into blobs (id, org_id, sha256, size, object_key, state, refs, created_at)
        values ($1, $2, $3, $4, $5, 'live', 1, $6)";
    let added = db.write_one(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query(query)
                .bind(id)
                .bind(org)
                .bind(sha256)
                .bind(size)
                .bind(key)
                .bind(now)
                .execute(c)
                .await?
                .rows_affected()))
        })
    });
    assert_eq!(added.await.unwrap(), 1);
}

async fn an_object_that_no_row_names_goes_after_the_window(mut world: World) {
    world.ctx.limits.sweep_applies = true;
    world.uploaded(b"kept").await;
    let orphan = orphan_in(&world, b"orphan");

    world.clock.advance(DAY - Duration::from_millis(1));
    run(&world.ctx).await;
    assert!(findings(&world.ctx.db, Kind::Blob).await.is_empty(), "it is young");

    let first_seen_at = world.clock.advance(Duration::from_millis(1));
    run(&world.ctx).await;
    let found = findings(&world.ctx.db, Kind::Blob).await;
    let stored_at = first_seen_at - DAY;
    assert_eq!(found, [Finding { object_key: orphan.clone(), size: 6, stored_at, first_seen_at }]);
    assert_eq!((sum(&world.ctx.db, Kind::Blob).await, sum(&world.ctx.db, Kind::Row).await), ((1, 6), (0, 0)));

    world.clock.advance(window(&world) - Duration::from_millis(1));
    assert_eq!(run(&world.ctx).await, End::Moot);
    assert_eq!(world.blob_keys().len(), 2);

    world.clock.advance(Duration::from_millis(1));
    assert_eq!(run(&world.ctx).await, End::Done);
    assert!(world.blob_keys().len() == 1 && !world.blob_keys().contains(&orphan));
    assert_eq!((findings(&world.ctx.db, Kind::Blob).await, sum(&world.ctx.db, Kind::Blob).await), (vec![], (0, 0)));
}

async fn what_is_only_looked_at_stays(world: World) {
    let orphan = orphan_in(&world, b"orphan");
    let lost = world.uploaded(b"lost").await;
    let gone = world.blob_keys().into_iter().find(|key| *key != orphan).unwrap();
    world.ctx.bucket.delete(std::slice::from_ref(&gone)).await.unwrap();

    for _ in 0..3 {
        world.clock.advance(window(&world) + DAY);
        assert_eq!(run(&world.ctx).await, End::Moot);
    }

    assert_eq!(world.blob_keys(), [orphan]);
    assert_eq!((sum(&world.ctx.db, Kind::Blob).await, sum(&world.ctx.db, Kind::Row).await), ((1, 6), (1, 4)));
    let files = rows::files_at(&world.ctx.db, &gone, 10).await.unwrap();
    assert_eq!(files, (vec![lost.file_id], 1));
    assert_eq!((world.entries_of(b"lost").await, world.report().await.files), (1, 1));
}

/// However short the operator's minimum age is: below it, the schedule does not go.
async fn the_copy_of_a_store_that_runs_is_let_be(mut world: World) {
    world.ctx.limits.sweep_min_age = Duration::ZERO;
    world.ctx.limits.sweep_restore_window = Duration::ZERO;
    world.ctx.limits.sweep_applies = true;
    let copy = orphan_in(&world, b"on its way");

    world.clock.advance(crate::store_file::StoreFile::TIME_LIMIT);
    run(&world.ctx).await;
    assert_eq!(world.blob_keys(), [copy]);

    world.clock.advance(SAFE_AGE - crate::store_file::StoreFile::TIME_LIMIT);
    run(&world.ctx).await;
    assert!(world.blob_keys().is_empty());
}

/// As if the store had committed between the look at the ledger and the removal.
async fn what_was_adopted_meanwhile_is_never_removed(world: World) {
    let (adopted, stray) = (orphan_in(&world, b"adopted"), orphan_in(&world, b"stray"));
    let first_seen = world.clock.advance(DAY);
    run(&world.ctx).await;
    assert_eq!(findings(&world.ctx.db, Kind::Blob).await.len(), 2);
    adopt(&world.ctx.db, world.org, &adopted, (b"adopted", first_seen)).await;

    let all = Span { after: keys::BLOBS.to_owned(), to: blobs::END.to_owned() };
    let removed = blobs::remove(&world.ctx, &all, blobs::By { seen: first_seen, stored: first_seen }).await.unwrap();

    assert_eq!(removed.into_iter().map(|orphan| orphan.object_key).collect::<Vec<_>>(), [stray]);
    assert_eq!(world.blob_keys(), [adopted]);
}

async fn the_sight_of_a_young_copy_begins_no_window(mut world: World) {
    world.ctx.limits.sweep_applies = true;
    let copy = orphan_in(&world, b"not yet named");
    let hasty = Terms { min_age: Duration::ZERO, ..Terms::of(&world.ctx.limits) };
    let mut sweep = Sweep::whole(hasty, hasty);
    while sweep.next(&world.ctx).await.unwrap().is_some() {}
    assert_eq!(findings(&world.ctx.db, Kind::Blob).await.len(), 1, "who asks for it is shown it");

    // As after a restore of a backup that was made in that moment.
    let now = world.clock.advance(window(&world) + DAY);
    run(&world.ctx).await;

    assert_eq!(world.blob_keys(), [copy]);
    assert_eq!(findings(&world.ctx.db, Kind::Blob).await[0].first_seen_at, now);
    world.clock.advance(window(&world));
    run(&world.ctx).await;
    assert!(world.blob_keys().is_empty());
}

async fn a_row_without_its_object_is_told_of_until_the_bytes_come_again(world: World) {
    let (one, two) = (world.uploaded(b"precious").await, world.uploaded(b"precious").await);
    let gone = world.blob_keys().remove(0);
    world.ctx.bucket.delete(std::slice::from_ref(&gone)).await.unwrap();
    world.clock.advance(Duration::from_secs(1));

    run(&world.ctx).await;
    let found = findings(&world.ctx.db, Kind::Row).await;
    assert_eq!(found.iter().map(|row| (row.object_key.as_str(), row.size)).collect::<Vec<_>>(), [(gone.as_str(), 8)]);
    let (mut files, count) = rows::files_at(&world.ctx.db, &gone, 10).await.unwrap();
    files.sort_unstable();
    assert_eq!((files, count), (vec![one.file_id, two.file_id], 2));

    let again = world.uploaded(b"precious").await;
    run(&world.ctx).await;
    assert_eq!(again.status, Status::Done);
    assert_eq!((findings(&world.ctx.db, Kind::Row).await, sum(&world.ctx.db, Kind::Row).await), (vec![], (0, 0)));
    let blob = rows::find(&world.ctx.db, world.org, Digest::of(b"precious")).await.unwrap().unwrap();
    assert_eq!((blob.refs, world.blob_keys()), (3, vec![blob.object_key]), "the old entries have their bytes again");
}

async fn an_object_of_another_size_is_none(world: World) {
    world.uploaded(b"whole").await;
    let key = world.blob_keys().remove(0);
    world.bucket.land(&key, b"cut");
    world.clock.advance(2 * DAY);

    run(&world.ctx).await;
    assert_eq!((sum(&world.ctx.db, Kind::Row).await, sum(&world.ctx.db, Kind::Blob).await), ((1, 5), (0, 0)));

    world.bucket.land(&key, b"whole");
    run(&world.ctx).await;
    assert_eq!(sum(&world.ctx.db, Kind::Row).await, (0, 0));
}

async fn what_is_being_collected_is_neither(mut world: World) {
    world.ctx.limits.sweep_applies = true;
    for bytes in [b"one".as_slice(), b"two"] {
        let upload = world.uploaded(bytes).await;
        crate::ledger::files::delete(&world.ctx.db, upload.file_id, world.ctx.now()).await.unwrap();
    }
    let now = world.clock.advance(10 * DAY);
    let due = rows::due_to_collect(&world.ctx.db, now, None, 10).await.unwrap();
    let ids: Vec<Uuid> = due.into_iter().map(|(_, id)| id).collect();
    let leaving = rows::begin_removal(&world.ctx.db, &ids, now).await.unwrap();
    world.ctx.bucket.delete(std::slice::from_ref(&leaving[0].object_key)).await.unwrap();

    run(&world.ctx).await;

    assert_eq!((sum(&world.ctx.db, Kind::Row).await, sum(&world.ctx.db, Kind::Blob).await), ((0, 0), (0, 0)));
    assert_eq!(world.blob_keys(), [leaving[1].object_key.clone()]);
}

async fn after_a_restore_of_an_older_ledger_there_is_time_to_notice(mut world: World) {
    world.ctx.limits.sweep_applies = true;
    world.uploaded(b"newer than the backup").await;
    world.uploaded(b"newer, too").await;
    let older = world.another().await;
    let (org, now) = (world.org, world.ctx.now());
    let known = older.ctx.db.write_one(move |mut tx| {
        let query = "insert into orgs (id, name, created_at) values ($1, 'the same', $2)";
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query(query).bind(org).bind(now).execute(c).await?.rows_affected()))
        })
    });
    assert_eq!(known.await.unwrap(), 1);
    let restored = Context { db: older.ctx.db.clone(), ..world.ctx.clone() };

    world.clock.advance(DAY);
    run(&restored).await;
    assert_eq!(sum(&restored.db, Kind::Blob).await.0, 2, "every blob that is newer looks like an orphan");
    world.clock.advance(window(&world) - Duration::from_millis(1));
    run(&restored).await;
    assert_eq!(world.blob_keys().len(), 2);

    // A better backup, with one of the rows.
    let blob = rows::find(&world.ctx.db, org, Digest::of(b"newer, too")).await.unwrap().unwrap();
    adopt(&restored.db, org, &blob.object_key, (b"newer, too", now)).await;
    world.clock.advance(DAY);
    run(&restored).await;
    assert_eq!(world.blob_keys(), [blob.object_key]);
    assert!(findings(&restored.db, Kind::Blob).await.is_empty());
}

async fn objects_of_others_are_left(mut world: World) {
    world.ctx.limits.sweep_applies = true;
    world.ctx.limits.sweep_restore_window = Duration::ZERO;
    let theirs = keys::blob(Uuid::now_v7(), Digest::of(b"theirs"));
    let notes = format!("{}{}/notes\0.txt", keys::BLOBS, world.org.simple());
    for key in [&theirs, &notes] {
        world.bucket.land(key, b"not ours");
    }
    orphan_in(&world, b"ours");
    world.clock.advance(DAY);
    let blobs = Terms { applies: true, ..Terms::of(&world.ctx.limits) };

    let mut sweep = Sweep::whole(blobs, blobs);
    let mut pages = Vec::new();
    while let Some(page) = sweep.next(&world.ctx).await.unwrap() {
        pages.push((page.kind, page.looked_at, page.foreign.len(), page.removed.len()));
    }

    assert_eq!(pages, [(Kind::Staging, 0, 0, 0), (Kind::Blob, 3, 2, 1)]);
    let mut left = [theirs, notes];
    left.sort_unstable();
    assert_eq!(world.blob_keys(), left);
}

/// Once `sweep --min-age 30d` struck what a look of a shorter minimum age had found, and its window began anew.
async fn what_a_look_lets_be_keeps_its_first_sight(mut world: World) {
    world.ctx.limits.sweep_applies = true;
    let (orphan, adopted) = (orphan_in(&world, b"orphan"), orphan_in(&world, b"adopted"));
    let stray = keys::staging(world.org, Uuid::now_v7());
    world.bucket.land(&stray, b"stray");
    let first_seen_at = world.clock.advance(20 * DAY);
    let usual = Terms::of(&world.ctx.limits);
    sweep_whole(&world, usual).await;
    let known = (sum(&world.ctx.db, Kind::Staging).await, sum(&world.ctx.db, Kind::Blob).await);
    assert_eq!(known, ((1, 5), (2, 13)));

    let now = world.clock.advance(window(&world));
    adopt(&world.ctx.db, world.org, &adopted, (b"adopted", now)).await;
    let patient = Terms { applies: true, min_age: 30 * DAY, ..usual };
    assert_eq!(sweep_whole(&world, patient).await, 0, "neither found nor removed");

    let found = findings(&world.ctx.db, Kind::Blob).await;
    let seen: Vec<_> = found.iter().map(|one| (one.object_key.as_str(), one.first_seen_at)).collect();
    assert_eq!(seen, [(orphan.as_str(), first_seen_at)], "what has a row now is struck all the same");
    assert_eq!(findings(&world.ctx.db, Kind::Staging).await.len(), 1);
    assert_eq!((sum(&world.ctx.db, Kind::Staging).await, sum(&world.ctx.db, Kind::Blob).await), ((1, 5), (1, 6)));
    assert_eq!(world.blob_keys().len(), 2);
    run(&world.ctx).await;
    assert_eq!((world.blob_keys(), world.staged_keys()), (vec![adopted], vec![]));
}

/// Sweeps all by hand; how much was found.
async fn sweep_whole(world: &World, terms: Terms) -> usize {
    let (mut sweep, mut found) = (Sweep::whole(terms, terms), 0);
    while let Some(page) = sweep.next(&world.ctx).await.unwrap() {
        found += page.found.len() + page.removed.len();
    }
    found
}

async fn what_doctor_has_left_goes(world: World) {
    world.bucket.land(&keys::blob(keys::NOBODY, Digest::of(b"tried out")), b"tried out");
    world.clock.advance(DAY);

    assert_eq!(sweep_whole(&world, Terms::of(&world.ctx.limits)).await, 0);
    assert_eq!(world.blob_keys().len(), 1, "a look removes nothing");
    run(&world.ctx).await;

    assert!(world.blob_keys().is_empty());
    assert_eq!(sum(&world.ctx.db, Kind::Blob).await, (0, 0));
}

async fn a_long_staging_is_swept_in_parts_and_keeps_nobody_from_the_blobs(world: World) {
    for _ in 0..2500 {
        world.bucket.land(&keys::staging(world.org, Uuid::now_v7()), b"x");
    }
    world.clock.advance(2 * DAY);
    let mut first = Sweep::scheduled(&world.ctx).await.unwrap();
    first.next(&world.ctx).await.unwrap();

    first.leave_staging(&world.ctx).await.unwrap();
    assert_eq!(first.next(&world.ctx).await.unwrap().unwrap().kind, Kind::Blob);
    assert_eq!(world.staged_keys().len(), 1500);

    let mut second = Sweep::scheduled(&world.ctx).await.unwrap();
    assert_eq!(second.next(&world.ctx).await.unwrap().unwrap().looked_at, 1000);
    while second.next(&world.ctx).await.unwrap().is_some() {}
    assert!(world.staged_keys().is_empty());
    assert_eq!(sum(&world.ctx.db, Kind::Staging).await, (2500, 2500), "of all its parts");
}

async fn a_bucket_that_was_emptied_is_forgotten_piece_by_piece(world: World) {
    for number in 0..4500 {
        orphan_in(&world, format!("{number}").as_bytes());
    }
    world.clock.advance(DAY);
    run(&world.ctx).await;
    assert_eq!(sum(&world.ctx.db, Kind::Blob).await.0, 4500);
    world.ctx.bucket.delete(&world.blob_keys()).await.unwrap();

    run(&world.ctx).await;

    assert_eq!((findings(&world.ctx.db, Kind::Blob).await, sum(&world.ctx.db, Kind::Blob).await), (vec![], (0, 0)));
}

async fn a_run_that_was_broken_off_goes_on_where_it_stopped(world: World) {
    for number in 0..2500 {
        orphan_in(&world, format!("{number}").as_bytes());
    }
    world.clock.advance(DAY);
    let mut broken_off = Sweep::scheduled(&world.ctx).await.unwrap();
    for _ in ["staging", "the first page of blobs"] {
        broken_off.next(&world.ctx).await.unwrap();
    }

    assert_eq!(looked_at(&world).await, 1500);
    assert_eq!(sum(&world.ctx.db, Kind::Blob).await.0, 2500);
    assert_eq!(looked_at(&world).await, 2500, "the next one begins anew");
}

/// How many objects below `blobs/` the next scheduled sweep looks at.
async fn looked_at(world: &World) -> usize {
    let (mut sweep, mut count) = (Sweep::scheduled(&world.ctx).await.unwrap(), 0);
    while let Some(page) = sweep.next(&world.ctx).await.unwrap() {
        count += if page.kind == Kind::Blob { page.looked_at } else { 0 };
    }
    count
}

async fn tens_of_thousands_of_both_are_told_apart(world: World) {
    many_rows(&world, 20_000).await;
    // Of twenty thousand rows each tenth has lost its object, and of as many objects each fourth has no row.
    for number in (1..=20_000_u32).filter(|number| number % 10 != 0) {
        world.bucket.land(&numbered(&world, number), b"x");
    }
    for number in 1..=6_000 {
        world.bucket.land(&beside(&world, 3 * number), b"x");
    }
    world.clock.advance(DAY);

    run(&world.ctx).await;

    assert_eq!(sum(&world.ctx.db, Kind::Row).await, (2_000, 2_000));
    assert_eq!(sum(&world.ctx.db, Kind::Blob).await, (6_000, 6_000));
}

async fn an_empty_bucket_is_missed_row_by_row(world: World) {
    many_rows(&world, 5_000).await;
    world.clock.advance(DAY);

    run(&world.ctx).await;

    assert_eq!(sum(&world.ctx.db, Kind::Row).await, (5_000, 5_000));
}

/// The key of a row that [`many_rows`] makes.
fn numbered(world: &World, number: u32) -> String {
    format!("{}{}/{:064}/{number:032}", keys::BLOBS, world.org.simple(), 100_000 + number)
}

/// A key of the same digest that no row names.
fn beside(world: &World, number: u32) -> String {
    format!("{}{}/{:064}/{number:f>32}", keys::BLOBS, world.org.simple(), 100_000 + number)
}

/// So many rows of one byte.
async fn many_rows(world: &World, count: i64) {
    let query = "with recursive numbers (number) as (
            select 1
            union all
            select number + 1 from numbers where number < $3)
        insert into blobs (id, org_id, sha256, size, object_key, state, refs, created_at)
        select unhex('00000000000070008000000000' || (100000 + number)), $1,
            'sha256-0000000000000000000000000000000000000000000000000000000000' || (100000 + number), 1,
            $4 || '/0000000000000000000000000000000000000000000000000000000000' || (100000 + number) || '/'
                || substr('00000000000000000000000000000000' || number, length('' || number) + 1),
            'live', 1, $2
        from numbers";
    let (org, now) = (world.org, world.ctx.now());
    let folder = format!("{}{}", keys::BLOBS, org.simple());
    let made = world.ctx.db.write_one(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query(query)
                .bind(org)
                .bind(now)
                .bind(count)
                .bind(folder)
                .execute(c)
                .await?
                .rows_affected()))
        })
    });
    assert_eq!(made.await.unwrap(), count.unsigned_abs());
}
