//! `Idempotency-Key`: the same request makes one upload, however often and however many at once.

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
    let request = client.request("POST", "/api/uploads").header("content-type", "application/json");
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
