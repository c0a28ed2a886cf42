//! Two processes on one ledger: what SQLite's single writer never lets happen, and PostgreSQL does.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::Executor as _;
use tokio::sync::Notify;
use tokio::time::timeout;
use uuid::Uuid;

use super::births::{self, Birth};
use super::files::{self, Stored};
use super::idempotency::{self, Standing};
use super::manifests::{self, Held};
use super::{
    Connection, Db, LedgerError, Tx, batches, blobs, dead_letters, members, prefixes, reports, schedules, uploads,
};
use crate::job::{Lane, Pool};
use crate::model::idempotency::{IdempotencyKey, KEY_LIFE, Route};
use crate::model::manifest::Line;
use crate::model::report::Delta;
use crate::model::upload::{ArrivedVia, Reason};
use crate::model::{Batch, Digest, Status, Timestamp, Upload};
use crate::outside::ObjectHead;
use crate::testkit::{World, postgres as server};

const ROUNDS: usize = 25;

crate::on_postgres! {
    two_processes_adopt_the_same_bytes_and_one_joins_the_other,
    two_processes_store_the_same_upload_once,
    two_processes_move_the_same_rows_once_whatever_the_order,
    a_late_object_and_a_new_upload_want_the_same_ref,
    two_processes_ask_for_uploads_with_the_same_refs,
    two_processes_ask_for_the_same_upload_by_one_key,
    a_key_that_is_claimed_anew_is_not_forgotten_with_its_former_life,
    what_is_deleted_beside_stores_and_collectors_is_counted_once,
    what_is_stored_while_reports_are_folded_is_counted_once,
    a_recount_beside_stores_and_folds_finds_no_drift,
    a_manifest_comes_into_force_beside_a_verification,
    manifests_that_come_at_once_leave_one_and_all_of_its_lines,
    one_of_two_processes_ticks,
    one_of_two_processes_discards_a_letter,
    a_move_that_was_undone_by_a_deadlock_is_made_again,
    a_failed_write_leaves_nothing,
    a_panic_in_a_write_undoes_it,
    a_move_in_one_process_wakes_who_waits_in_another,
    a_lost_line_is_taken_up_again,
}

/// Rows that are verified, all with the same bytes.
async fn verified(world: &World, bytes: &[u8], count: usize) -> Vec<Upload> {
    let row = || Upload {
        status: Status::Verified,
        etag: Some("seen".to_owned()),
        arrived_size: Some(i64::try_from(bytes.len()).unwrap()),
        verified_sha256: Some(Digest::of(bytes)),
        ..world.requested()
    };
    let rows: Vec<Upload> = (0..count).map(|_| row()).collect();
    uploads::insert(&world.ctx.db, rows.clone()).await.unwrap();
    rows
}

async fn store(db: &Db, upload: &Upload, now: Timestamp) -> Stored {
    let copy = format!("blobs/{}", Uuid::now_v7());
    files::store(db, upload.clone(), Some(copy), now).await.unwrap()
}

async fn two_processes_adopt_the_same_bytes_and_one_joins_the_other(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    for round in 0..ROUNDS {
        let bytes = format!("round {round}");
        let rows = verified(&world, bytes.as_bytes(), 2).await;

        let (first, second) = tokio::join!(store(one, &rows[0], now), store(&two, &rows[1], now));

        assert!(matches!((first, second), (Stored::Adopted, Stored::Joined) | (Stored::Joined, Stored::Adopted)));
        let blob = blobs::find(one, world.org, Digest::of(bytes.as_bytes())).await.unwrap().unwrap();
        assert_eq!(blob.refs, 2);
    }
    let report = world.report().await;
    assert_eq!((report.files, report.unique_files), (50, 25));
}

async fn two_processes_store_the_same_upload_once(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    for row in verified(&world, b"the same bytes", ROUNDS).await {
        let stored: [Stored; 2] = tokio::join!(store(one, &row, now), store(&two, &row, now)).into();
        assert_eq!(stored.iter().filter(|stored| **stored == Stored::Lost).count(), 1, "{stored:?}");
    }
    assert_eq!(world.report().await.files, 25);
}

fn object(row: &Upload) -> ObjectHead {
    let (key, etag) = (row.object_key.clone(), "seen".to_owned());
    ObjectHead { key, size: 5, etag, content_type: None, modified_at: row.created_at }
}

async fn arrive(db: &Db, row: &Upload, now: Timestamp) -> bool {
    uploads::arrive(db, row.id, &object(row), ArrivedVia::Notice, (now, now)).await.unwrap()
}

