//! `GET /api/admin/uploads/{id}`: who may ask, and what it tells of uploads that went this way or that.

use longshore_jobs::job::{Delivery, perform};
use longshore_jobs::ledger::dead_letters::{self, DeadLetter};
use longshore_jobs::model::Digest;
use longshore_jobs::model::org::Scope;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::http::testing::{Client, Reply, World};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn operator(world: &World) -> Client<'_> {
    let org = world.org("operators").await;
    Client { token: Some(world.key(org, &[Scope::Admin]).await), world }
}

/// Asks for an upload within a trace; returns its id.
async fn ask(client: &Client<'_>, body: Value) -> String {
    let request = client.request("POST", "/api/uploads").header("content-type", "application/json");
    let request = request.header("traceparent", PARENT).body(body.to_string().into()).unwrap();
    let reply = client.world.send(request).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    id_of(reply.upload())
}

fn id_of(entry: &Value) -> String {
    entry["id"].as_str().unwrap().to_owned()
}

/// Puts these bytes where the upload expects them, and says so.
async fn put(client: &Client<'_>, id: &str, bytes: &'static [u8]) {
    let key = client.get(&format!("/api/uploads/{id}")).await.upload()["upload"]["fields"]["key"].clone();
    client.world.shelf.lay(key.as_str().unwrap(), bytes.into());
    client.call("POST", &format!("/api/uploads/{id}/callback")).await.is(202);
    client.world.line.drain().await;
}

async fn timeline(operator: &Client<'_>, id: &str) -> Reply {
    operator.get(&format!("/api/admin/uploads/{id}")).await.is(200)
}

