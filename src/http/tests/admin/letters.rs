//! Dead letters over HTTP: the list, and what becomes of what it lists.

use std::time::{Duration, Instant};

use axum::body::Body;
use longshore_jobs::job::{Job, Lane};
use longshore_jobs::ledger::dead_letters::{self, DeadLetter};
use longshore_jobs::ledger::uploads;
use longshore_jobs::noop::Noop;
use longshore_jobs::verify_upload::VerifyUpload;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

use super::operator;
use crate::http::testing::{Client, Reply, World};

/// A letter of a job that has failed too often.
pub(super) fn letter<J: Job>(job: J) -> DeadLetter {
    DeadLetter {
        id: Uuid::now_v7(),
        kind: J::KIND.to_owned(),
        subject: job.subject(),
        pool: J::POOL,
        lane: Lane::Interactive,
        payload: serde_json::to_string(&job).unwrap(),
        attempts: 20,
        crashes: 0,
        reason: "attempts".to_owned(),
        error: "head on the bucket: Connection refused".to_owned(),
        died_at: longshore_jobs::model::Timestamp::from_millis(1_700_000_000_000),
    }
}

pub(super) async fn keep(world: &World, letter: &DeadLetter) {
    let letter = letter.clone();
    let db = &world.ctx.db;
    db.write_one(move |mut tx| Box::pin(async move { dead_letters::insert(&mut tx, &letter).await })).await.unwrap();
}

/// A letter about an upload of a new org, one of a kind that nobody knows, and one whose error is another.
async fn three(world: &World) -> (Client<'_>, [DeadLetter; 3]) {
    world.idle();
    let client = world.client().await;
    let upload = client.post_preferring("/api/uploads", json!({"filename": "a.jpg"}), "respond-async").await.is(202);
    let of_upload = letter(VerifyUpload { upload: upload.upload()["id"].as_str().unwrap().parse().unwrap() });
    let (reason, payload) = ("unknown_kind".to_owned(), "not JSON".to_owned());
    let lost = DeadLetter { kind: "lost".to_owned(), reason, payload, ..letter(Noop::new(Uuid::now_v7())) };
    let full = DeadLetter { error: "the disk is FULL".to_owned(), ..letter(Noop::new(Uuid::now_v7())) };
    for letter in [&of_upload, &lost, &full] {
        keep(world, letter).await;
    }
    (operator(world).await, [of_upload, lost, full])
}