async fn two_processes_move_the_same_rows_once_whatever_the_order(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    let rows: Vec<Upload> = (0..300).map(|_| world.requested()).collect();
    uploads::insert(one, rows.clone()).await.unwrap();

    let forth = join_all(rows.iter().map(|row| arrive(one, row, now)));
    let back = join_all(rows.iter().rev().map(|row| arrive(&two, row, now)));
    let (forth, back) = tokio::join!(forth, back);

    for (index, by_one) in forth.into_iter().enumerate() {
        assert_ne!(by_one, back[rows.len() - 1 - index], "row {index} was moved twice or not at all");
    }
}

/// Whether it was born.
async fn request(db: &Db, row: Upload) -> bool {
    births::ask(db, Birth::requested(row, None)).await.unwrap().is_some()
}

async fn a_late_object_and_a_new_upload_want_the_same_ref(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    for round in 0..ROUNDS {
        let client_ref = Some(format!("ref {round}"));
        let late = Upload { status: Status::Expired, client_ref: client_ref.clone(), ..world.requested() };
        let fresh = Upload { client_ref, ..world.requested() };
        uploads::insert(one, vec![late.clone()]).await.unwrap();

        let (arrived, requested) = tokio::join!(arrive(one, &late, now), request(&two, fresh.clone()));

        assert_ne!(arrived, requested, "the ref stands for both or for none");
    }
}

async fn two_processes_ask_for_uploads_with_the_same_refs(world: World) {
    let (one, two) = (&world.ctx.db, world.beside().await);
    let rows = || -> Vec<Upload> {
        (0..200).map(|n| Upload { client_ref: Some(format!("ref {n}")), ..world.requested() }).collect()
    };

    let forth = join_all(rows().into_iter().map(|row| request(one, row)));
    let back = join_all(rows().into_iter().rev().map(|row| request(&two, row)));
    let (forth, back) = tokio::join!(forth, back);

    for (index, by_one) in forth.into_iter().enumerate() {
        assert_ne!(by_one, back[199 - index], "ref {index} was given twice or not at all");
    }
}

async fn two_processes_ask_for_the_same_upload_by_one_key(world: World) {
    let (one, two) = (&world.ctx.db, world.beside().await);
    let ask = |db, number: usize| {
        let (row, key) = (
            world.requested(),
            IdempotencyKey {
                org_id: world.org,
                route: Route::Uploads,
                key: (number / 4).to_string(),
                body_sha256: Digest::of(b"body"),
                sent_at: world.ctx.now(),
            },
        );
        async move { (row.id, births::ask_once(db, Birth::requested(row, None), key.clone()).await, key) }
    };

    let (forth, back) = (join_all((0..80).map(|n| ask(one, n))), join_all((0..80).rev().map(|n| ask(&two, n))));
    let (forth, back) = tokio::join!(forth, back);

    let mut made = 0;
    for (id, asked, key) in forth.into_iter().chain(back) {
        let stands = idempotency::find(one, &key).await.unwrap();
        match asked {
            Ok(born) => assert_eq!((born.map(|upload| upload.id), stands), (Some(id), Some(Standing::Made(id)))),
            Err(LedgerError::Repeated) => assert_ne!(stands, Some(Standing::Made(id))),
            Err(error) => panic!("{error}"),
        }
        made += usize::from(stands == Some(Standing::Made(id)));
        assert_eq!(uploads::find(one, id).await.unwrap().is_some(), stands == Some(Standing::Made(id)));
    }
    assert_eq!(made, 20, "one for each key");
}

async fn a_key_that_is_claimed_anew_is_not_forgotten_with_its_former_life(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    let sent = |sent_at| IdempotencyKey {
        org_id: world.org,
        route: Route::Uploads,
        key: "key".to_owned(),
        body_sha256: Digest::of(b"body"),
        sent_at,
    };
    let (former, anew, made) = (sent(now), sent(now + KEY_LIFE), Uuid::now_v7());
    idempotency::keep(one, former, Uuid::now_v7()).await.unwrap();

    let (claimed, waited_for) = (anew.clone(), Arc::new(Notify::new()));
    let begun = Arc::clone(&waited_for);
    let claiming = one.write(move |mut tx| {
        Box::pin(async move {
            idempotency::claim(&mut tx, &claimed, made).await?;
            begun.notify_one();
            until_waited_for(&mut tx).await
        })
    });
    let forgetting = async {
        waited_for.notified().await;
        idempotency::forget(&two, now, 10).await
    };
    let (claimed, forgotten) = tokio::join!(claiming, forgetting);

    claimed.unwrap();
    assert_eq!(forgotten.unwrap(), 0);
    assert_eq!(idempotency::find(one, &anew).await.unwrap(), Some(Standing::Made(made)));
}

