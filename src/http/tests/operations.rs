//! Request ids, probes, metrics and the page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use longshore_jobs::ledger::sweeps::{self, Kind, Sum};
use serde_json::json;
use uuid::Uuid;

use crate::http::operations::Check;
use crate::http::testing::World;

#[tokio::test]
async fn every_answer_has_a_request_id_and_a_sane_one_is_kept() {
    let world = World::new().await;
    let long = "x".repeat(129);
    for (sent, kept) in [("abc-123", true), ("with space", false), (long.as_str(), false), ("", false)] {
        for path in ["/livez", "/api/uploads", "/nothing"] {
            let request = world.nobody().request("GET", path).header("x-request-id", sent);
            let reply = world.send(request.body(Body::empty()).unwrap()).await;

            let id = reply.header("x-request-id");
            assert_eq!(id == sent, kept, "{sent} on {path}");
            assert!(kept || Uuid::try_parse(id).is_ok(), "{id}");
        }
    }
}

#[tokio::test]
async fn it_is_ready_without_the_bucket_but_not_without_the_ledger() {
    let world = World::new().await;
    let nobody = world.nobody();
    assert_eq!(nobody.get("/readyz").await.is(200).body["status"], "ok");

    world.shelf.away.store(true, Ordering::Relaxed);
    let degraded = nobody.get("/readyz").await.is(200);
    world.ctx.db.close().await;
    let down = nobody.get("/readyz").await.is(503);

    assert_eq!(
        degraded.body,
        json!({"status": "degraded", "checks": {"ledger": "ok", "writes": "ok", "bucket": "failed"}})
    );
    assert_eq!(down.body["status"], "down");
    assert_eq!(down.body["checks"]["ledger"], "failed");
    nobody.get("/livez").await.is(200);
}

#[tokio::test]
async fn a_check_that_writes_is_made_once_however_many_ask() {
    let made = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&made);
    let check = Check::sparing("writes", move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err("the disk is full".into()) }
    });

    let passed = [check.run().await, check.run().await, check.run().await];

    assert_eq!((passed, made.load(Ordering::Relaxed)), ([false; 3], 1));
}

#[tokio::test]
async fn a_ledger_that_takes_no_writes_is_degraded() {
    let world = World::new().await;
    let forbid =
        "create trigger full before insert on pools begin select raise(abort, 'database or disk is full'); end";
    world
        .ctx
        .db
        .write_one(move |mut tx| {
            Box::pin(
                async move { Ok(longshore_jobs::sql!(tx.on(), c => sqlx::query(forbid).execute(c).await.map(drop))?) },
            )
        })
        .await
        .unwrap();

    let answer = world.nobody().get("/readyz").await.is(200);

    assert_eq!(answer.body["status"], "degraded");
    assert_eq!(answer.body["checks"]["writes"], "failed");
    assert_eq!(answer.body["checks"]["ledger"], "ok");
}

#[tokio::test]
async fn metrics_tell_of_routes_and_of_open_uploads_and_never_of_ids() {
    let world = World::new().await;
    let _metering = metrics::set_default_local_recorder(&world.recorder);
    let client = world.client().await;
    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);
    let id = upload.upload()["id"].as_str().unwrap();
    client.get(&format!("/api/uploads/{id}")).await.is(200);
    client.get("/made/up/path").await.is(404);
    client.call("BREW", "/api/uploads").await.is(405);
    world.clock.turn(Duration::from_secs(7));

    let (orphans, as_of) = (3, world.ctx.now());
    let sum = Sum { kind: Kind::Row, orphans, bytes: 9, oldest_at: Some(as_of), as_of };
    sweeps::keep_sum(&world.ctx.db, sum).await.unwrap();

    let text = world.nobody().get("/metrics").await.is(200).text;

    for line in [
        "longshore_sweep_orphans{kind=\"row\"} 3",
        "longshore_sweep_orphans{kind=\"blob\"} 0",
        "longshore_http_requests_total{route=\"/api/uploads\",method=\"POST\",code=\"201\"} 1",
        "longshore_http_requests_total{route=\"/api/uploads/{id}\",method=\"GET\",code=\"200\"} 1",
        "longshore_http_requests_total{route=\"unmatched\",method=\"GET\",code=\"404\"} 1",
        "method=\"other\",code=\"405\"} 1",
        "longshore_uploads_open{state=\"issued\"} 1",
        "longshore_uploads_open{state=\"requested\"} 0",
        "longshore_upload_oldest_open_age_seconds{state=\"issued\"} 7",
        "longshore_report_age_seconds 0",
        "longshore_http_request_duration_seconds",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains(id) && !text.contains("made/up"), "{text}");
}

#[tokio::test]
async fn the_page_may_talk_to_us_and_to_the_bucket_alone() {
    let world = World::new().await;
    for (path, media_type) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        let reply = world.nobody().get(path).await.is(200);

        assert!(reply.header("content-type").starts_with(media_type));
        assert_eq!(
            reply.header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self' \
             https://bucket.test; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
    }
}
