//! `/api/uploads`: policies out, states in.

use std::time::Duration;

use bytes::Bytes;
use longshore_jobs::ledger::uploads;
use longshore_jobs::model::{Digest, Status};
use serde_json::{Value, json};

use crate::http::testing::{Client, Reply, World};

fn path_of(reply: &Reply) -> String {
    format!("/api/uploads/{}", reply.upload()["id"].as_str().unwrap())
}

async fn status_of(client: &Client<'_>, path: &str) -> String {
    client.get(path).await.is(200).upload()["status"].as_str().unwrap().to_owned()
}

/// Puts the bytes where the policy says.
fn put(world: &World, reply: &Reply, bytes: &'static [u8]) {
    let key = reply.upload()["upload"]["fields"]["key"].as_str().unwrap();
    world.shelf.lay(key, Bytes::from_static(bytes));
}

#[tokio::test]
async fn a_size_may_be_spelt_as_a_real_number_if_it_is_whole() {
    let world = World::new().await;
    let client = world.client().await;
    for (sent, kept) in [(json!(7.0), 7), (json!(0.0), 0), (json!(4e9), 4_000_000_000_i64)] {
        let reply = client.post("/api/uploads", json!({"filename": "a.txt", "size": sent})).await.is(201);
        assert_eq!(reply.upload()["size"], kept);
    }
}

#[tokio::test]
async fn a_new_upload_comes_with_its_policy() {
    let world = World::new().await;
    let client = world.client().await;
    let body = json!({
        "filename": "shirt/front.png", "size": 7, "sha256": Digest::of(b"picture"), "ref": "r-1",
        "target": {"kind": "style", "number": "S-1"}, "metadata": {"colour": "red"},
    });

    let reply = client.post("/api/uploads", body).await.is(201);

    assert_eq!(reply.header("location"), path_of(&reply));
    assert_eq!(reply.body["message"], "Successful post request");
    for (field, expected) in [
        ("status", json!("issued")),
        ("filename", json!("shirt/front.png")),
        ("size", json!(7)),
        ("type", json!("image/png")),
        ("hash", json!(Digest::of(b"picture"))),
        ("target", json!({"kind": "style", "number": "S-1"})),
        ("createdAt", json!("2023-11-14T22:13:20.000Z")),
        ("fileId", json!(null)),
        ("reason", json!(null)),
        ("deduplicated", json!(null)),
        ("ref", json!("r-1")),
        ("metadata", json!({"colour": "red"})),
    ] {
        assert_eq!(reply.upload()[field], expected, "{field}");
    }
    let policy = &reply.upload()["upload"];
    assert_eq!((&policy["method"], &policy["expires"]), (&json!("POST"), &json!(900)));
    assert_eq!((&policy["url"], &policy["headers"]), (&json!("https://bucket.test/uploads"), &json!({})));
    assert_eq!(policy["expiresAt"], "2023-11-14T22:28:20.000Z");
}

#[tokio::test]
async fn who_does_not_wait_is_told_where_to_look() {
    let world = World::new().await;
    let client = world.client().await;
    world.idle();

    let reply = client.post_preferring("/api/uploads", json!({"filename": "a"}), "respond-async").await.is(202);
    let waited = client.post_preferring("/api/uploads", json!({"filename": "a"}), "wait=0").await.is(202);

    assert_eq!((&reply.upload()["status"], &reply.upload()["upload"]), (&json!("requested"), &json!(null)));
    assert_eq!(reply.header("location"), path_of(&reply));
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(reply.header("preference-applied"), "respond-async");
    assert_eq!(waited.header("preference-applied"), "wait=0");
    world.line.drain().await;
    assert_eq!(status_of(&client, &path_of(&reply)).await, "issued");
}

#[tokio::test]
async fn an_upload_is_done_after_its_callback_and_a_get_waits_for_it() {
    let world = World::new().await;
    let client = world.client().await;
    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);
    put(&world, &upload, b"bytes");

    for _ in 0..3 {
        let callback = client.post(&format!("{}/callback", path_of(&upload)), json!({"status": "done"})).await.is(202);
        assert_eq!(callback.upload()["id"], upload.upload()["id"]);
    }
    let request = client.request("GET", &path_of(&upload)).header("prefer", "wait=30");
    let done = world.send(request.body(axum::body::Body::empty()).unwrap()).await.is(200);

    assert_eq!(done.header("preference-applied"), "wait=30");
    assert_eq!((&done.upload()["status"], &done.upload()["size"]), (&json!("done"), &json!(5)));
    assert_eq!((&done.upload()["deduplicated"], &done.upload()["upload"]), (&json!(false), &json!(null)));
    let file = client.get(&format!("/api/files/{}", done.upload()["fileId"].as_str().unwrap())).await.is(200);
    assert_eq!(file.file()["hash"], done.upload()["hash"]);
}

