//! A folder of files through one policy, with a manifest that knows better.

use std::time::{Duration, Instant};

use longshore_jobs::model::Digest;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::engines::Engines;
use crate::server::{Server, client, post_form_with, read};

on_each_engine! {
    a_folder_goes_through_one_policy_and_is_held_against_its_manifest,
    a_batchs_files_whose_notices_are_lost_are_found,
}

/// Every second, so that a story need not wait for the minute.
const EVERY_SECOND: &str = "* * * * * *";

async fn created(server: &Server, max_files: i64) -> Value {
    let body = json!({ "mode": "prefix", "maxFiles": max_files, "maxFileSize": 1000 });
    let (status, answer) = server.post("/api/batches", body).await;
    assert_eq!(status, 201, "{answer}");
    answer["batches"][0].clone()
}

fn path_of(batch: &Value) -> String {
    format!("/api/batches/{}", batch["id"].as_str().unwrap())
}

/// Posts a file with its relative path as the end of the key.
async fn post(batch: &Value, path: &str, bytes: &[u8]) -> StatusCode {
    post_form_with(batch, bytes, |fields| {
        let key = fields.iter_mut().find(|(name, _)| name == "key").unwrap();
        key.1 = key.1.replace("${filename}", path);
    })
    .await
}

/// The batch once it is as wanted.
async fn once(server: &Server, batch: &Value, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (status, answer) = server.get(&path_of(batch)).await;
        assert_eq!(status, 200, "{answer}");
        if wanted(&answer["batches"][0]) {
            return answer["batches"][0].clone();
        }
        assert!(Instant::now() < deadline, "it never came to that: {answer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Path, status and reason of every upload, in the order of the paths.
async fn ends(server: &Server) -> Vec<(String, String, Value)> {
    let (status, answer) = server.get("/api/uploads?perPage=100").await;
    assert_eq!(status, 200, "{answer}");
    let text = |upload: &Value, field: &str| upload[field].as_str().unwrap().to_owned();
    let uploads = answer["uploads"].as_array().unwrap();
    let mut ends: Vec<_> = uploads
        .iter()
        .map(|upload| (text(upload, "filename"), text(upload, "status"), upload["reason"].clone()))
        .collect();
    ends.sort_by(|one, other| one.0.cmp(&other.0));
    ends
}

async fn a_folder_goes_through_one_policy_and_is_held_against_its_manifest(engines: Engines) {
    let server = engines
        .with(&[
            ("LONGSHORE_LIMITS__POLICY_LIFE", "10s"),
            ("LONGSHORE_LIMITS__EXPIRY_GRACE", "0s"),
            ("LONGSHORE_SCHEDULE__CLOSE_BATCHES", EVERY_SECOND),
        ])
        .await;
    let batch = created(&server, 100).await;
    let line = |path: &str, bytes: &[u8]| format!("{}  ./{path}\n", Digest::of(bytes).to_hex());
    let manifest = line("a.txt", b"a") + &line("b/deep/b.txt", b"promised") + &line("c/never.txt", b"c");
    let request = server.request(Method::PUT, &format!("{}/manifest", path_of(&batch))).body(manifest);
    let (status, answer) = read(request.send().await.unwrap()).await;
    assert_eq!((status.as_u16(), &answer["batches"][0]["manifest"]), (200, &json!({ "lines": 3 })), "{answer}");

    for (path, bytes) in [
        ("a.txt", &b"a"[..]),
        ("b/deep/b.txt", b"delivered"),
        ("d/same as a &+%.txt", b"a"),
        ("наряд 🎉.txt", b"unpinned"),
        ("e/../../up.txt", b"x"),
    ] {
        assert_eq!(post(&batch, path, bytes).await, 201, "{path}");
    }
    assert!(
        post_form_with(&batch, b"x", |fields| {
            fields.iter_mut().find(|(name, _)| name == "key").unwrap().1 = "staging/elsewhere/a".to_owned();
        })
        .await
        .is_client_error()
    );
    // Once more, as a client does that did not hear the answer: there is one upload for it all the same.
    assert_eq!(post(&batch, "a.txt", b"a").await, 201);

    let closed = once(&server, &batch, |batch| batch["closedAt"].is_string()).await;

    let rejected = |path: &str, reason: &str| (path.to_owned(), "rejected".to_owned(), json!(reason));
    let done = |path: &str| (path.to_owned(), "done".to_owned(), json!(null));
    assert_eq!(
        ends(&server).await,
        [
            done("a.txt"),
            rejected("b/deep/b.txt", "digest_mismatch"),
            rejected("c/never.txt", "object_missing"),
            done("d/same as a &+%.txt"),
            rejected("e/../../up.txt", "unsafe_path"),
            done("наряд 🎉.txt"),
        ]
    );
    assert_eq!((&closed["counts"]["done"], &closed["counts"]["rejected"]), (&json!(3), &json!(3)));
    assert_eq!((&closed["progress"], &closed["taskResultFailures"]), (&json!(1.0), &json!(3)));
    assert!(post(&batch, "late.txt", b"late").await.is_client_error(), "the policy has ended");
    server.place().staging_is_empty().await;
    assert_eq!(server.report_of(3).await["uniqueCount"], 2);
    forbidden_to_others(&server, &batch).await;
}

async fn forbidden_to_others(server: &Server, batch: &Value) {
    server.place().print(&["org", "create", "rival"]);
    let printed = server.place().print(&["key", "create", "--org", "rival"]);
    let rival = printed.split_whitespace().find(|word| word.starts_with("lsk_")).unwrap();
    for (method, part) in [
        (Method::GET, ""),
        (Method::GET, "/uploads"),
        (Method::POST, "/policy"),
        (Method::POST, "/callback"),
        (Method::PUT, "/manifest"),
        (Method::DELETE, ""),
    ] {
        let url = format!("{}{}{part}", server.url, path_of(batch));
        let status = client().request(method.clone(), url).bearer_auth(rival).send().await.unwrap().status();
        assert_eq!(status, 403, "{method} {part}");
    }
}

async fn a_batchs_files_whose_notices_are_lost_are_found(engines: Engines) {
    let server = engines
        .with(&[
            ("LONGSHORE_INBOX_URL", "none:"),
            ("LONGSHORE_LIMITS__FIRST_POLL", "2s"),
            ("LONGSHORE_SCHEDULE__POLL_ARRIVALS", EVERY_SECOND),
        ])
        .await;
    let batch = created(&server, 2).await;
    for path in ["one", "two/two", "three"] {
        assert_eq!(post(&batch, path, path.as_bytes()).await, 201);
    }

    let ended = once(&server, &batch, |batch| batch["taskCount"] == 3 && batch["progress"] == 1.0).await;

    assert_eq!((&ended["counts"]["done"], &ended["counts"]["rejected"]), (&json!(2), &json!(1)), "{ended}");
    let reasons: Vec<Value> =
        ends(&server).await.into_iter().map(|end| end.2).filter(|reason| !reason.is_null()).collect();
    assert_eq!(reasons, [json!("too_many_files")]);
}
