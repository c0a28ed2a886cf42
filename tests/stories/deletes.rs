//! Files go, and their bytes after them; and one request, however often it is sent, makes one upload.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::engines::Engines;
use crate::server::{Server, TOKEN, client, read};

on_each_engine! {
    bytes_go_after_the_last_of_their_files_and_not_if_they_came_back,
    the_same_request_to_two_processes_makes_one_upload,
}

/// The collector looks every second, and bytes are due twelve seconds after their last file was deleted.
const IMPATIENT: &[(&str, &str)] =
    &[("LONGSHORE_SCHEDULE__COLLECT_BLOBS", "* * * * * *"), ("LONGSHORE_LIMITS__BLOB_GRACE", "12s")];

async fn delete(server: &Server, upload: &Value) -> u16 {
    let path = format!("/api/files/{}", upload["fileId"].as_str().unwrap());
    read(server.request(Method::DELETE, &path).send().await.unwrap()).await.0.as_u16()
}

/// Waits until so many blobs lie in the bucket.
async fn blobs_become(server: &Server, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let blobs = server.place().blobs().await;
        if blobs == count {
            return;
        }
        assert!(Instant::now() < deadline, "{blobs} blobs are in the bucket, not {count}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn bytes_go_after_the_last_of_their_files_and_not_if_they_came_back(engines: Engines) {
    let server = engines.with(IMPATIENT).await;
    let (one, two) = (server.uploaded("one.txt", b"shared").await, server.uploaded("two.txt", b"shared").await);
    let (missed, gone) = (server.uploaded("missed.txt", b"missed").await, server.uploaded("gone.txt", b"gone").await);
    assert_eq!(server.place().blobs().await, 3);

    for file in [&one, &missed, &gone] {
        assert_eq!((delete(&server, file).await, delete(&server, file).await), (200, 404));
    }
    let back = server.uploaded("back.txt", b"missed").await;
    assert_eq!(back["deduplicated"], true, "the bytes were still there");

    // Those that nobody brought back have gone, and by then the collector has passed over the others.
    blobs_become(&server, 2).await;
    for file in [&two, &back] {
        let content = format!("/api/files/{}/content", file["fileId"].as_str().unwrap());
        let redirect = server.request(Method::GET, &content).send().await.unwrap();
        let place = redirect.headers()["location"].to_str().unwrap().to_owned();
        assert_eq!(client().get(place).send().await.unwrap().status(), 200);
    }
    let report = server.report_of(2).await;
    assert_eq!((&report["uniqueCount"], &report["uniqueSizeBytes"]), (&json!(2), &json!(12)));

    assert_eq!((delete(&server, &two).await, delete(&server, &back).await), (200, 200));
    blobs_become(&server, 0).await;
    let again = server.uploaded("again.txt", b"shared").await;
    assert_eq!((&again["status"], &again["deduplicated"]), (&json!("done"), &json!(false)));
    server.report_of(1).await;
    server.place().print(&["report", "--rebuild"]);
    assert_eq!(server.report_of(1).await["uniqueCount"], 1);
}

async fn the_same_request_to_two_processes_makes_one_upload(engines: Engines) {
    let server = engines.start().await;
    // On SQLite one process serves alone.
    let second = engines.are_remote().then(|| server.place().spawn(&["intake"]));
    let urls = [server.url.as_str(), second.as_ref().map_or(server.url.as_str(), |second| second.url.as_str())];

    for round in 0..5 {
        let post = |number: usize| {
            let request = client().post(format!("{}/api/uploads", urls[number % 2])).bearer_auth(TOKEN);
            let request = request.header("Idempotency-Key", format!("round-{round}"));
            async move { read(request.json(&json!({ "filename": "a.txt" })).send().await.unwrap()).await }
        };
        let answers = join_all((0..10).map(post)).await;

        let made = answers.iter().filter(|(status, _)| *status == 201).count();
        let ids: HashSet<&str> =
            answers.iter().map(|(_, answer)| answer["uploads"][0]["id"].as_str().unwrap()).collect();
        assert_eq!((made, ids.len()), (1, 1), "{answers:?}");
    }
    assert_eq!(server.get("/api/uploads").await.1["count"], 5);
}
