//! Letters by every filter, and what becomes of them.

use std::sync::Mutex;

use async_trait::async_trait;

use super::super::page::{Page, select_page};
use super::super::plan_tests;
use super::*;
use crate::job::{Context, NewJob};
use crate::ledger::batches;
use crate::model::Batch;
use crate::model::upload::ArrivedVia;
use crate::noop::Noop;
use crate::outside::{LookError, Queue, QueueError, QueuedJob};
use crate::testkit::World;

#[derive(Default)]
struct Pushed(Mutex<Vec<NewJob>>);

#[async_trait]
impl Queue for Pushed {
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
        self.0.lock().unwrap().extend(jobs);
        Ok(())
    }

    async fn about(&self, _: &[Uuid]) -> Result<Vec<QueuedJob>, LookError> {
        Ok(Vec::new())
    }
}

fn letter(kind: &str, reason: &str) -> DeadLetter {
    let subject = Uuid::now_v7();
    DeadLetter {
        id: Uuid::now_v7(),
        kind: kind.to_owned(),
        subject,
        pool: Pool::Upkeep,
        lane: Lane::Bulk,
        payload: serde_json::to_string(&Noop::new(subject)).unwrap(),
        attempts: 10,
        crashes: 0,
        reason: reason.to_owned(),
        error: "it was told to fail".to_owned(),
        died_at: Timestamp::from_millis(1),
    }
}

async fn keep(db: &Db, letters: &[DeadLetter]) {
    let letters = letters.to_vec();
    db.write(|mut tx| {
        Box::pin(async move {
            for letter in &letters {
                insert(&mut tx, letter).await?;
            }
            Ok(())
        })
    })
    .await
    .unwrap();
}

crate::on_every_engine! {
    letters_are_found_by_every_field_and_discarded_by_filter,
    a_letter_from_before_the_rows_last_move_does_not_count,
    a_retried_letter_is_a_job_again_and_an_unknown_one_stays,
    a_second_death_takes_the_place_of_the_first,
    a_letter_is_its_orgs_whatever_its_job_was_about,
    a_part_of_an_error_finds_its_letters_in_whichever_case,
    letters_that_nobody_knows_are_not_in_the_way_of_the_others,
    letters_that_die_again_are_not_taken_twice_and_a_loop_ends,
    letters_that_die_meanwhile_are_not_discarded,
    a_page_begins_behind_a_letter_that_has_gone,
    letters_are_looked_up_and_not_sorted,
}

async fn letters_are_found_by_every_field_and_discarded_by_filter(World { ctx: Context { db, .. }, .. }: World) {
    let (one, other) = (letter(Noop::KIND, "attempts"), letter("lost", "unknown_kind"));
    keep(&db, &[one.clone(), other.clone()]).await;

    let by_kind = Filter { kind: Some("lost".to_owned()), ..Filter::default() };
    let by_subject = Filter { subject: Some(one.subject), pool: Some(Pool::Upkeep), ..Filter::default() };
    let by_reason = Filter { reason: Some("attempts".to_owned()), ..Filter::default() };
    assert_eq!(list(&db, &by_kind, 9).await.unwrap(), std::slice::from_ref(&other));
    assert_eq!(list(&db, &by_subject, 9).await.unwrap(), std::slice::from_ref(&one));
    assert_eq!(list(&db, &by_reason, 9).await.unwrap(), std::slice::from_ref(&one));
    assert_eq!(find(&db, other.id).await.unwrap(), Some(other.clone()));
    assert_eq!(count_by_pool(&db).await.unwrap(), [(Pool::Upkeep, 2)]);

    assert_eq!(discard(&db, by_kind).await.unwrap(), 1);
    assert!(!exists_for(&db, other.subject, other.died_at).await.unwrap());
    assert!(exists_for(&db, one.subject, one.died_at).await.unwrap());
}

async fn a_letter_from_before_the_rows_last_move_does_not_count(World { ctx: Context { db, .. }, .. }: World) {
    let dead = letter(Noop::KIND, "attempts");
    keep(&db, std::slice::from_ref(&dead)).await;

    let moved_since = dead.died_at + std::time::Duration::from_millis(1);

    assert!(exists_for(&db, dead.subject, dead.died_at).await.unwrap());
    assert!(!exists_for(&db, dead.subject, moved_since).await.unwrap());
    let stranger = Uuid::now_v7();
    let asked = [(stranger, dead.died_at), (dead.subject, dead.died_at)];
    assert_eq!(stuck(&db, &asked).await.unwrap(), HashSet::from([dead.subject]));
    assert!(stuck(&db, &[(dead.subject, moved_since)]).await.unwrap().is_empty());
}

async fn a_retried_letter_is_a_job_again_and_an_unknown_one_stays(World { ctx: Context { db, .. }, .. }: World) {
    let (one, other) = (letter(Noop::KIND, "attempts"), letter("lost", "unknown_kind"));
    keep(&db, &[one.clone(), other.clone()]).await;
    let queue = Pushed::default();

    let retried = retry(&db, &queue, &Filter::default(), Timestamp::from_millis(7)).await.unwrap();

    assert_eq!(retried, Retried { put_on: 1, unknown: 1, more: false });
    let due = Timestamp::from_millis(7);
    let expected = NewJob::revive(&one.kind, one.subject, one.payload, one.lane, due).unwrap();
    assert_eq!(*queue.0.lock().unwrap(), [expected]);
    assert_eq!(list(&db, &Filter::default(), 9).await.unwrap(), [other]);
}

