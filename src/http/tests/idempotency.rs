//! `Idempotency-Key`: the same request makes one upload or one batch, however often and however many at once.

use std::collections::HashSet;
use std::time::Duration;

use axum::body::Body;
use futures_util::future::join_all;
use longshore_jobs::ledger::uploads;
use longshore_jobs::model::Digest;
use serde_json::{Value, json};

use crate::http::testing::{Client, Reply, World};

/// Posts the body as it stands, with these headers.
async fn post(client: &Client<'_>, keys: &[&str], body: &str) -> Reply {
    post_to(client, ("/api/uploads", "application/json"), keys, body).await
}

async fn post_to(client: &Client<'_>, (path, kind): (&str, &str), keys: &[&str], body: &str) -> Reply {
    let request = client.request("POST", path).header("content-type", kind);
    let request = keys.iter().fold(request, |request, key| request.header("idempotency-key", *key));
    client.world.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

async fn count(client: &Client<'_>) -> Value {
    client.get("/api/uploads").await.is(200).body["count"].clone()
}

const BODY: &str = r#"{"filename": "a.txt"}"#;

#[tokio::test]
async fn the_same_request_again_shows_the_upload_as_it_is_now() {
    let world = World::new().await;
    let client = world.client().await;
    let first = post(&client, &["k-1"], BODY).await.is(201);

    let again = post(&client, &["k-1"], BODY).await.is(200);
    assert_eq!(again.upload(), first.upload());
    let path = format!("/api/uploads/{}", first.upload()["id"].as_str().unwrap());
    client.call("DELETE", &path).await.is(200);
    let later = post(&client, &["k-1"], BODY).await.is(200);

    assert_eq!((&later.upload()["id"], &later.upload()["status"]), (&first.upload()["id"], &json!("cancelled")));
    assert_eq!(count(&client).await, 1);
    assert_ne!(post(&client, &["k-2"], BODY).await.is(201).upload()["id"], first.upload()["id"]);
}

#[tokio::test]
async fn a_policy_that_has_ended_is_renewed() {
    let world = World::new().await;
    let client = world.client().await;
    let first = post(&client, &["k-1"], BODY).await.is(201);
    world.clock.turn(Duration::from_secs(890));

    let again = post(&client, &["k-1"], BODY).await.is(200);

    assert_eq!((&again.upload()["id"], &again.upload()["upload"]["expires"]), (&first.upload()["id"], &json!(900)));
}

#[tokio::test]
async fn many_twins_at_once_make_one_upload() {
    let world = World::new().await;
    let client = world.client().await;
    client.form(&[("files", "known", b"known")]).await.is(201);
    let known = json!({ "filename": "b", "sha256": Digest::of(b"known") }).to_string();
    let with_ref = r#"{"filename": "c", "ref": "mine"}"#;

    for (number, body) in [BODY, &known, with_ref].into_iter().enumerate() {
        let key = format!("k-{number}");
        let keys = [key.as_str()];
        let answers = join_all((0..24).map(|_| post(&client, &keys, body))).await;

        let made = answers.iter().filter(|answer| answer.status.as_u16() == 201).count();
        assert!(answers.iter().all(|answer| matches!(answer.status.as_u16(), 200 | 201)), "{answers:?}");
        let ids: HashSet<String> = answers.iter().map(|answer| answer.upload()["id"].to_string()).collect();
        assert_eq!((made, ids.len()), (1, 1), "{body}");
        assert_eq!(count(&client).await, number + 2);
    }
}

#[tokio::test]
async fn another_body_with_the_key_is_refused() {
    let world = World::new().await;
    let client = world.client().await;
    post(&client, &["k-1"], BODY).await.is(201);

    for other in [r#"{"filename":"a.txt"}"#, r#"{"filename": "b.txt"}"#] {
        let refused = post(&client, &["k-1"], other).await.is(422);
        assert_eq!(refused.slug(), "unprocessable_error");
        assert!(refused.error().3.contains("`Idempotency-Key`"), "{}", refused.text);
    }
    assert_eq!(count(&client).await, 1);
}

#[tokio::test]
async fn a_header_that_is_no_key_is_refused() {
    let world = World::new().await;
    let client = world.client().await;

    let longest = "k".repeat(255);
    for keys in [&[""][..], &["two words"], &["tab\t"], &["schlüssel"], &[&format!("{longest}k")], &["one", "two"]] {
        assert_eq!(post(&client, keys, BODY).await.is(400).slug(), "bad_request_error", "{keys:?}");
    }
    assert_eq!(count(&client).await, 0);
    post(&client, &[&longest], BODY).await.is(201);
}

#[tokio::test]
async fn errors_are_not_kept() {
    let world = World::new().await;
    let client = world.client().await;

    post(&client, &["k-1"], r#"{"filename": ""}"#).await.is(422);

    post(&client, &["k-1"], BODY).await.is(201);
}

#[tokio::test]
async fn keys_of_two_orgs_do_not_meet() {
    let world = World::new().await;
    let (one, two) = (world.client().await, world.client().await);

    let first = post(&one, &["k-1"], BODY).await.is(201);
    let second = post(&two, &["k-1"], BODY).await.is(201);

    assert_ne!(first.upload()["id"], second.upload()["id"]);
    post(&two, &["k-1"], r#"{"filename": "b"}"#).await.is(422);
}

#[tokio::test]
async fn a_key_that_came_with_a_known_ref_stands_for_that_upload() {
    let world = World::new().await;
    let client = world.client().await;
    let body = r#"{"filename": "a", "ref": "mine"}"#;
    let first = client.post("/api/uploads", serde_json::from_str(body).unwrap()).await.is(201);

    post(&client, &["k-1"], body).await.is(200);
    let id = first.upload()["id"].as_str().unwrap().parse().unwrap();
    assert!(uploads::cancel(&world.ctx.db, id, world.ctx.now()).await.unwrap());

    let again = post(&client, &["k-1"], body).await.is(200);
    assert_eq!((&again.upload()["id"], &again.upload()["status"]), (&first.upload()["id"], &json!("cancelled")));
    client.post("/api/uploads", serde_json::from_str(body).unwrap()).await.is(201);
}

#[tokio::test]
async fn after_a_day_a_key_is_new() {
    let world = World::new().await;
    let client = world.client().await;
    let first = post(&client, &["k-1"], BODY).await.is(201);

    world.clock.turn(Duration::from_secs(24 * 3600));

    let again = post(&client, &["k-1"], BODY).await.is(201);
    assert_ne!(again.upload()["id"], first.upload()["id"]);
}

const BATCHES: (&str, &str) = ("/api/batches", "application/json");
const EACH: &str = r#"{"uploads": [{"filename": "a.txt"}, {"filename": "b.txt"}]}"#;
const PREFIX: &str = r#"{"mode": "prefix", "maxFiles": 3, "maxFileSize": 10}"#;

async fn count_batches(client: &Client<'_>) -> Value {
    client.get("/api/batches").await.is(200).body["count"].clone()
}

#[tokio::test]
async fn the_same_batch_again_is_shown_as_it_is_now() {
    let world = World::new().await;
    let client = world.client().await;

    for (key, body, status) in [("k-1", EACH, 202), ("k-2", PREFIX, 201)] {
        let first = post_to(&client, BATCHES, &[key], body).await.is(status);
        let again = post_to(&client, BATCHES, &[key], body).await.is(200);
        assert_eq!(again.batch()["id"], first.batch()["id"], "{body}");

        let path = format!("/api/batches/{}", first.batch()["id"].as_str().unwrap());
        client.call("DELETE", &path).await.is(200);
        let later = post_to(&client, BATCHES, &[key], body).await.is(200);
        assert_eq!(later.batch()["id"], first.batch()["id"], "{body}");
        assert!(later.batch()["closedAt"].is_string(), "{}", later.text);
    }
    assert_eq!(count_batches(&client).await, 2);
}

#[tokio::test]
async fn twins_of_a_batch_at_once_make_one() {
    let world = World::new().await;
    let client = world.client().await;

    for (number, (body, status)) in [(EACH, 202), (PREFIX, 201)].into_iter().enumerate() {
        let key = format!("k-{number}");
        let keys = [key.as_str()];
        let answers = join_all((0..12).map(|_| post_to(&client, BATCHES, &keys, body))).await;

        let made = answers.iter().filter(|answer| answer.status.as_u16() == status).count();
        assert!(answers.iter().all(|answer| [200, status].contains(&answer.status.as_u16())), "{answers:?}");
        let ids: HashSet<String> = answers.iter().map(|answer| answer.batch()["id"].to_string()).collect();
        assert_eq!((made, ids.len()), (1, 1), "{body}");
        assert_eq!(count_batches(&client).await, number + 1);
    }
    world.line.drain().await;
    assert_eq!(count(&client).await, 2);
}

#[tokio::test]
async fn another_batch_with_the_key_is_refused_whatever_makes_it_another() {
    let world = World::new().await;
    let client = world.client().await;
    let lines = |query: &'static str| (query, "application/x-ndjson");
    let (line, a) = (r#"{"filename": "a.txt"}"#, lines("/api/batches?target=order&number=A"));
    post_to(&client, a, &["k-1"], line).await.is(202);
    post_to(&client, BATCHES, &["k-2"], PREFIX).await.is(201);

    for (key, place, body) in [
        ("k-1", lines("/api/batches?target=order&number=B"), line),
        ("k-1", lines("/api/batches?target=style&number=A"), line),
        ("k-1", lines("/api/batches"), line),
        ("k-1", a, r#"{"filename": "b.txt"}"#),
        ("k-2", BATCHES, EACH),
        ("k-2", BATCHES, &PREFIX.replace('3', "4")),
    ] {
        let refused = post_to(&client, place, &[key], body).await.is(422);
        assert!(refused.error().3.contains("`Idempotency-Key`"), "{}", refused.text);
    }
    post_to(&client, a, &["k-1"], line).await.is(200);
    assert_eq!(count_batches(&client).await, 2);
}

#[tokio::test]
async fn a_key_stands_for_an_upload_and_for_a_batch_apart() {
    let world = World::new().await;
    let (client, other) = (world.client().await, world.client().await);

    post(&client, &["k-1"], BODY).await.is(201);
    let mine = post_to(&client, BATCHES, &["k-1"], EACH).await.is(202);
    let theirs = post_to(&other, BATCHES, &["k-1"], EACH).await.is(202);

    assert_ne!(mine.batch()["id"], theirs.batch()["id"]);
    let fault = r#"{"uploads": []}"#;
    post_to(&client, BATCHES, &["k-2"], fault).await.is(422);
    post_to(&client, BATCHES, &["k-2"], EACH).await.is(202);
}
