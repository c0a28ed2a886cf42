//! What operators see and do, and that nobody else does.

mod letters;
mod orgs;
mod pools;
mod search;
mod uploads;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longshore_jobs::job::{Lane, NewJob};
use longshore_jobs::ledger::failures;
use longshore_jobs::model::org::Scope;
use longshore_jobs::noop::Noop;
use longshore_jobs::verify_upload::VerifyUpload;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::testing::document::operations;
use crate::http::testing::{Client, World};

/// Every route of operators: method, path, and a good body. `{id}` is the id of an org or of anything else.
const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/api/admin/overview", ""),
    ("GET", "/api/admin/pools", ""),
    ("POST", "/api/admin/pools/{pool}/pause", ""),
    ("POST", "/api/admin/pools/{pool}/resume", ""),
    ("GET", "/api/admin/dead-letters", ""),
    ("GET", "/api/admin/dead-letters/{id}", ""),
    ("POST", "/api/admin/dead-letters/retry", r#"{"filter": {}}"#),
    ("POST", "/api/admin/dead-letters/discard", r#"{"filter": {}}"#),
    ("GET", "/api/admin/orgs", ""),
    ("GET", "/api/admin/orgs/{id}", ""),
    ("GET", "/api/admin/orgs/{id}/report", ""),
    ("POST", "/api/admin/orgs/{id}/rebuild", ""),
    ("GET", "/api/admin/orgs/{id}/metrics", ""),
    ("GET", "/api/admin/uploads?status=rejected", ""),
    ("GET", "/api/admin/uploads/{id}", ""),
    ("GET", "/api/admin/workers", ""),
    ("GET", "/api/admin/search?q=x", ""),
];

/// A client of an org of that name, with these scopes.
async fn client_of<'w>(world: &'w World, org: Uuid, scopes: &[Scope]) -> Client<'w> {
    Client { token: Some(world.key(org, scopes).await), world }
}

/// An operator who is nothing else, and whose org has nothing.
async fn operator(world: &World) -> Client<'_> {
    let org = world.org("operators").await;
    client_of(world, org, &[Scope::Admin]).await
}

async fn try_route(client: &Client<'_>, route: &(&str, &str, &str), id: &str) -> crate::http::testing::Reply {
    let (method, path, body) = route;
    let path = path.replace("{id}", id).replace("{pool}", "upkeep");
    let request = client.request(method, &path).header("content-type", "application/json");
    client.world.send(request.body((*body).to_owned().into()).unwrap()).await
}

#[test]
fn every_route_of_operators_is_tried_here() {
    let without_query = |path: &str| path.split('?').next().unwrap().to_owned();
    let tried: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), without_query(path))).collect();

    let documented = operations().into_iter().filter(|(_, path)| path.starts_with("/api/admin/"));
    assert_eq!(tried, documented.collect());
}

#[tokio::test]
async fn no_route_of_operators_answers_without_a_key_or_without_the_scope() {
    let world = World::new().await;
    let org = world.org("acme").await;
    let others = [Scope::Upload, Scope::Read, Scope::Report];
    let client = client_of(&world, org, &others).await;

    for route in ROUTES {
        for id in [org.to_string(), Uuid::now_v7().to_string(), "nonsense".to_owned()] {
            let (nobody, other) = (world.nobody(), &client);
            let (nobody, other) = (try_route(&nobody, route, &id).await, try_route(other, route, &id).await);
            assert_eq!((nobody.status.as_u16(), nobody.slug()), (401, "authentication_error"), "{route:?}");
            assert_eq!((other.status.as_u16(), other.slug()), (403, "authorization_error"), "{route:?}");
        }
    }
    assert!(world.line.kinds().is_empty());
}

#[tokio::test]
async fn an_operator_of_any_org_is_answered_and_what_is_not_there_is_not_found() {
    let world = World::new().await;
    let (org, operator) = (world.org("acme").await, operator(&world).await);

    for route in ROUTES {
        let reply = try_route(&operator, route, &org.to_string()).await;
        // An org is neither a letter nor an upload.
        let is_of_another = route.1.contains("dead-letters/{id}") || route.1.contains("uploads/{id}");
        assert!(reply.status.is_success() != is_of_another, "{route:?}: {}", reply.text);
        for id in [Uuid::now_v7().to_string(), "nonsense".to_owned(), "%ff%fe".to_owned(), "..%2f..".to_owned()] {
            if route.1.contains("{id}") {
                let reply = try_route(&operator, route, &id).await;
                let slug = if route.1.contains("uploads/") { "upload_not_found_error" } else { "not_found_error" };
                assert_eq!((reply.status.as_u16(), reply.slug()), (404, slug), "{route:?}");
                assert!(reply.error().2.contains("does not exist"), "{}", reply.text);
            }
        }
    }
    for pool in ["nothing", "UPKEEP", "%ff", "..%2f.."] {
        let reply = operator.post(&format!("/api/admin/pools/{pool}/pause"), Value::Null).await;
        assert_eq!((reply.status.as_u16(), reply.slug()), (404, "not_found_error"), "{pool}");
    }
}