#[tokio::test]
async fn a_callback_proves_nothing() {
    let world = World::new().await;
    let client = world.client().await;
    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);

    client.post(&format!("{}/callback", path_of(&upload)), Value::Null).await.is(202);
    world.line.drain().await;

    assert_eq!(status_of(&client, &path_of(&upload)).await, "issued");
}

#[tokio::test]
async fn known_bytes_are_done_at_once() {
    let world = World::new().await;
    let client = world.client().await;
    let first = client.form(&[("files", "a.txt", b"bytes")]).await.is(201);
    let sha256 = Digest::of(b"bytes").to_hex();

    let wrong = client.post("/api/uploads", json!({"filename": "b.txt", "sha256": sha256, "size": 6})).await;
    let known = client.post("/api/uploads", json!({"filename": "b.txt", "sha256": sha256, "size": 5})).await.is(201);
    world.line.drain().await;

    assert_eq!((wrong.status.as_u16(), wrong.slug()), (422, "unprocessable_error"));
    assert!(wrong.error().3.contains("`size`"), "{}", wrong.text);
    let entry = known.upload();
    assert_eq!((&entry["status"], &entry["deduplicated"]), (&json!("done"), &json!(true)));
    assert_eq!((&entry["upload"], &entry["size"]), (&json!(null), &json!(5)));
    assert_ne!(entry["fileId"], first.file()["id"]);
    client.get(&format!("/api/files/{}", entry["fileId"].as_str().unwrap())).await.is(200);
    let report = client.get("/api/files/report").await;
    assert_eq!((&report.file()["count"], &report.file()["uniqueCount"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn known_bytes_whose_object_is_lost_have_to_be_sent_again() {
    let world = World::new().await;
    let client = world.client().await;
    client.form(&[("files", "a.txt", b"bytes")]).await.is(201);
    world.line.drain().await;
    world.shelf.objects.lock().unwrap().clear();

    let body = json!({"filename": "b.txt", "sha256": Digest::of(b"bytes").to_hex()});
    let reply = client.post("/api/uploads", body).await.is(201);

    assert_eq!(reply.upload()["status"], "issued");
}

#[tokio::test]
async fn a_known_ref_is_the_same_upload_until_it_ends() {
    let world = World::new().await;
    let client = world.client().await;
    let body = json!({"filename": "a.txt", "ref": "r"});
    let first = client.post("/api/uploads", body.clone()).await.is(201);

    let again = client.post("/api/uploads", body.clone()).await.is(200);
    world.clock.turn(Duration::from_secs(880));
    let renewed = client.post("/api/uploads", body.clone()).await.is(200);
    client.call("DELETE", &path_of(&first)).await.is(200);
    let other = client.post("/api/uploads", body).await.is(201);

    assert_eq!(again.upload(), first.upload());
    assert_eq!(renewed.upload()["id"], first.upload()["id"]);
    assert_eq!(renewed.upload()["upload"]["expires"], 900);
    assert_ne!(other.upload()["id"], first.upload()["id"]);
}

#[tokio::test]
async fn a_ref_posted_many_times_at_once_is_one_upload() {
    let world = World::new().await;
    let client = world.client().await;
    client.form(&[("files", "a.txt", b"bytes")]).await.is(201);
    let known = json!({"filename": "a.txt", "ref": "known", "sha256": Digest::of(b"bytes").to_hex()});

    for body in [json!({"filename": "a.txt", "ref": "r"}), known] {
        let posts = futures_util::future::join_all((0..8).map(|_| client.post("/api/uploads", body.clone())));
        let replies = posts.await;

        let first = &replies[0].upload()["id"];
        assert!(first.is_string());
        assert!(replies.iter().all(|reply| reply.upload()["id"] == *first));
        assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 1);
        assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 7);
    }
}

#[tokio::test]
async fn a_fresh_policy_comes_from_issued_or_expired_alone() {
    let world = World::new().await;
    let client = world.client().await;
    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);
    let fresh = format!("{}/policy", path_of(&upload));

    world.clock.turn(Duration::from_secs(100));
    let renewed = client.call("POST", &fresh).await.is(200);
    assert_eq!(renewed.upload()["upload"]["expiresAt"], "2023-11-14T22:30:00.000Z");

    let id = upload.upload()["id"].as_str().unwrap().parse().unwrap();
    let row = uploads::find(&world.ctx.db, id).await.unwrap().unwrap();
    assert!(uploads::expire(&world.ctx.db, &row, world.ctx.now()).await.unwrap());
    assert_eq!(client.call("POST", &fresh).await.is(200).upload()["status"], "issued");

    client.call("DELETE", &path_of(&upload)).await.is(200);
    let late = client.call("POST", &fresh).await;
    assert_eq!((late.status.as_u16(), late.slug()), (409, "conflict_error"));
    assert!(late.error().3.contains("cancelled"), "{}", late.text);
}

#[tokio::test]
async fn an_expired_policy_is_not_shown() {
    let world = World::new().await;
    let client = world.client().await;
    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);

    world.clock.turn(Duration::from_secs(900));

    assert!(client.get(&path_of(&upload)).await.upload()["upload"].is_null());
}

