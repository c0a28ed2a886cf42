//! Three ways to learn of an arrival, and what happens when none is taken.

use reqwest::Method;
use serde_json::json;

use crate::engines::Engines;
use crate::server::post_form;

on_each_engine! {
    a_lost_notice_is_made_up_for_by_the_poller,
    a_callback_alone_will_do,
    what_never_comes_expires_and_may_be_renewed,
    a_policy_replayed_after_the_end_changes_nothing,
    a_cancelled_upload_takes_no_bytes,
}

/// Every second, so that a story need not wait for the minute.
const EVERY_SECOND: &str = "* * * * * *";

async fn a_lost_notice_is_made_up_for_by_the_poller(engines: Engines) {
    let server = engines
        .with(&[
            ("LONGSHORE_INBOX_URL", "none:"),
            ("LONGSHORE_LIMITS__FIRST_POLL", "2s"),
            ("LONGSHORE_SCHEDULE__POLL_ARRIVALS", EVERY_SECOND),
        ])
        .await;
    let upload = server.create(json!({ "filename": "quiet.txt" })).await;
    assert_eq!(post_form(&upload, b"nobody told").await, 201);
    assert_eq!(server.settled(&upload).await["status"], "done");
}

async fn a_callback_alone_will_do(engines: Engines) {
    let server = engines.with(&[("LONGSHORE_INBOX_URL", "none:")]).await;
    let upload = server.create(json!({ "filename": "told.txt" })).await;
    let callback = format!("/api/uploads/{}/callback", upload["id"].as_str().unwrap());

    // Too early: it proves nothing.
    let (status, _) = server.post(&callback, json!({})).await;
    assert_eq!(status, 202);
    assert_eq!(post_form(&upload, b"the client tells").await, 201);
    for _ in 0..3 {
        assert_eq!(server.post(&callback, json!({})).await.0, 202);
    }

    assert_eq!(server.settled(&upload).await["status"], "done");
    server.report_of(1).await;
}

async fn what_never_comes_expires_and_may_be_renewed(engines: Engines) {
    let server = engines
        .with(&[
            ("LONGSHORE_LIMITS__POLICY_LIFE", "1s"),
            ("LONGSHORE_LIMITS__EXPIRY_GRACE", "0s"),
            ("LONGSHORE_SCHEDULE__EXPIRE_UPLOADS", EVERY_SECOND),
        ])
        .await;
    let upload = server.create(json!({ "filename": "never.txt" })).await;
    assert_eq!(server.settled(&upload).await["status"], "expired");
    assert!(post_form(&upload, b"too late").await.is_client_error(), "the policy has ended");

    let path = format!("/api/uploads/{}/policy", upload["id"].as_str().unwrap());
    let (status, renewed) = server.post(&path, json!({})).await;
    assert_eq!((status.as_u16(), renewed["uploads"][0]["status"].as_str()), (200, Some("issued")), "{renewed}");
    assert_eq!(post_form(&renewed["uploads"][0], b"in time").await, 201);
    assert_eq!(server.settled(&upload).await["status"], "done");
}

async fn a_policy_replayed_after_the_end_changes_nothing(engines: Engines) {
    let server = engines.start().await;
    let upload = server.create(json!({ "filename": "a" })).await;
    assert_eq!(post_form(&upload, b"first").await, 201);
    let done = server.settled(&upload).await;

    assert_eq!(post_form(&upload, b"replayed").await, 201);
    server.place().staging_is_empty().await;
    let file = format!("/api/files/{}", done["fileId"].as_str().unwrap());
    let (_, entry) = server.get(&file).await;

    assert_eq!(entry["files"][0]["hash"], done["hash"]);
    let report = server.report_of(1).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&json!(5), &json!(1)));
    assert_eq!(server.settled(&upload).await, done);
}

async fn a_cancelled_upload_takes_no_bytes(engines: Engines) {
    let server = engines.start().await;
    let upload = server.create(json!({ "filename": "a" })).await;
    let path = format!("/api/uploads/{}", upload["id"].as_str().unwrap());

    assert_eq!(server.request(Method::DELETE, &path).send().await.unwrap().status(), 200);
    assert_eq!(post_form(&upload, b"late").await, 201, "the bucket cannot know");
    server.place().staging_is_empty().await;

    let ended = server.settled(&upload).await;
    assert_eq!((&ended["status"], &ended["fileId"]), (&json!("cancelled"), &json!(null)));
    assert_eq!(server.get("/api/files").await.1["files"], json!([]));
    assert_eq!(server.get("/api/files/report").await.1["files"][0]["count"], 0);
}
