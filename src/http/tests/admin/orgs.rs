//! Orgs over HTTP, and what there is of one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use longshore_jobs::model::org::Scope;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{client_of, letters, operator};
use crate::http::testing::{Client, World};

/// An org with two files of the same bytes, and an upload that waits for its own; its report is folded.
async fn acme(world: &World) -> (Uuid, Client<'_>) {
    let org = world.org("acme").await;
    let client = client_of(world, org, Scope::ALL).await;
    client.form(&[("files", "a.txt", b"bytes"), ("files", "b.txt", b"bytes")]).await.is(201);
    world.line.drain().await;
    client.post("/api/uploads", json!({"filename": "c.txt"})).await.is(201);
    (org, client)
}

#[tokio::test]
async fn orgs_are_listed_oldest_first_with_their_reports() {
    let world = World::new().await;
    let (org, _) = acme(&world).await;
    let operator = operator(&world).await;
    let names = |body: &Value| -> Vec<String> {
        body["orgs"].as_array().unwrap().iter().map(|org| org["name"].as_str().unwrap().to_owned()).collect()
    };

    let all = operator.get("/api/admin/orgs").await.is(200).body;
    let first = operator.get("/api/admin/orgs?perPage=1").await.is(200).body;
    let next = first["next"].as_str().unwrap();
    let second = operator.get(&format!("/api/admin/orgs?perPage=1&after={next}")).await.is(200).body;
    let named = operator.get("/api/admin/orgs?name=ERAT").await.is(200).body;
    let one = operator.get(&format!("/api/admin/orgs/{org}")).await.is(200).body;
    let report = operator.get(&format!("/api/admin/orgs/{org}/report")).await.is(200).body;

    assert_eq!(
        (names(&all), &all["count"], &all["sort"]),
        (vec!["acme".into(), "operators".into()], &json!(2), &json!("createdAt"))
    );
    assert_eq!(
        (names(&first), names(&second), names(&named)),
        (vec!["acme".into()], vec!["operators".into()], vec!["operators".into()])
    );
    assert_eq!(one["orgs"][0], all["orgs"][0]);
    assert_eq!(report["reports"][0], all["orgs"][0]["report"]);
    let report = &all["orgs"][0]["report"];
    assert_eq!(
        [&report["count"], &report["sizeBytes"], &report["uniqueCount"], &report["uniqueSizeBytes"]],
        [2, 10, 1, 5]
    );
    assert_eq!(all["orgs"][1]["report"]["asOf"], Value::Null);
    for query in ["sort=name", "perPage=x", "name=%07", &format!("name={}", "x".repeat(301))] {
        operator.get(&format!("/api/admin/orgs?{query}")).await.is(422);
    }
}

#[tokio::test]
async fn a_rebuild_is_put_on_for_the_org_and_a_queue_that_is_away_is_told() {
    let world = World::new().await;
    let (org, _) = acme(&world).await;
    let operator = operator(&world).await;
    world.line.drain().await;
    world.idle();
    let path = format!("/api/admin/orgs/{org}/rebuild");

    let reply = operator.call("POST", &path).await.is(202);
    world.line.away.store(true, Ordering::Relaxed);
    let refused = operator.call("POST", &path).await;

    assert_eq!(reply.body["orgs"][0]["id"], org.to_string());
    assert_eq!(world.line.kinds(), ["rebuild_reports"]);
    assert_eq!((refused.status.as_u16(), refused.slug()), (503, "unavailable_error"));
    assert!(!refused.text.contains("secret"));
}

#[tokio::test]
async fn an_orgs_figures_are_its_own() {
    let world = World::new().await;
    let (org, client) = acme(&world).await;
    let other = world.client().await;
    other.form(&[("files", "other.txt", b"other")]).await.is(201);
    let open =
        client.get("/api/uploads?status=issued").await.body["uploads"][0]["id"].as_str().unwrap().parse().unwrap();
    letters::keep(&world, &letters::letter(longshore_jobs::verify_upload::VerifyUpload { upload: open })).await;
    world.clock.turn(Duration::from_secs(7));

    let reply = operator(&world).await.get(&format!("/api/admin/orgs/{org}/metrics")).await.is(200);

    let figures = &reply.body["metrics"][0];
    let as_of = figures["reportAsOf"].clone();
    let expected = json!({
        "orgId": org, "files": 2, "bytes": 10, "uniqueFiles": 1, "uniqueBytes": 5, "reportAsOf": as_of, "unfoldedDeltas": 0,
        "oldestDeltaAgeSeconds": null,
        "uploads": {
            "requested": 0, "issued": 1, "arrived": 0, "verified": 0, "done": 2, "rejected": 0, "expired": 0, "cancelled": 0,
        },
        "uploadsCapped": [], "capped": [], "openBatches": 0, "deadLetters": 1, "keys": {"standing": 1},
        "lastUploadAt": "2023-11-14T22:13:20.000Z", "unreferencedBlobs": 0, "unreferencedBytes": 0,
    });
    assert_eq!(figures, &expected);
    assert!(as_of.is_string());
}

#[tokio::test]
async fn prometheus_gets_an_orgs_figures_as_text_without_the_org_in_it() {
    let world = World::new().await;
    let (org, _) = acme(&world).await;
    let operator = operator(&world).await;
    world.clock.turn(Duration::from_secs(7));
    let accepting = async |accept: &str| {
        let request = operator.request("GET", &format!("/api/admin/orgs/{org}/metrics")).header("accept", accept);
        world.send(request.body(axum::body::Body::empty()).unwrap()).await.is(200)
    };

    for accept in
        ["application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain"]
    {
        let reply = accepting(accept).await;
        assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        for line in [
            "# TYPE longshore_org_files gauge",
            "longshore_org_files 2",
            "longshore_org_unique_bytes 5",
            "longshore_org_uploads{status=\"issued\"} 1",
            "longshore_org_uploads{status=\"done\"} 2",
            "longshore_org_report_age_seconds 7",
            "longshore_org_standing_keys 1",
            "longshore_org_last_upload_timestamp_seconds 1700000000",
        ] {
            assert!(reply.text.lines().any(|found| found == line), "{line} is missing in\n{}", reply.text);
        }
        assert!(!reply.text.contains(&org.to_string()) && !reply.text.contains("acme"), "{}", reply.text);
        let named = |line: &&str| !line.starts_with('#') && !line.is_empty();
        for series in reply.text.lines().filter(named) {
            let name = series.split(['{', ' ']).next().unwrap();
            assert!(reply.text.contains(&format!("# HELP {name} ")), "{name}");
        }
    }
    for accept in ["", "*/*", "application/json, text/plain, */*", "text/html"] {
        assert!(accepting(accept).await.body["metrics"].is_array(), "{accept}");
    }
}