async fn a_second_death_takes_the_place_of_the_first(World { ctx: Context { db, .. }, .. }: World) {
    let first = letter(Noop::KIND, "attempts");
    let second = DeadLetter { id: Uuid::now_v7(), reason: "crashed".to_owned(), ..first.clone() };
    keep(&db, &[first, second.clone()]).await;

    assert_eq!(list(&db, &Filter::default(), 9).await.unwrap(), [second]);
}

/// What is about this, with this payload.
fn about(kind: &str, subject: Uuid, payload: String) -> DeadLetter {
    DeadLetter { subject, payload, ..letter(kind, "attempts") }
}

async fn a_letter_is_its_orgs_whatever_its_job_was_about(world: World) {
    let (db, upload) = (&world.ctx.db, world.issued().await);
    let batch = Batch::each((world.org, Uuid::nil()), None, 2, world.ctx.now());
    batches::insert(db, batch.clone(), Vec::new(), None).await.unwrap();
    let key = format!("{}a/b.txt", keys::batch_prefix(world.org, batch.id));
    let object = AdmitObject { key, via: ArrivedVia::Notice };
    let foreign = AdmitObject { key: format!("{}a", keys::batch_prefix(Uuid::now_v7(), batch.id)), ..object.clone() };
    let of_object = |job: &AdmitObject| about(AdmitObject::KIND, job.subject(), serde_json::to_string(job).unwrap());
    let letters = [
        about("verify_upload", upload.id, "{}".to_owned()),
        about("issue_batch", batch.id, "{}".to_owned()),
        about("fold_reports", world.org, "{}".to_owned()),
        of_object(&object),
        about("sweep_bucket", Uuid::nil(), "{}".to_owned()),
        of_object(&foreign),
    ];

    keep(db, &letters).await;

    let of_org = Filter { org: Some(world.org), ..Filter::default() };
    let mut mine = letters[..4].to_vec();
    mine.reverse();
    assert_eq!(list(db, &of_org, 9).await.unwrap(), mine);
    assert_eq!(count(db, &of_org).await.unwrap(), 4);
    let told = abouts(db, &letters).await.unwrap();
    let kinds = letters.each_ref().map(|letter| told[&letter.id].subject_kind);
    use SubjectKind::{Batch as OfBatch, Org, Upload};
    assert_eq!(kinds, [Some(Upload), Some(OfBatch), Some(Org), None, None, None]);
    assert_eq!(told[&letters[0].id].filename, Some(upload.filename));
    assert_eq!((letters[3].path().as_deref(), told[&letters[3].id].org_id), (Some("a/b.txt"), Some(world.org)));
    assert_eq!(told[&letters[5].id].org_id, None, "an org that is not in this ledger is none");
    assert_eq!(discard(db, of_org).await.unwrap(), 4);
}

async fn a_part_of_an_error_finds_its_letters_in_whichever_case(World { ctx: Context { db, .. }, .. }: World) {
    let with = |error: &str| DeadLetter { error: error.to_owned(), ..letter(Noop::KIND, "attempts") };
    let letters = [with("Connection refused (os error 111)"), with("100% of the disk is used"), with("a_b!")];
    keep(&db, &letters).await;

    for (part, found) in [
        ("connection REFUSED", &letters[..1]),
        ("100%", &letters[1..2]),
        ("%", &letters[1..2]),
        ("a_b", &letters[2..]),
        ("b!", &letters[2..]),
        ("axb", &[]),
    ] {
        let filter = Filter { error: Some(part.to_owned()), ..Filter::default() };
        assert_eq!(list(&db, &filter, 9).await.unwrap(), found, "{part}");
    }
}

async fn letters_that_nobody_knows_are_not_in_the_way_of_the_others(World { ctx: Context { db, .. }, .. }: World) {
    let mut letters: Vec<_> = (0..10_001).map(|_| letter(Noop::KIND, "attempts")).collect();
    letters.extend((0..10).map(|_| letter("lost", "unknown_kind")));
    keep(&db, &letters).await;
    let (queue, all, now) = (Pushed::default(), Filter::default(), Timestamp::from_millis(7));

    let first = retry(&db, &queue, &all, now).await.unwrap();
    let second = retry(&db, &queue, &all, now).await.unwrap();

    assert_eq!(first, Retried { put_on: 10_000, unknown: 10, more: true });
    assert_eq!(second, Retried { put_on: 1, unknown: 10, more: false });
    assert_eq!(
        count_by_kind(&db).await.unwrap(),
        [KindCount { kind: "lost".into(), reason: "unknown_kind".into(), count: 10 }]
    );
    let ids = letters[10_005..10_008].iter().map(|letter| letter.id).collect();
    assert_eq!(discard(&db, Filter::by_ids(ids)).await.unwrap(), 3);
    assert_eq!(discard(&db, all).await.unwrap(), 7);
}