/// Until another process waits for what this transaction has written.
async fn until_waited_for(tx: &mut Tx<'_>) -> Result<(), LedgerError> {
    let query =
        "select exists (select 1 from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid)))";
    let Connection::Postgres(connection) = tx.on() else { panic!("not PostgreSQL") };
    timeout(LONG, async {
        while !sqlx::query_scalar::<_, bool>(query).fetch_one(&mut *connection).await? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    })
    .await
    .expect("it is waited for")
}

async fn what_is_deleted_beside_stores_and_collectors_is_counted_once(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    let rows = verified(&world, b"the same bytes", 100).await;
    let (first, second) = rows.split_at(50);
    for row in first {
        store(one, row, now).await;
    }

    let deleting = join_all(first.iter().map(|row| files::delete(&two, row.file_id, now)));
    let storing = join_all(second.iter().map(|row| store(one, row, now)));
    let collecting = async {
        for _ in 0..20 {
            let due = blobs::due_to_collect(&two, now, None, 10).await.unwrap();
            let ids: Vec<Uuid> = due.into_iter().map(|(_, id)| id).collect();
            let leaving = blobs::begin_removal(&two, &ids, now).await.unwrap();
            blobs::remove(&two, &leaving).await.unwrap();
        }
    };
    let (deleted, stored, ()) = tokio::join!(deleting, storing, collecting);

    assert!(deleted.into_iter().all(|deleted| deleted.unwrap()));
    let stored = stored.iter().filter(|stored| matches!(stored, Stored::Adopted | Stored::Joined)).count();
    let report = world.report().await;
    assert_eq!((report.files, report.unique_files), (stored.try_into().unwrap(), i64::from(stored > 0)));
}

/// The lines of a manifest of one file, not in force.
async fn manifest(db: &Db, (batch, generation): (Uuid, i64), (path, bytes): (&str, &[u8])) {
    let line = Line { number: 1, path: path.to_owned(), sha256: Digest::of(bytes) };
    manifests::add(db, (batch, generation), &[line]).await.unwrap();
}

async fn a_manifest_comes_into_force_beside_a_verification(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    for round in 0..ROUNDS {
        let batch = world.prefix_batch(10).await;
        let arrived = Upload {
            status: Status::Arrived,
            batch_id: Some(batch.id),
            etag: Some("seen".to_owned()),
            ..world.requested()
        };
        uploads::insert(one, vec![arrived.clone()]).await.unwrap();
        manifest(one, (batch.id, 7), (&arrived.filename, b"promised")).await;

        let found = Digest::of(b"delivered");
        let (held, verified) = tokio::join!(
            manifests::hold(&two, (&batch, 7), 1, now),
            uploads::verify(one, (arrived.id, arrived.batch_id), "seen".to_owned(), found, (now, now)),
        );

        assert_ne!(
            held.unwrap() == Held::Yes,
            verified.unwrap(),
            "round {round}: it holds, or the file has other bytes"
        );
    }
}

/// A manifest as the door takes it in, from a process of its own.
async fn put(db: &Db, batch: Uuid, generation: i64, now: Timestamp) -> Held {
    let seen = batches::find(db, batch).await.unwrap().unwrap();
    for path in ["a", "b", "c"] {
        manifest(db, (batch, generation), (path, b"bytes")).await;
    }
    let held = manifests::hold(db, (&seen, generation), 3, now).await.unwrap();
    let useless = if held == Held::Yes { seen.manifest } else { Some(generation) };
    if let Some(useless) = useless {
        manifests::remove(db, batch, Some(useless)).await.unwrap();
    }
    held
}

async fn manifests_that_come_at_once_leave_one_and_all_of_its_lines(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    let batch = world.prefix_batch(10).await.id;
    for round in 0..2 * i64::try_from(ROUNDS).unwrap() {
        let (first, second) = tokio::join!(put(one, batch, 2 * round + 1, now), put(&two, batch, 2 * round + 2, now));
        assert!(first == Held::Yes || second == Held::Yes, "{first:?} {second:?}");

        let query = "select m.path
            from batches b join manifest_lines m on m.batch_id = b.id and m.generation = b.manifest";
        let lines: Vec<String> = sql!(one.reader(), c => sqlx::query_scalar(query).fetch_all(c).await).unwrap();
        assert_eq!(lines, ["a", "b", "c"]);
    }
    let query = "select count(*) from manifest_lines";
    let left: i64 = sql!(one.reader(), c => sqlx::query_scalar(query).fetch_one(c).await).unwrap();
    assert_eq!(left, 3, "of the others none are left");
}