#[tokio::test]
async fn an_upload_can_be_cancelled_until_it_is_verified() {
    let world = World::new().await;
    let client = world.client().await;
    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);
    put(&world, &upload, b"bytes");

    let cancelled = client.call("DELETE", &path_of(&upload)).await.is(200);
    let again = client.call("DELETE", &path_of(&upload)).await.is(200);
    let done = client.form(&[("files", "b.txt", b"b")]).await.is(201);
    let file = done.file()["id"].as_str().unwrap().parse().unwrap();
    let row = uploads::find_by_file(&world.ctx.db, file).await.unwrap().unwrap();
    let late = client.call("DELETE", &format!("/api/uploads/{}", row.id)).await;

    assert_eq!((&cancelled.upload()["status"], &again.upload()["status"]), (&json!("cancelled"), &json!("cancelled")));
    assert_eq!(world.shelf.keys().len(), 1, "only the blob is left");
    assert_eq!((late.status.as_u16(), late.slug()), (409, "conflict_error"));
    assert_eq!(uploads::find(&world.ctx.db, row.id).await.unwrap().unwrap().status, Status::Done);
}

#[tokio::test]
async fn lists_are_filtered_and_counted() {
    let world = World::new().await;
    let client = world.client().await;
    for n in 0..3 {
        let target = json!({"kind": "order", "number": format!("A-{n}")});
        client.post("/api/uploads", json!({"filename": "a.txt", "target": target})).await.is(201);
    }
    client.form(&[("files", "b.txt", b"b")]).await.is(201);

    for (query, count) in [("", 4), ("status=issued", 3), ("status=done", 1), ("target=order&number=A-1", 1)] {
        let reply = client.get(&format!("/api/uploads?{query}")).await.is(200);
        assert_eq!(reply.body["count"], count, "{query}");
        assert_eq!(reply.body["uploads"].as_array().unwrap().len(), count, "{query}");
    }
    let page = client.get("/api/uploads?perPage=3&page=2").await.is(200);
    assert_eq!(page.body["uploads"].as_array().unwrap().len(), 1);
    assert_eq!((&page.body["page"], &page.body["perPage"]), (&json!(2), &json!(3)));
}

#[tokio::test]
async fn a_dead_job_asks_for_attention() {
    let world = World::new().await;
    let client = world.client().await;
    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);
    assert!(upload.upload().get("attention").is_none());
    let id: uuid::Uuid = upload.upload()["id"].as_str().unwrap().parse().unwrap();
    let bury = world.ctx.db.write_one(move |mut tx| {
        Box::pin(async move {
            let query = "insert into dead_letters
                (id, kind, subject, pool, lane, payload, attempts, crashes, reason, error, died_at)
                values ($1, 'verify_upload', $1, 'verify', 'bulk', '{}', 10, 0, 'attempts', 'x', 9000000000000)";
            longshore_jobs::sql!(tx.on(), c => sqlx::query(query).bind(id).execute(c).await.map(drop))?;
            Ok(())
        })
    });
    bury.await.unwrap();

    assert_eq!(client.get(&path_of(&upload)).await.upload()["attention"], true);
}

#[tokio::test]
async fn the_config_tells_nothing_secret() {
    let world = World::new().await;

    let reply = world.client().await.get("/api/uploads/config").await.is(200);

    assert_eq!(
        reply.body,
        json!({
            "message": "Successful get request", "url": "https://bucket.test/uploads", "bucket": "uploads",
            "region": "eu-north-1", "accessKeyId": "AKIATEST", "maxSize": 5_000_000_000_i64,
        })
    );
}
