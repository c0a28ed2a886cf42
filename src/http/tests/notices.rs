//! Notices pushed over HTTP: who may, what is taken, and what the sender has to keep.

use std::sync::atomic::Ordering;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use longshore_jobs::job::Limits;
use longshore_jobs::ledger::uploads;
use longshore_jobs::model::Status;
use serde_json::{Value, json};

use crate::http::Settings;
use crate::http::notices::WebhookSecret;
use crate::http::testing::{Reply, World};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

async fn world() -> World {
    let webhook_secret = Some(WebhookSecret::new(SECRET).unwrap());
    World::with(Limits::default(), Settings { webhook_secret, ..Settings::default() }).await
}

async fn send(world: &World, method: &str, authorization: &str, body: impl Into<Body>) -> Reply {
    let request = Request::builder().method(method).uri("/api/notices").header("authorization", authorization);
    world.send(request.body(body.into()).unwrap()).await
}

async fn push(world: &World, body: &Value) -> Reply {
    send(world, "POST", &format!("Bearer {SECRET}"), body.to_string()).await
}

/// As MinIO words it: S3's records, with the first one's name and place told once more.
fn event(bucket: &str, key: &str) -> Value {
    json!({
        "EventName": "s3:ObjectCreated:Post",
        "Key": format!("{bucket}/{key}"),
        "Records": [{
            "eventVersion": "2.0", "eventSource": "minio:s3", "awsRegion": "", "eventTime": "2026-01-02T03:04:05.678Z",
            "eventName": "s3:ObjectCreated:Post",
            "s3": {
                "s3SchemaVersion": "1.0",
                "bucket": { "name": bucket, "arn": format!("arn:aws:s3:::{bucket}") },
                "object": { "key": key.replace('/', "%2F"), "size": 5, "eTag": "abc", "sequencer": "18A1" },
            },
        }],
    })
}

/// An upload whose bytes lie in the bucket and of which nobody has told: its id and its key.
async fn landed(world: &World) -> (String, String) {
    let reply = world.client().await.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);
    let upload = reply.upload();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let (id, key) = (text(&upload["id"]), text(&upload["upload"]["fields"]["key"]));
    world.shelf.lay(&key, Bytes::from_static(b"bytes"));
    world.idle();
    (id, key)
}

#[tokio::test]
async fn without_a_secret_there_is_no_such_route() {
    let world = World::new().await;
    for method in ["POST", "HEAD", "GET"] {
        send(&world, method, &format!("Bearer {SECRET}"), "").await.is(404);
    }
}

#[tokio::test]
async fn only_whoever_shows_the_secret_is_heard() {
    let world = world().await;
    let key = world.client().await.token.unwrap();
    let other = SECRET.replace('0', "1");

    for wrong in
        ["", "Bearer", &format!("Bearer {other}"), &other, &format!("Basic {SECRET}"), &format!("Bearer {key}")]
    {
        let reply = send(&world, "POST", wrong, "{}").await;
        assert_eq!((reply.status.as_u16(), reply.slug()), (401, "authentication_error"), "{wrong}");
        send(&world, "HEAD", wrong, "").await.is(401);
    }
    for right in [format!("Bearer {SECRET}"), format!("bearer  {SECRET} "), SECRET.to_owned()] {
        send(&world, "POST", &right, event("uploads", "elsewhere").to_string()).await.is(200);
    }
}

#[test]
fn a_short_secret_is_none() {
    assert!(WebhookSecret::new(&SECRET[1..]).is_none());
    assert!(WebhookSecret::new(SECRET).is_some());
}

#[tokio::test]
async fn an_event_is_answered_once_its_arrival_is_on_the_queue() {
    let world = world().await;
    let (id, key) = landed(&world).await;

    let reply = push(&world, &event("uploads", &key)).await.is(200);

    assert_eq!(reply.body, json!({"message": "Successful post request", "notices": [{"arrivals": 1}]}));
    assert_eq!(world.line.kinds(), ["record_arrival"]);
    world.line.drain().await;
    let row = uploads::find(&world.ctx.db, id.parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(row.status, Status::Done);
}

#[tokio::test]
async fn an_event_that_the_queue_does_not_take_is_to_be_sent_again() {
    let world = world().await;
    let (_, key) = landed(&world).await;
    world.line.away.store(true, Ordering::Relaxed);

    let reply = push(&world, &event("uploads", &key)).await.is(503);

    assert_eq!((reply.slug(), reply.header("retry-after")), ("unavailable_error", "2"));
    world.line.away.store(false, Ordering::Relaxed);
    push(&world, &event("uploads", &key)).await.is(200);
    assert_eq!(world.line.kinds(), ["record_arrival"]);
}

#[tokio::test]
async fn what_does_not_concern_us_is_taken_and_forgotten() {
    let world = world().await;
    let (_, key) = landed(&world).await;
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads"});
    let mut removal = event("uploads", &key);
    removal["Records"][0]["eventName"] = "s3:ObjectRemoved:Delete".into();

    for body in [test, removal, event("uploads", "blobs/x"), event("elsewhere", &key)] {
        assert_eq!(push(&world, &body).await.is(200).body["notices"][0]["arrivals"], 0, "{body}");
    }
    assert!(world.line.kinds().is_empty());
}

#[tokio::test]
async fn whoever_asks_whether_we_are_there_is_told_so() {
    let world = world().await;
    let reply = send(&world, "HEAD", &format!("Bearer {SECRET}"), "").await.is(200);
    assert_eq!(reply.text, "");
    send(&world, "POST", &format!("Bearer {SECRET}"), "").await.is(200);
    let reply = send(&world, "GET", &format!("Bearer {SECRET}"), "").await;
    assert_eq!((reply.status.as_u16(), reply.slug()), (405, "method_not_allowed_error"));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_says_why() {
    let world = world().await;
    for body in [&b"{"[..], b"[]", b"{\"Records\": 7}", b"\xff\xfe"] {
        let reply = send(&world, "POST", SECRET, body.to_vec()).await;
        let (status, slug, outer, inner) = reply.error();
        assert_eq!((status, slug, outer), (400, "bad_request_error", "Post request was poorly formed"));
        assert!(inner.contains("notice"), "{inner}");
    }
    let reply = send(&world, "POST", SECRET, vec![b' '; 2 << 20]).await;
    assert_eq!((reply.status.as_u16(), reply.slug()), (413, "payload_too_large_error"));
}