async fn what_is_stored_while_reports_are_folded_is_counted_once(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    let rows = verified(&world, b"the same bytes", 100).await;

    let storing = join_all(rows.iter().map(|row| store(one, row, now)));
    let folding = async {
        let mut folded = 0;
        while folded < 1 {
            let (first, second) = tokio::join!(reports::fold(one, world.org, now), reports::fold(&two, world.org, now));
            folded += first.unwrap().deltas + second.unwrap().deltas;
        }
    };
    tokio::join!(storing, folding);

    assert_eq!(world.report().await.files, 100);
}

async fn a_recount_beside_stores_and_folds_finds_no_drift(world: World) {
    let (one, two, now) = (&world.ctx.db, world.beside().await, world.ctx.now());
    let rows = verified(&world, b"the same bytes", 120).await;

    let storing = async {
        for row in &rows {
            store(one, row, now).await;
            reports::fold(one, world.org, now).await.unwrap();
        }
    };
    let counting = async {
        for _ in 0..60 {
            assert_eq!(reports::recount(&two, world.org).await.unwrap().drift, Delta::NONE);
        }
    };
    tokio::join!(storing, counting);
}

async fn one_of_two_processes_ticks(world: World) {
    let (one, two) = (&world.ctx.db, world.beside().await);
    let mut seen = None;
    for millis in 1..=20 {
        let tick = Timestamp::from_millis(millis);
        let (first, second) = tokio::join!(
            schedules::claim_tick(one, "fold_reports", seen, tick),
            schedules::claim_tick(&two, "fold_reports", seen, tick),
        );
        assert_ne!(first.unwrap(), second.unwrap());
        seen = Some(tick);
    }
}

fn letter() -> dead_letters::DeadLetter {
    dead_letters::DeadLetter {
        id: Uuid::now_v7(),
        kind: "noop".to_owned(),
        subject: Uuid::now_v7(),
        pool: Pool::Upkeep,
        lane: Lane::Bulk,
        payload: "{}".to_owned(),
        attempts: 1,
        crashes: 0,
        reason: "attempts".to_owned(),
        error: "it was told to fail".to_owned(),
        died_at: Timestamp::from_millis(1),
    }
}

async fn keep(db: &Db, letter: dead_letters::DeadLetter) {
    db.write(|mut tx| Box::pin(async move { dead_letters::insert(&mut tx, &letter).await })).await.unwrap();
}

async fn one_of_two_processes_discards_a_letter(world: World) {
    let (one, two) = (&world.ctx.db, world.beside().await);
    for _ in 0..ROUNDS {
        let dead = letter();
        let again = dead_letters::DeadLetter { id: Uuid::now_v7(), ..dead.clone() };
        tokio::join!(keep(one, dead.clone()), keep(&two, again));
        let filter = || dead_letters::Filter { subject: Some(dead.subject), ..dead_letters::Filter::default() };
        let (first, second) = tokio::join!(dead_letters::discard(one, filter()), dead_letters::discard(&two, filter()));
        assert_eq!(first.unwrap() + second.unwrap(), 1);
    }
}

/// The first row that is written after the sequence was set back ends as one of a ring of locks does. A sequence goes on
/// though its transaction is undone.
const DEADLOCK: &str = "create sequence clashes;
    create function clash() returns trigger language plpgsql as $$
    begin
        if nextval('clashes') = 1 then
            raise exception 'deadlock detected' using errcode = '40P01';
        end if;
        return new;
    end
    $$;
    create trigger clashes before insert or update on uploads for each row execute function clash()";

