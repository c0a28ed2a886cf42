//! `DELETE /api/files/{id}`: what goes, what stays, and who may.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::join_all;
use longshore_jobs::ledger::uploads;
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::model::{Digest, Status, Upload};
use longshore_jobs::outside::Bucket as _;
use serde_json::json;
use uuid::Uuid;

use crate::http::testing::{Client, Reply, World};

fn path_of(file: &serde_json::Value) -> String {
    format!("/api/files/{}", file["id"].as_str().unwrap())
}

async fn posted(client: &Client<'_>, bytes: &[u8]) -> Reply {
    client.form(&[("files", "a.txt", bytes)]).await.is(201)
}

#[tokio::test]
async fn a_deleted_file_is_shown_a_last_time_and_then_gone() {
    let world = World::new().await;
    let client = world.client().await;
    let (one, two) = (posted(&client, b"bytes").await, posted(&client, b"bytes").await);
    let path = path_of(one.file());

    let deleted = client.call("DELETE", &path).await.is(200);

    assert_eq!((deleted.file(), &deleted.body["message"]), (one.file(), &json!("Successful delete request")));
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("GET", format!("{path}/content"))] {
        assert_eq!(client.call(method, &path).await.is(404).slug(), "file_not_found_error", "{method} {path}");
    }
    client.get(&format!("{}/content", path_of(two.file()))).await.is(302);
    world.line.drain().await;
    let report = client.get("/api/files/report").await;
    assert_eq!((&report.file()["count"], &report.file()["uniqueCount"]), (&json!(1), &json!(1)));
    client.call("DELETE", &path_of(two.file())).await.is(200);
    world.line.drain().await;
    let report = client.get("/api/files/report").await;
    assert_eq!((&report.file()["count"], &report.file()["uniqueSizeBytes"]), (&json!(0), &json!(0)));
    assert_eq!(client.get("/api/files").await.body["count"], 0);
}

#[tokio::test]
async fn of_twin_deletes_one_deletes() {
    let world = World::new().await;
    let client = world.client().await;
    let path = path_of(posted(&client, b"bytes").await.file());

    let answers = join_all((0..8).map(|_| client.call("DELETE", &path))).await;

    let count = |status: u16| answers.iter().filter(|answer| answer.status.as_u16() == status).count();
    assert_eq!((count(200), count(404)), (1, 7));
    world.line.drain().await;
    assert_eq!(client.get("/api/files/report").await.file()["count"], 0);
}

#[tokio::test]
async fn the_upload_of_a_deleted_file_stays_done_and_frees_its_ref() {
    let world = World::new().await;
    let client = world.client().await;
    posted(&client, b"bytes").await;
    let body = json!({ "filename": "a", "sha256": Digest::of(b"bytes"), "ref": "mine" });
    let upload = client.post("/api/uploads", body.clone()).await.is(201);
    let path = format!("/api/uploads/{}", upload.upload()["id"].as_str().unwrap());
    assert_eq!(upload.upload()["fileDeletedAt"], json!(null));

    client.call("DELETE", &format!("/api/files/{}", upload.upload()["fileId"].as_str().unwrap())).await.is(200);

    let shown = client.get(&path).await.is(200);
    assert_eq!((&shown.upload()["status"], &shown.upload()["fileId"]), (&json!("done"), &json!(null)));
    assert_eq!(shown.upload()["fileDeletedAt"], "2023-11-14T22:13:20.000Z");
    let again = client.post("/api/uploads", body).await.is(201);
    assert_ne!(again.upload()["id"], upload.upload()["id"]);
}

#[tokio::test]
async fn deletes_are_for_the_org_and_its_uploaders_alone() {
    let world = World::new().await;
    let (mine, rival) = (world.client().await, world.client().await);
    let file = posted(&mine, b"mine").await;
    let path = path_of(file.file());
    let org: Uuid = file.file()["orgId"].as_str().unwrap().parse().unwrap();
    let reader = Client { token: Some(world.key(org, &[Scope::Read, Scope::Report]).await), world: &world };

    assert_eq!(world.nobody().call("DELETE", &path).await.is(401).slug(), "authentication_error");
    assert_eq!(reader.call("DELETE", &path).await.is(403).slug(), "authorization_error");
    let refused = rival.call("DELETE", &path).await.is(403);
    assert_eq!(refused.error().3, "User has not been authorized to request this file");

    for nothing in [format!("/api/files/{}", Uuid::now_v7()), "/api/files/no-id".to_owned()] {
        assert_eq!(mine.call("DELETE", &nothing).await.is(404).slug(), "file_not_found_error");
    }
    mine.get(&path).await.is(200);
}

/// An upload whose object is in the bucket and which no worker has looked at.
async fn arrived(world: &World, client: &Client<'_>) -> Upload {
    let reply = client.post("/api/uploads", json!({ "filename": "a" })).await.is(201);
    world.idle();
    let id = reply.upload()["id"].as_str().unwrap().parse().unwrap();
    let upload = uploads::find(&world.ctx.db, id).await.unwrap().unwrap();
    world.shelf.lay(&upload.object_key, Bytes::from_static(b"bytes"));
    let head = world.shelf.head(&upload.object_key).await.unwrap().unwrap();
    let now = world.ctx.now();
    assert!(uploads::arrive(&world.ctx.db, id, &head, ArrivedVia::Notice, (now, now)).await.unwrap());
    uploads::find(&world.ctx.db, id).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_file_that_has_only_arrived_is_taken_back() {
    let world = World::new().await;
    let client = world.client().await;
    let upload = arrived(&world, &client).await;
    let path = format!("/api/files/{}", upload.file_id);

    let deleted = client.call("DELETE", &path).await.is(200);

    assert_eq!(deleted.file()["status"], "cancelled");
    client.get(&path).await.is(404);
    client.call("DELETE", &path).await.is(404);
    assert!(world.shelf.keys().is_empty());
}

#[tokio::test]
async fn a_file_that_is_being_stored_cannot_be_deleted_yet() {
    let world = World::new().await;
    let client = world.client().await;
    let (upload, now) = (arrived(&world, &client).await, world.ctx.now());
    let etag = upload.etag.clone().unwrap();
    assert!(
        uploads::verify(&world.ctx.db, (upload.id, upload.batch_id), etag, Digest::of(b"bytes"), (now, now))
            .await
            .unwrap()
    );

    let refused = client.call("DELETE", &format!("/api/files/{}", upload.file_id)).await.is(409);

    assert_eq!(refused.slug(), "conflict_error");
    let stands = uploads::find(&world.ctx.db, upload.id).await.unwrap().unwrap();
    assert_eq!(stands.status, Status::Verified);
}

#[tokio::test]
async fn a_queue_that_is_away_stops_no_delete() {
    let world = World::new().await;
    let client = world.client().await;
    let path = path_of(posted(&client, b"bytes").await.file());
    world.line.drain().await;
    world.line.away.store(true, Ordering::Relaxed);

    client.call("DELETE", &path).await.is(200);
}
