//! What no client library is needed for: forms, limits, slowness, the tally.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::super::{Faults, Options, Slowness};
use super::{PLAIN, Served};

fn form(key: &'static str, bytes: &'static [u8]) -> Form {
    let fields = Form::new().text("key", key).text("policy", "is not looked at").text("success_action_status", "201");
    fields.text("Content-Type", "image/png").text("x-amz-meta-upload-id", "7").part("file", Part::bytes(bytes))
}

#[tokio::test]
async fn a_form_becomes_an_object_and_its_answer_says_where() {
    let (served, http) = (Served::start(PLAIN).await, Served::http());

    let posted = http.post(format!("{}/b", served.url)).multipart(form("staging/o/u", b"bytes")).send().await.unwrap();

    assert_eq!(posted.status(), StatusCode::CREATED);
    let etag = posted.headers()["etag"].clone();
    let answer = posted.text().await.unwrap();
    assert!(answer.contains("<Key>staging/o/u</Key>"), "{answer}");
    assert!(answer.contains(&format!("<Location>{}/b/staging/o/u</Location>", served.url)), "{answer}");
    let got = http.get(format!("{}/b/staging/o/u", served.url)).send().await.unwrap();
    let header = |name: &str| got.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((header("content-type"), header("x-amz-meta-upload-id")), ("image/png".into(), "7".into()));
    assert_eq!(got.headers()["etag"], etag);
    assert_eq!(got.bytes().await.unwrap(), "bytes");
}

#[tokio::test]
async fn a_form_without_a_key_or_file_is_refused() {
    let (served, http) = (Served::start(PLAIN).await, Served::http());
    let without_key = Form::new().part("file", Part::bytes(b"x".as_slice()));
    for form in [without_key, Form::new().text("key", "k")] {
        let answer = http.post(format!("{}/b", served.url)).multipart(form).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn what_no_memory_is_left_for_is_refused_and_deleting_makes_room() {
    let (served, http) = (Served::start(Options { max_memory: 1_000, ..PLAIN }).await, Served::http());
    let put = |key: &str, size: usize| http.put(format!("{}/b/{key}", served.url)).body(vec![1; size]).send();
    assert_eq!(put("one", 900).await.unwrap().status(), StatusCode::OK);

    let refused = put("two", 101).await.unwrap();

    assert_eq!(refused.status(), StatusCode::INSUFFICIENT_STORAGE);
    assert!(refused.text().await.unwrap().contains("<Code>SlowDown</Code>"));
    let deleted = http.delete(format!("{}/b/one", served.url)).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    assert_eq!(put("two", 1_000).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_slow_server_takes_its_time_to_begin_and_to_send() {
    let slowness = Slowness { first_byte: Duration::from_millis(30), bandwidth: Some(10_000_000) };
    let (served, http) = (Served::start(Options { slowness, ..PLAIN }).await, Served::http());
    let url = format!("{}/b/key", served.url);
    http.put(&url).body(vec![1; 1_000_000]).send().await.unwrap();

    let started = Instant::now();
    let answer = http.get(&url).send().await.unwrap();
    let begun = started.elapsed();
    assert_eq!(answer.bytes().await.unwrap().len(), 1_000_000);
    let took = started.elapsed();

    assert!(begun >= Duration::from_millis(30), "{begun:?}");
    assert!(took >= Duration::from_millis(130), "{took:?} for 30 ms and 1 MB at 10 MB/s");
}

#[tokio::test]
async fn lost_notices_are_counted() {
    let faults = Faults { drop: 1.0, ..PLAIN.faults };
    let (served, http) = (Served::start(Options { faults, ..PLAIN }).await, Served::http());
    http.put(format!("{}/b/staging/x", served.url)).body("x").send().await.unwrap();
    let tally: Value = http.get(format!("{}/-/notices", served.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(tally, json!({ "objects": 1, "dropped": 1, "duplicated": 0 }));
}

#[tokio::test]
async fn what_it_cannot_do_it_refuses() {
    let (served, http) = (Served::start(PLAIN).await, Served::http());
    let chunked = http
        .put(format!("{}/b/k", served.url))
        .header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
        .body("5;chunk-signature=0\r\nbytes\r\n0\r\n\r\n");
    let requests = [
        chunked,
        http.get(format!("{}/", served.url)),
        http.get(format!("{}/b?list-type=2&delimiter=/", served.url)),
        http.patch(format!("{}/b/k", served.url)),
    ];
    for request in requests {
        assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_IMPLEMENTED);
    }
}