async fn a_move_that_was_undone_by_a_deadlock_is_made_again(world: World) {
    let (db, now) = (&world.ctx.db, world.ctx.now());
    let batch = Batch::prefix((world.org, Uuid::nil()), None, (10, 10), now);
    batches::insert(db, batch.clone(), Vec::new(), None).await.unwrap();
    let row = |status: Status| {
        let ends = Some(now);
        Upload {
            status,
            etag: Some("seen".to_owned()),
            policy_expires_at: ends,
            batch_id: Some(batch.id),
            ..world.requested()
        }
    };
    let [issued, promised, arrived, changed, single, expired] =
        [Status::Issued, Status::Issued, Status::Arrived, Status::Arrived, Status::Issued, Status::Expired].map(row);
    let member = row(Status::Requested);
    let all = [&issued, &promised, &arrived, &changed, &single, &expired, &member].map(Clone::clone).to_vec();
    uploads::insert(db, all).await.unwrap();
    let Connection::Postgres(lender) = db.reader() else { panic!("not PostgreSQL") };
    lender.lend().await.unwrap().execute(DEADLOCK).await.unwrap();
    let clash = async || {
        lender.lend().await.unwrap().execute("select setval('clashes', 1, false)").await.unwrap();
    };

    clash().await;
    assert!(uploads::expire(db, &issued, now).await.unwrap());
    clash().await;
    assert!(manifests::miss(db, &promised, now).await.unwrap());
    clash().await;
    assert!(uploads::reject(db, &arrived, Reason::DigestMismatch, now).await.unwrap());
    clash().await;
    assert!(uploads::arrive_again(db, &changed, &object(&changed), now).await.unwrap());
    clash().await;
    assert!(uploads::cancel(db, single.id, now).await.unwrap());
    clash().await;
    assert!(uploads::renew(db, expired.id, now, now, now).await.unwrap());
    clash().await;
    let promise = Line { number: 1, path: "a".to_owned(), sha256: Digest::of(b"a") };
    prefixes::miss(db, &batch, vec![promise], now).await.unwrap();
    clash().await;
    let cancelled = members::cancel_some(db, batch.id, Some(single.id), (9, now)).await.unwrap();
    assert!(cancelled.keys.contains(&member.object_key));
}

async fn a_failed_write_leaves_nothing(world: World) {
    let (row, db) = (world.requested(), &world.ctx.db);
    let twice = vec![row.clone(), row.clone()];

    assert!(uploads::insert(db, twice).await.unwrap_err().is_taken());

    assert!(uploads::find(db, row.id).await.unwrap().is_none());
}

async fn a_panic_in_a_write_undoes_it(world: World) {
    let (dead, db) = (letter(), &world.ctx.db);
    let kept = dead.clone();
    let written: Result<(), _> = db
        .write(|mut tx| {
            Box::pin(async move {
                dead_letters::insert(&mut tx, &kept).await?;
                panic!("after the statement")
            })
        })
        .await;

    assert!(written.unwrap_err().to_string().contains("panicked"));
    assert_eq!(dead_letters::find(db, dead.id).await.unwrap(), None);
}

/// Longer than any test takes, unless what it waits for never comes.
const LONG: Duration = Duration::from_secs(20);

/// Announces until it is heard: the listener may not have taken up its line yet.
async fn announced_until_heard(teller: &Db, hearer: &Db) {
    let upload = Uuid::now_v7();
    let mut waiter = hearer.moves().watch(upload);
    let telling = async {
        loop {
            teller.moves().announce(upload, Status::Done);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let heard = async {
        tokio::select! {
            () = waiter.moved(Status::is_final) => (),
            () = telling => (),
        }
    };
    timeout(LONG, heard).await.expect("a move in another process is heard");
}

async fn a_move_in_one_process_wakes_who_waits_in_another(world: World) {
    let two = world.beside().await;
    announced_until_heard(&world.ctx.db, &two).await;
    announced_until_heard(&two, &world.ctx.db).await;

    let row = verified(&world, b"bytes", 1).await.remove(0);
    let mut waiter = two.moves().watch(row.id);
    let stored = store(&world.ctx.db, &row, world.ctx.now()).await;

    assert_eq!(stored, Stored::Adopted);
    timeout(LONG, waiter.moved(Status::is_final)).await.expect("one announcement is enough");
}

async fn a_lost_line_is_taken_up_again(world: World) {
    let two = world.beside().await;
    announced_until_heard(&world.ctx.db, &two).await;

    let query = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where query = 'LISTEN \"longshore_' || (select oid from pg_namespace where nspname = current_schema()) || '\"'";
    let ended: i64 = sql!(two.reader(), c => sqlx::query_scalar(query).fetch_one(c).await).unwrap();
    assert_eq!(ended, 2);

    announced_until_heard(&world.ctx.db, &two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_open_a_new_ledger_at_once() {
    let Some(url) = server::schema("many processes that open a new ledger at once").await else { return };
    for opened in join_all((0..6).map(|_| Db::open_postgres(&url, 2))).await {
        let db = opened.unwrap();
        db.ping().await.unwrap();
        db.close().await;
    }
}
