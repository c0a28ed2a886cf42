//! Uploads of all orgs, by where they stand and why.

use longshore_jobs::ledger::uploads;
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::upload::Reason;
use longshore_jobs::model::{Status, Upload};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{client_of, operator};
use crate::http::testing::World;

async fn put(world: &World, org: Uuid, name: &str, status: Status, reason: Option<Reason>) -> Uuid {
    let asked = Upload::requested(org, Uuid::nil(), name.to_owned(), world.ctx.now());
    let row = Upload { status, reason, ..asked };
    uploads::insert(&world.ctx.db, vec![row.clone()]).await.unwrap();
    world.clock.turn(std::time::Duration::from_secs(1));
    row.id
}

fn names(body: &Value) -> Vec<&str> {
    body["uploads"].as_array().unwrap().iter().map(|upload| upload["filename"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn failed_uploads_of_all_orgs_are_listed_newest_first_with_their_reasons() {
    let world = World::new().await;
    let (acme, other) = (world.org("acme").await, world.org("other").await);
    put(&world, acme, "torn", Status::Rejected, Some(Reason::DigestMismatch)).await;
    put(&world, other, "large", Status::Rejected, Some(Reason::TooLarge)).await;
    put(&world, other, "late", Status::Expired, None).await;
    put(&world, acme, "waits", Status::Issued, None).await;
    put(&world, acme, "done", Status::Done, None).await;
    let operator = operator(&world).await;
    let list = async |query: &str| operator.get(&format!("/api/admin/uploads?{query}")).await.is(200).body;

    let rejected = list("status=rejected").await;

    assert_eq!(
        (names(&rejected), &rejected["count"], &rejected["next"]),
        (vec!["large", "torn"], &json!(2), &Value::Null)
    );
    let torn = &rejected["uploads"][1];
    assert_eq!(
        [&torn["orgId"], &torn["orgName"], &torn["status"], &torn["reason"], &torn["upload"]],
        [&json!(acme), &json!("acme"), &json!("rejected"), &json!("digest_mismatch"), &Value::Null]
    );
    for (query, expected) in [
        (format!("status=rejected&org={acme}"), vec!["torn"]),
        ("reason=too_large".to_owned(), vec!["large"]),
        (format!("status=rejected&reason=too_large&org={acme}"), vec![]),
        ("status=expired".to_owned(), vec!["late"]),
        ("status=issued".to_owned(), vec!["waits"]),
        (format!("status=done&org={acme}"), vec!["done"]),
        (format!("status=rejected&org={}", Uuid::now_v7()), vec![]),
    ] {
        assert_eq!(names(&list(&query).await), expected, "{query}");
    }
}

#[tokio::test]
async fn a_list_of_uploads_goes_on_behind_its_last_one() {
    let world = World::new().await;
    let org = world.org("acme").await;
    let operator = operator(&world).await;
    for status in [Status::Expired, Status::Arrived] {
        for name in ["a", "b", "c"] {
            put(&world, org, name, status, None).await;
        }
        let path = format!("/api/admin/uploads?status={status}&perPage=2");

        let first = operator.get(&path).await.is(200).body;
        // One that comes in between moves nothing.
        put(&world, org, "d", status, None).await;
        let next = first["next"].as_str().unwrap();
        let second = operator.get(&format!("{path}&after={next}")).await.is(200).body;
        let oldest = operator.get(&format!("{path}&sort=createdAt")).await.is(200).body;

        assert_eq!(
            (names(&first), names(&second), names(&oldest)),
            (vec!["c", "b"], vec!["a"], vec!["a", "b"]),
            "{status}"
        );
        assert_eq!((&second["next"], &second["count"]), (&Value::Null, &json!(4)));
    }
}

#[tokio::test]
async fn no_policy_is_shown_to_an_operator_who_may_upload() {
    let world = World::new().await;
    let org = world.org("acme").await;
    let client = client_of(&world, org, Scope::ALL).await;
    client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);

    let reply = client.get("/api/admin/uploads?status=issued").await.is(200);

    assert_eq!((names(&reply.body), &reply.body["uploads"][0]["upload"]), (vec!["a.txt"], &Value::Null));
    assert!(!reply.text.contains("x-amz-signature"), "{}", reply.text);
}

#[tokio::test]
async fn what_cannot_be_listed_is_refused_by_name() {
    let world = World::new().await;
    let operator = operator(&world).await;
    for (query, named) in [
        ("", "status"),
        ("org=00000000-0000-0000-0000-000000000000", "status"),
        ("status=failed", "status"),
        ("status=rejected&reason=bad_luck", "reason"),
        ("status=expired&reason=too_large", "reason"),
        ("status=done", "org"),
        ("status=rejected&org=acme", "org"),
        ("status=rejected&after=1", "after"),
        ("status=rejected&perPage=0", "perPage"),
        ("status=rejected&sort=name", "sort"),
    ] {
        let reply = operator.get(&format!("/api/admin/uploads?{query}")).await;
        assert_eq!(reply.status.as_u16(), 422, "{query}: {}", reply.text);
        assert!(reply.text.contains(&format!("`{named}`")), "{query}: {}", reply.text);
    }
}