fn steps(reply: &Reply) -> Vec<&str> {
    reply.upload()["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn only_operators_may_ask_and_learn_what_there_is() {
    let world = World::new().await;
    let id = ask(&world.client().await, json!({"filename": "a.txt"})).await;
    let org = world.org("others").await;
    let others = [Scope::Upload, Scope::Read, Scope::Report];
    let other = Client { token: Some(world.key(org, &others).await), world: &world };

    for id in [id.clone(), Uuid::now_v7().to_string(), "nonsense".to_owned()] {
        let path = format!("/api/admin/uploads/{id}");
        assert_eq!(world.nobody().get(&path).await.is(401).slug(), "authentication_error");
        assert_eq!(other.get(&path).await.is(403).slug(), "authorization_error");
    }
    let operator = operator(&world).await;
    for id in [Uuid::now_v7().to_string(), "nonsense".to_owned(), "%ff".to_owned()] {
        let reply = operator.get(&format!("/api/admin/uploads/{id}")).await.is(404);
        assert_eq!(reply.slug(), "upload_not_found_error");
    }
    timeline(&operator, &id).await;
}

#[tokio::test]
async fn an_upload_that_is_done_shows_its_way_and_its_trace() {
    let world = World::new().await;
    let (client, operator) = (world.client().await, operator(&world).await);
    let id = ask(&client, json!({"filename": "a.txt", "size": 5})).await;
    put(&client, &id, b"bytes").await;

    let reply = timeline(&operator, &id).await;

    assert_eq!(steps(&reply), ["requested", "policy", "notified", "hashed", "stored", "done"]);
    let told = reply.upload();
    assert!(told["steps"].as_array().unwrap().iter().all(|step| step["at"].is_string()), "{}", reply.text);
    assert_eq!(told["steps"][2]["note"], "by callback");
    assert_eq!((&told["waitsFor"], &told["jobs"], &told["failures"]), (&json!("nothing"), &json!([]), &json!([])));
    assert_eq!((&told["upload"]["id"], &told["upload"]["status"]), (&json!(id), &json!("done")));
    assert_eq!(told["upload"]["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(told["upload"]["orgId"], told["org"]["id"]);
    assert_eq!(told["meaning"], Value::Null);
    let file = told["upload"]["fileId"].as_str().unwrap();
    assert_eq!(timeline(&operator, file).await.upload()["upload"]["id"], json!(id));
}

#[tokio::test]
async fn bytes_that_the_org_had_are_told_with_their_blob() {
    let world = World::new().await;
    let (client, operator) = (world.client().await, operator(&world).await);
    let first = ask(&client, json!({"filename": "a.txt"})).await;
    put(&client, &first, b"bytes").await;
    let second = ask(&client, json!({"filename": "b.txt"})).await;
    put(&client, &second, b"bytes").await;
    let known = ask(&client, json!({"filename": "c.txt", "sha256": Digest::of(b"bytes").to_hex()})).await;

    let blob = timeline(&operator, &first).await.upload()["steps"][4]["note"].clone();
    let second = timeline(&operator, &second).await;
    let known = timeline(&operator, &known).await;

    assert_eq!((steps(&second)[4], &second.upload()["steps"][4]["note"]), ("deduplicated", &blob));
    assert_eq!(steps(&known), ["requested", "deduplicated", "done"]);
    assert_eq!(known.upload()["steps"][1]["note"], blob);
}

#[tokio::test]
async fn an_upload_that_is_open_shows_what_is_still_to_come_and_no_policy() {
    let world = World::new().await;
    let operator = operator(&world).await;
    let id = ask(&world.client().await, json!({"filename": "a.txt"})).await;

    let reply = timeline(&operator, &id).await;

    assert_eq!(steps(&reply), ["requested", "policy", "landed", "notified", "hashed", "stored", "done"]);
    assert!(reply.upload()["steps"][2]["at"].is_null());
    assert!(reply.upload()["upload"]["nextPollAt"].is_string());
    assert!(reply.upload()["upload"]["upload"].is_null() && !reply.text.contains("signed"), "{}", reply.text);
}

#[tokio::test]
async fn a_rejected_upload_says_why() {
    let world = World::new().await;
    let (client, operator) = (world.client().await, operator(&world).await);
    let id = ask(&client, json!({"filename": "a.txt", "sha256": Digest::of(b"other").to_hex()})).await;
    put(&client, &id, b"bytes").await;

    let reply = timeline(&operator, &id).await;

    assert_eq!(steps(&reply), ["requested", "policy", "notified", "rejected"]);
    assert_eq!(reply.upload()["steps"][3]["note"], "digest_mismatch");
    let told = reply.upload();
    assert!(told["meaning"].as_str().unwrap().starts_with("What arrived has another SHA-256"), "{told}");
    assert_eq!(told["declared"], json!({"size": null, "hash": Digest::of(b"other").to_string()}));
    assert_eq!(told["found"], json!({"size": 5, "hash": Digest::of(b"bytes").to_string()}));
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_what_to_do() {
    let world = World::new().await;
    let operator = operator(&world).await;
    let id = ask(&world.client().await, json!({"filename": "a.txt"})).await;
    let died_at = world.ctx.now();
    let letter = DeadLetter {
        id: Uuid::now_v7(),
        kind: "record_arrival".to_owned(),
        subject: id.parse().unwrap(),
        pool: longshore_jobs::job::Pool::Arrive,
        lane: longshore_jobs::job::Lane::Interactive,
        payload: json!({"upload": id, "via": "notice"}).to_string(),
        attempts: 20,
        crashes: 0,
        reason: "attempts".to_owned(),
        error: "head failed on the bucket".to_owned(),
        died_at,
    };
    let keep = world.ctx.db.write(|mut tx| Box::pin(async move { dead_letters::insert(&mut tx, &letter).await }));
    keep.await.unwrap();

    let reply = timeline(&operator, &id).await;

    let told = &reply.upload()["deadLetters"][0];
    assert_eq!((&told["subjectKind"], &told["filename"]), (&json!("upload"), &json!("a.txt")));
    assert_eq!((&told["payload"]["via"], &told["diedAt"]), (&json!("notice"), &json!(died_at)));
    assert!(told["advice"].as_str().unwrap().contains("longshore jobs retry"), "{told}");
    assert!(reply.upload()["waitsFor"].as_str().unwrap().starts_with("a person: its job is dead"));
}

#[tokio::test]
async fn an_upload_that_was_retried_and_then_done_still_tells_what_had_failed() {
    let world = World::new().await;
    let (client, operator) = (world.client().await, operator(&world).await);
    let id = ask(&client, json!({"filename": "a.txt"})).await;
    world.shelf.away.store(true, std::sync::atomic::Ordering::Relaxed);
    let (payload, due) = (json!({"upload": id, "via": "notice"}).to_string(), world.ctx.now());
    let kind = "record_arrival".to_owned();
    let delivery = Delivery { kind, subject: id.parse().unwrap(), payload, attempt: 1, max_attempts: 20, due };
    perform(&world.ctx, &delivery).await;
    world.shelf.away.store(false, std::sync::atomic::Ordering::Relaxed);
    put(&client, &id, b"bytes").await;

    let reply = timeline(&operator, &id).await;

    assert_eq!(reply.upload()["upload"]["status"], "done");
    let failed = &reply.upload()["failures"][0];
    assert_eq!((&failed["kind"], &failed["attempts"]), (&json!("record_arrival"), &json!(1)));
    assert_eq!(failed["error"], "head failed on the bucket: secret internals of the bucket");
}

#[tokio::test]
async fn what_is_on_the_queue_is_shown_and_a_queue_that_is_away_hides_nothing_else() {
    let world = World::new().await;
    let (client, operator) = (world.client().await, operator(&world).await);
    world.idle();
    let reply = client.post_preferring("/api/uploads", json!({"filename": "a.txt"}), "respond-async").await.is(202);
    let id = id_of(reply.upload());

    let job = timeline(&operator, &id).await.upload()["jobs"][0].clone();
    let due = world.ctx.now();
    let expected = json!({"kind": "issue_policy", "pool": "issue", "state": "waiting", "dueAt": due, "attempts": 0,
        "maxAttempts": 20, "error": null});
    assert_eq!(job, expected);

    world.line.away.store(true, std::sync::atomic::Ordering::Relaxed);
    let reply = timeline(&operator, &id).await;
    let job = &reply.upload()["jobs"][0];
    assert_eq!((&job["kind"], &job["state"]), (&json!("issue_policy"), &Value::Null));
    let waits = "a worker to sign its policy, but no worker works the pool `issue` (`longshore pool list`)";
    assert_eq!(reply.upload()["waitsFor"], waits);
    assert!(!reply.text.contains("secret internals"), "{}", reply.text);
}