async fn letters_that_die_again_are_not_taken_twice_and_a_loop_ends(World { ctx: Context { db, .. }, .. }: World) {
    let letters: Vec<_> = (0..20_000).map(|_| letter(Noop::KIND, "undecodable")).collect();
    keep(&db, &letters).await;
    let (queue, now) = (Pushed::default(), Timestamp::from_millis(7));
    let all = Filter::default().bounded(&db).await.unwrap();
    assert_eq!(all.before, Some(letters[19_999].id));

    let mut calls = Vec::new();
    for dying in letters.chunks(10_000) {
        calls.push(retry(&db, &queue, &all, now).await.unwrap());
        let again = |letter: &DeadLetter| DeadLetter { id: Uuid::now_v7(), ..letter.clone() };
        keep(&db, &dying.iter().map(again).collect::<Vec<_>>()).await;
    }

    let taken = |more| Retried { put_on: 10_000, unknown: 0, more };
    assert_eq!(calls, [taken(true), taken(false)]);
    assert_eq!(retry(&db, &queue, &all, now).await.unwrap(), Retried::default());
    let pushed: Vec<Uuid> = queue.0.lock().unwrap().iter().map(NewJob::subject).collect();
    assert_eq!(pushed, letters.iter().map(|letter| letter.subject).collect::<Vec<_>>(), "the oldest first, each once");
}

async fn letters_that_die_meanwhile_are_not_discarded(World { ctx: Context { db, .. }, .. }: World) {
    let letters: Vec<_> = (0..3).map(|_| letter(Noop::KIND, "attempts")).collect();
    keep(&db, &letters[..2]).await;
    let seen = Filter { kind: Some(Noop::KIND.to_owned()), ..Filter::default() }.bounded(&db).await.unwrap();
    keep(&db, &letters[2..]).await;

    assert_eq!(seen.clone().bounded(&db).await.unwrap(), seen, "what was named holds");
    assert_eq!(count(&db, &seen).await.unwrap(), 2);
    assert_eq!(discard(&db, seen).await.unwrap(), 2);
    assert_eq!(list(&db, &Filter::default(), 9).await.unwrap(), letters[2..]);
}

async fn a_page_begins_behind_a_letter_that_has_gone(World { ctx: Context { db, .. }, .. }: World) {
    let letters: Vec<_> = (0..5).map(|_| letter(Noop::KIND, "attempts")).collect();
    keep(&db, &letters).await;
    discard(&db, Filter::by_id(letters[2].id)).await.unwrap();

    let behind = Page { ascending: false, after: Some(letters[2].id), limit: 9, offset: 0 };
    let found = page(&db, &Filter::default(), behind).await.unwrap();

    assert_eq!(found, [letters[1].clone(), letters[0].clone()]);
}

async fn letters_are_looked_up_and_not_sorted(world: World) {
    let texts = [
        "insert into dead_letters (id, kind, subject, pool, lane, payload, attempts, crashes, reason, error, died_at, org_id)
            select unhex('00000000000070008000' || (100000000000 + number)), 'k' || (number / 1000),
                unhex('00000000000070008001' || (100000000000 + number)), 'upkeep', 'bulk', '{}', 1, 0, 'attempts', 'e', 0,
                unhex('00000000000070008002' || (100000000000 + number / 100))
            from numbers",
    ];
    plan_tests::fill(&world, &texts).await;
    let org = Filter { org: Some(world.org), ..Filter::default() };
    let first = Page { ascending: false, after: None, limit: 31, offset: 0 };
    let by_id = world.ctx.db.reader().text("sqlite_autoindex_dead_letters_1", "dead_letters_pkey");
    for (filter, index) in [(org, "dead_letters_by_org"), (Filter::default(), by_id)] {
        let query = select_page(&filter.text(&world.ctx.db), first, 9);
        let org = filter.org.map_or("null".to_owned(), |org| format!("'{org}'"));
        let values = ["null", "null", "null", "null", "null", &org, "null", "null", "null", "31", "0"];
        let plan = plan_tests::plan(&world, &query, &values).await;
        assert!(plan.contains(index) && !plan.contains("Sort") && !plan.contains("TEMP B-TREE"), "{query}\n{plan}");
    }
    let kinds = "select kind, reason, count(*) as count from dead_letters group by kind, reason order by kind, reason";
    let plan = plan_tests::plan(&world, kinds, &[]).await;
    assert!(plan.contains("dead_letters_by_kind"), "{plan}");
}

#[test]
fn a_letter_of_another_version_says_when_to_discard_it() {
    for reason in ["attempts", "gave_up", "crashed", "undecodable", "unknown_kind"] {
        let letter = letter("lost", reason);
        let discard = format!("`longshore jobs discard {}`", letter.id);
        let is_of_another_version = ["undecodable", "unknown_kind"].contains(&reason);
        for subject in [letter.subject, Uuid::nil()] {
            let advice = DeadLetter { subject, ..letter.clone() }.advice();
            assert_eq!(advice.contains(&discard), is_of_another_version, "{advice}");
        }
    }
}