fn ids(reply: &Reply) -> Vec<Uuid> {
    let letters = reply.body["deadLetters"].as_array().unwrap().iter();
    letters.map(|letter| letter["id"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_letter_tells_what_it_was_about_and_what_to_do() {
    let world = World::new().await;
    let (operator, [of_upload, lost, _]) = three(&world).await;

    let reply = operator.get(&format!("/api/admin/dead-letters/{}", of_upload.id)).await.is(200);
    let unread = operator.get(&format!("/api/admin/dead-letters/{}", lost.id)).await.is(200);

    let upload = uploads::find(&world.ctx.db, of_upload.subject).await.unwrap().unwrap();
    let expected = json!({
        "id": of_upload.id, "kind": "verify_upload", "pool": "verify", "lane": "interactive", "subject": of_upload.subject,
        "subjectKind": "upload", "orgId": upload.org_id, "filename": "a.jpg", "reason": "attempts", "attempts": 20, "crashes": 0,
        "error": "head on the bucket: Connection refused", "payload": {"upload": of_upload.subject},
        "diedAt": "2023-11-14T22:13:20.000Z", "advice": of_upload.advice(),
    });
    assert_eq!(reply.body["deadLetters"][0], expected);
    assert!(of_upload.advice().contains(&format!("longshore status {}", of_upload.subject)));
    let unread = &unread.body["deadLetters"][0];
    assert_eq!(
        (&unread["payload"], &unread["subjectKind"], &unread["orgId"]),
        (&json!("not JSON"), &Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn letters_are_listed_newest_first_by_every_filter_and_in_parts() {
    let world = World::new().await;
    let (operator, letters) = three(&world).await;
    let [of_upload, lost, full] = letters.each_ref().map(|letter| letter.id);
    let org =
        operator.get(&format!("/api/admin/dead-letters/{of_upload}")).await.body["deadLetters"][0]["orgId"].clone();

    for (query, expected) in [
        (String::new(), vec![full, lost, of_upload]),
        ("kind=lost".to_owned(), vec![lost]),
        ("pool=verify".to_owned(), vec![of_upload]),
        ("reason=attempts".to_owned(), vec![full, of_upload]),
        (format!("subject={}", letters[2].subject), vec![full]),
        (format!("org={}", org.as_str().unwrap()), vec![of_upload]),
        ("error=disk%20is%20full".to_owned(), vec![full]),
        ("error=refused&reason=unknown_kind".to_owned(), vec![lost]),
        ("error=%25".to_owned(), vec![]),
        ("sort=createdAt".to_owned(), vec![of_upload, lost, full]),
    ] {
        let reply = operator.get(&format!("/api/admin/dead-letters?{query}")).await.is(200);
        assert_eq!(ids(&reply), expected, "{query}");
        assert_eq!(reply.body["count"], expected.len(), "{query}");
        let kinds = json!([
            {"kind": "lost", "reason": "unknown_kind", "count": 1},
            {"kind": "noop", "reason": "attempts", "count": 1},
            {"kind": "verify_upload", "reason": "attempts", "count": 1},
        ]);
        assert_eq!(reply.body["kinds"], kinds);
    }

    let first = operator.get("/api/admin/dead-letters?perPage=2").await.is(200);
    assert_eq!((ids(&first), first.body["next"].as_str().unwrap()), (vec![full, lost], lost.to_string().as_str()));
    keep(&world, &letter(Noop::new(Uuid::now_v7()))).await;
    operator.post("/api/admin/dead-letters/discard", json!({"ids": [lost]})).await.is(200);
    let rest = operator.get(&format!("/api/admin/dead-letters?perPage=2&after={lost}")).await.is(200);
    assert_eq!((ids(&rest), &rest.body["next"]), (vec![of_upload], &Value::Null));
}

#[tokio::test]
async fn one_some_or_all_that_a_filter_lists_are_put_on_again() {
    let world = World::new().await;
    let (operator, letters) = three(&world).await;
    let before = world.line.kinds();
    let retry = async |body: Value| operator.post("/api/admin/dead-letters/retry", body).await.is(200).body;
    let outcome = |body: &Value| [&body["putOn"], &body["unknown"], &body["more"]].map(Value::to_string).join(" ");

    let none = retry(json!({"filter": {"error": "nothing of the kind"}})).await;
    let one = retry(json!({"ids": [letters[2].id, Uuid::now_v7()]})).await;
    let all = retry(json!({"filter": {}})).await;

    assert_eq!(
        (outcome(&none), outcome(&one), outcome(&all)),
        ("0 0 false".into(), "1 0 false".into(), "1 1 false".into())
    );
    assert_eq!(all["deadLetters"], json!([]));
    assert_eq!(
        [&none["before"], &one["before"], &all["before"]],
        [&Value::Null, &json!(letters[2].id), &json!(letters[1].id)]
    );
    assert_eq!(world.line.kinds()[before.len()..], ["noop", "verify_upload"]);
    assert_eq!(ids(&operator.get("/api/admin/dead-letters").await), [letters[1].id]);
}

#[tokio::test]
async fn what_a_filter_lists_is_thrown_away_and_nothing_else() {
    let world = World::new().await;
    let (operator, letters) = three(&world).await;
    let discard = async |body: Value| operator.post("/api/admin/dead-letters/discard", body).await.is(200).body;

    let some = discard(json!({"filter": {"reason": "attempts", "pool": "upkeep", "kind": null}})).await;
    let left = operator.get("/api/admin/dead-letters").await;
    let all = discard(json!({"filter": {}})).await;

    assert_eq!((&some["discarded"], &some["unknown"], &some["more"]), (&json!(1), &json!(0), &json!(false)));
    assert_eq!(ids(&left), [letters[1].id, letters[0].id]);
    assert_eq!(all["discarded"], 2);
}

#[tokio::test]
async fn the_next_call_of_a_loop_leaves_alone_what_died_since_the_first() {
    let world = World::new().await;
    let (operator, letters) = three(&world).await;
    let call = async |way: &str, filter: Value| {
        operator.post(&format!("/api/admin/dead-letters/{way}"), json!({"filter": filter})).await.is(200).body
    };
    let first = call("retry", json!({"reason": "attempts"})).await;
    let again = DeadLetter { id: Uuid::now_v7(), ..letters[2].clone() };
    keep(&world, &again).await;

    let next = call("retry", json!({"reason": "attempts", "before": first["before"]})).await;
    let gone = call("discard", json!({"before": first["before"]})).await;

    assert_eq!((&first["putOn"], &first["before"]), (&json!(2), &json!(letters[2].id)));
    assert_eq!((&next["putOn"], &next["more"], &next["before"]), (&json!(0), &json!(false), &first["before"]));
    assert_eq!((&gone["discarded"], &gone["before"]), (&json!(1), &first["before"]));
    assert_eq!(ids(&operator.get("/api/admin/dead-letters").await), [again.id]);
}

#[tokio::test]
async fn a_retry_comes_to_its_end_although_the_client_goes_away() {
    let world = World::new().await;
    let (operator, letters) = three(&world).await;
    world.line.silent.send_replace(true);
    let request = operator.request("POST", "/api/admin/dead-letters/retry").header("content-type", "application/json");
    let body = json!({"ids": [letters[2].id]}).to_string();
    let retrying = tokio::spawn(world.app.clone().oneshot(request.body(Body::from(body)).unwrap()));
    while !world.line.is_waited_for() {
        tokio::task::yield_now().await;
    }

    retrying.abort();
    assert!(retrying.await.is_err_and(|error| error.is_cancelled()));
    world.line.silent.send_replace(false);

    let deadline = Instant::now() + Duration::from_secs(60);
    while dead_letters::find(&world.ctx.db, letters[2].id).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "the letter is still there");
    }
    assert_eq!(world.line.kinds().last(), Some(&"noop"));
}

#[tokio::test]
async fn letters_stay_when_the_queue_is_away() {
    let world = World::new().await;
    let (operator, _) = three(&world).await;
    world.line.away.store(true, std::sync::atomic::Ordering::Relaxed);

    let reply = operator.post("/api/admin/dead-letters/retry", json!({"filter": {}})).await;

    assert_eq!((reply.status.as_u16(), reply.slug()), (503, "unavailable_error"));
    assert!(!reply.text.contains("secret"));
    assert_eq!(operator.get("/api/admin/dead-letters").await.body["count"], 3);
}

#[tokio::test]
async fn a_body_that_does_not_say_which_letters_is_refused_by_its_field() {
    let world = World::new().await;
    let (operator, letters) = three(&world).await;
    let id = letters[0].id;
    let too_many: Vec<Uuid> = (0..1_001).map(|_| Uuid::nil()).collect();

    for (field, body) in [
        ("ids", json!({})),
        ("ids", json!({"ids": null, "filter": null})),
        ("filter", json!({"ids": [id], "filter": {}})),
        ("ids", json!({"ids": []})),
        ("ids", json!({"ids": too_many})),
        ("ids", json!({"ids": ["nonsense"]})),
        ("ids", json!({"ids": id})),
        ("filter", json!({"filter": "all"})),
        ("filter.pool", json!({"filter": {"pool": "nothing"}})),
        ("filter.subject", json!({"filter": {"subject": 7}})),
        ("filter.org", json!({"filter": {"org": "acme"}})),
        ("filter.kind", json!({"filter": {"kind": ["noop"]}})),
        ("filter.reason", json!({"filter": {"reason": "a\u{0}b"}})),
        ("filter.error", json!({"filter": {"error": "x".repeat(301)}})),
        ("filter.before", json!({"filter": {"before": "yesterday"}})),
        ("filter.died", json!({"filter": {"died": "yesterday"}})),
        ("all", json!({"filter": {}, "all": true})),
    ] {
        for route in ["retry", "discard"] {
            let reply = operator.post(&format!("/api/admin/dead-letters/{route}"), body.clone()).await;
            let named = reply.error().3.starts_with(&format!("Field `{field}`"));
            assert!(
                (reply.status.as_u16(), reply.slug()) == (422, "unprocessable_error") && named,
                "{body}: {}",
                reply.text
            );
        }
    }
    for query in [
        "pool=nothing",
        "subject=x",
        "org=acme",
        "kind=%00",
        "after=x",
        "perPage=0",
        &format!("error={}", "x".repeat(301)),
    ] {
        let reply = operator.get(&format!("/api/admin/dead-letters?{query}")).await;
        let name = query.split('=').next().unwrap();
        assert!(reply.status == 422 && reply.error().3.contains(&format!("`{name}`")), "{query}: {}", reply.text);
    }
    assert_eq!(operator.get("/api/admin/dead-letters").await.body["count"], 3);
}