#[tokio::test]
async fn the_overview_tells_how_everything_is() {
    let world = World::new().await;
    let client = world.client().await;
    client.form(&[("files", "a.txt", b"bytes"), ("files", "b.txt", b"bytes")]).await.is(201);
    let cancelled = client.post("/api/uploads", json!({"filename": "c.txt"})).await.is(201);
    client.call("DELETE", &format!("/api/uploads/{}", cancelled.upload()["id"].as_str().unwrap())).await.is(200);
    client.post("/api/uploads", json!({"filename": "d.txt"})).await.is(201);
    world.line.drain().await;
    let waiting = NewJob::of(&VerifyUpload { upload: Uuid::now_v7() }, Lane::Bulk, world.ctx.now());
    world.engine.push(vec![waiting]).await.unwrap();
    letters::keep(&world, &letters::letter(Noop::new(Uuid::now_v7()))).await;
    world.shelf.away.store(true, Ordering::Relaxed);
    world.clock.turn(Duration::from_secs(7));

    let reply = operator(&world).await.get("/api/admin/overview").await.is(200);

    let seen = &reply.body["overview"][0];
    assert_eq!(seen["engines"], json!({"ledger": "sqlite", "queue": "sql", "bucket": "local", "inbox": "none"}));
    assert_eq!(seen["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(seen["uploads"]["issued"], json!({"count": 1, "oldestAgeSeconds": 7.0}));
    assert_eq!(seen["uploads"]["verified"], json!({"count": 0, "oldestAgeSeconds": null}));
    assert_eq!(seen["ended"], json!({"done": 2, "rejected": 0, "expired": 0, "cancelled": 1}));
    assert_eq!((&seen["endedCapped"], &seen["deadLetters"]), (&json!([]), &json!(1)));
    assert_eq!(seen["report"], json!({"oldestDeltaAgeSeconds": null}));
    assert_eq!(seen["checks"], json!({"ledger": "ok", "writes": "ok", "bucket": "failed"}));
    assert_eq!(seen["schedules"], json!([{"kind": "fold_reports", "lastTickAt": null}]));
    assert_eq!(seen["sweep"], json!([]));
    let verify = seen["pools"].as_array().unwrap().iter().find(|pool| pool["pool"] == "verify").unwrap();
    let expected = json!({
        "pool": "verify", "paused": false, "pausedAt": null, "waiting": 1, "due": 1, "running": 0, "dead": 0,
        "oldestAgeSeconds": 7.0, "perSecond": null, "workers": 0,
    });
    assert_eq!(verify, &expected);
}

#[tokio::test]
async fn the_overview_tells_what_jobs_fail_of() {
    let world = World::new().await;
    let note = async |kind: &'static str, subject, error: &'static str| {
        failures::note(&world.ctx.db, (subject, kind), error, world.ctx.now()).await.unwrap();
    };
    note("store_file", Uuid::now_v7(), "it was long ago").await;
    world.clock.turn(Duration::from_secs(901));
    let last = Uuid::now_v7();
    for subject in [Uuid::now_v7(), last] {
        note("verify_upload", subject, "Permission denied").await;
        world.clock.turn(Duration::from_secs(1));
    }
    note("sweep_bucket", Uuid::nil(), "No such file").await;
    for kind in ["a", "b", "c", "d"] {
        note(kind, last, "another").await;
    }

    let reply = operator(&world).await.get("/api/admin/overview").await.is(200);

    let failing = reply.body["overview"][0]["failing"].as_array().unwrap();
    let last_at = world.ctx.now() - Duration::from_secs(1);
    let first =
        json!({"kind": "verify_upload", "error": "Permission denied", "jobs": 2, "lastAt": last_at, "example": last});
    assert_eq!((failing.len(), &failing[0]), (5, &first), "{failing:?}");
    assert!(!reply.text.contains("long ago"), "{}", reply.text);
}

#[tokio::test]
async fn an_overview_is_read_once_for_many_and_anew_after_a_change() {
    let world = World::new().await;
    let operator = operator(&world).await;
    let first = operator.get("/api/admin/overview").await.is(200);
    world.clock.turn(Duration::from_secs(1));

    let second = operator.get("/api/admin/overview").await.is(200);
    operator.post("/api/admin/pools/upkeep/pause", Value::Null).await.is(200);
    let third = operator.get("/api/admin/overview").await.is(200);

    assert_eq!(first.body, second.body);
    assert_ne!(first.body["overview"][0]["asOf"], third.body["overview"][0]["asOf"]);
    assert!(third.text.contains(r#""pool":"upkeep","paused":true"#), "{}", third.text);
}

#[tokio::test]
async fn an_overview_without_the_ledger_is_unavailable() {
    let world = World::new().await;
    let operator = operator(&world).await;
    operator.get("/api/admin/pools").await.is(200);
    world.ctx.db.close().await;

    let reply = operator.get("/api/admin/overview").await;

    assert_eq!((reply.status.as_u16(), reply.slug()), (503, "unavailable_error"));
}
