//! `/api/batches` of many files under one policy, and the manifests of batches.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use longshore_jobs::close_batches::CloseBatches;
use longshore_jobs::ledger::{batches, uploads};
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::{Batch, Digest, Upload};
use serde_json::{Value, json};

use crate::http::testing::{Client, Reply, World};

fn batch(reply: &Reply) -> &Value {
    &reply.body["batches"][0]
}

fn path_of(reply: &Reply) -> String {
    format!("/api/batches/{}", batch(reply)["id"].as_str().unwrap())
}

async fn created(client: &Client<'_>) -> Reply {
    client.post("/api/batches", json!({"mode": "prefix", "maxFiles": 3, "maxFileSize": 10})).await.is(201)
}

async fn pin(client: &Client<'_>, path: &str, manifest: impl Into<Body>) -> Reply {
    let request = client.request("PUT", &format!("{path}/manifest")).header("content-type", "text/plain");
    client.world.send(request.body(manifest.into()).unwrap()).await
}

/// Puts a file where the policy says.
fn put(world: &World, reply: &Reply, path: &str, bytes: &'static [u8]) {
    let key = batch(reply)["upload"]["fields"]["key"].as_str().unwrap().replace("${filename}", path);
    world.shelf.lay(&key, Bytes::from_static(bytes));
}

fn line(path: &str, bytes: &[u8]) -> String {
    format!("{}  {path}\n", Digest::of(bytes).to_hex())
}

#[tokio::test]
async fn a_new_prefix_batch_comes_with_its_policy() {
    let world = World::new().await;
    let client = world.client().await;
    let body = json!({"mode": "prefix", "maxFiles": 1000, "maxFileSize": 600_000,
        "target": {"kind": "order", "number": "A-100"}});

    let reply = client.post("/api/batches", body).await.is(201);

    assert_eq!(reply.header("location"), path_of(&reply));
    let shown = batch(&reply);
    assert_eq!((&shown["mode"], &shown["ready"], &shown["maxFiles"]), (&json!("prefix"), &json!(true), &json!(1000)));
    assert_eq!(shown["target"], json!({"kind": "order", "number": "A-100"}));
    let (key, id) = (shown["upload"]["fields"]["key"].as_str().unwrap(), shown["id"].as_str().unwrap());
    assert!(key.ends_with(&format!("/batch/{}/${{filename}}", id.replace('-', ""))), "{key}");
    assert_eq!((&shown["upload"]["method"], &shown["upload"]["expires"]), (&json!("POST"), &json!(900 + 600)));
    assert_eq!(shown["expiresAt"], shown["upload"]["expiresAt"]);
    let most = json!({"mode": "prefix", "maxFiles": 1_000_000, "maxFileSize": 5_000_000_000_i64});
    assert_eq!(batch(&client.post("/api/batches", most).await.is(201))["upload"]["expires"], 12 * 3600);
}

#[tokio::test]
async fn bad_fields_are_named() {
    let world = World::new().await;
    let client = world.client().await;
    let good = json!({"mode": "prefix", "maxFiles": 3, "maxFileSize": 10});
    for (field, value) in [
        ("maxFiles", json!(0)),
        ("maxFiles", json!(1_000_001)),
        ("maxFiles", json!("3")),
        ("maxFiles", json!(null)),
        ("maxFileSize", json!(-1)),
        ("maxFileSize", json!(5_000_000_001_i64)),
        ("maxFileSize", json!(null)),
        ("target", json!("A-100")),
        ("filename", json!("a")),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();

        let reply = client.post("/api/batches", body).await.is(422);

        assert!(reply.error().3.contains(&format!("`{field}`")), "{field} {value}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_callback_has_the_objects_looked_for() {
    let world = World::new().await;
    let client = world.client().await;
    let reply = created(&client).await;
    for (path, bytes) in [("a.txt", &b"one"[..]), ("b/c.txt", b"three"), ("../up", b"x"), ("d", b"4"), ("e", b"5")] {
        put(&world, &reply, path, bytes);
    }

    client.post(&format!("{}/callback", path_of(&reply)), json!({})).await.is(202);
    world.line.drain().await;

    let shown = client.get(&path_of(&reply)).await.is(200);
    let shown = batch(&shown);
    assert_eq!((&shown["counts"]["done"], &shown["counts"]["rejected"]), (&json!(3), &json!(2)), "{shown}");
    assert_eq!((&shown["progress"], &shown["taskCount"]), (&json!(1.0), &json!(5)));
    assert!(world.shelf.keys().iter().all(|key| key.starts_with("blobs/")), "{:?}", world.shelf.keys());
}

#[tokio::test]
async fn a_policy_is_renewed_while_the_batch_is_open_and_shown_to_uploaders_alone() {
    let world = World::new().await;
    let org = world.org("renewing").await;
    let client = Client { token: Some(world.key(org, Scope::ALL).await), world: &world };
    let reader = Client { token: Some(world.key(org, &[Scope::Read]).await), world: &world };
    let reply = created(&client).await;
    let policy = format!("{}/policy", path_of(&reply));
    assert_eq!(batch(&reader.get(&path_of(&reply)).await.is(200))["upload"], json!(null));

    world.clock.turn(Duration::from_secs(1000));
    assert_eq!(batch(&client.get(&path_of(&reply)).await.is(200))["upload"], json!(null), "its time is over");
    let renewed = client.post(&policy, json!({})).await.is(200);
    assert_eq!(batch(&renewed)["upload"]["expires"], 900);

    world.clock.turn(Duration::from_secs(900 + 3601));
    client.post(&policy, json!({})).await.is(409);
    world.ctx.push(&CloseBatches {}).await.unwrap();
    world.line.drain().await;
    let closed = client.get(&path_of(&reply)).await.is(200);
    assert!(batch(&closed)["closedAt"].is_string());
    client.post(&policy, json!({})).await.is(409);
    client.post(&format!("{}/callback", path_of(&reply)), json!({})).await.is(202);
    pin(&client, &path_of(&reply), line("a", b"a")).await.is(409);
}

#[tokio::test]
async fn a_manifest_is_taken_whole_or_not_at_all() {
    let world = World::new().await;
    let client = world.client().await;
    let reply = created(&client).await;
    let path = path_of(&reply);
    let good = line("a", b"a") + &line("./b/c", b"c");

    let taken = pin(&client, &path, good.clone()).await.is(200);
    assert_eq!((&batch(&taken)["manifest"], &batch(&taken)["taskCount"]), (&json!({"lines": 2}), &json!(2)));
    assert_eq!(taken.body["message"], "Successful put request");

    let too_many: String = ["d", "e", "f", "g"].iter().map(|path| line(path, b"x")).collect();
    for (bad, number) in [
        (good.clone() + "nonsense\n", 3),
        (good.clone() + &line("../up", b"x"), 3),
        (line("/etc/passwd", b"x"), 1),
        (good.clone() + &line("a", b"a"), 3),
        (too_many, 4),
    ] {
        let refused = pin(&client, &path, bad).await.is(422);
        assert_eq!(refused.slug(), "unprocessable_error");
        assert!(refused.error().3.starts_with(&format!("Line {number}: ")), "{}", refused.text);
    }
    assert_eq!(batch(&client.get(&path).await.is(200))["manifest"], json!({"lines": 2}));

    put(&world, &reply, "a", b"a");
    put(&world, &reply, "b/c", b"other");
    client.post(&format!("{path}/callback"), json!({})).await.is(202);
    world.line.drain().await;
    let shown = client.get(&path).await.is(200);
    assert_eq!((&batch(&shown)["counts"]["done"], &batch(&shown)["counts"]["rejected"]), (&json!(1), &json!(1)));
    let refused = pin(&client, &path, line("a", b"something else")).await.is(409);
    assert!(refused.error().3.contains("`a`"), "{}", refused.text);
    pin(&client, &path, String::new()).await.is(200);
}

#[tokio::test]
async fn a_manifest_is_bounded_and_need_not_come_whole() {
    let world = World::new().await;
    let client = world.client().await;
    let path = path_of(&created(&client).await);
    let empty_lines =
        futures_util::stream::iter((0..65).map(|_| Ok::<_, std::io::Error>(Bytes::from(vec![b'\n'; 1 << 20]))));
    let broken = [Ok(Bytes::from(line("a", b"a"))), Err(std::io::Error::other("gone"))];

    pin(&client, &path, Body::from_stream(empty_lines)).await.is(413);
    pin(&client, &path, Body::from_stream(futures_util::stream::iter(broken))).await.is(400);

    assert_eq!(batch(&client.get(&path).await.is(200))["manifest"], json!(null));
}

#[tokio::test]
async fn a_line_for_a_batch_of_single_uploads_names_one_of_them() {
    let world = World::new().await;
    let org = world.org("each").await;
    let client = Client { token: Some(world.key(org, Scope::ALL).await), world: &world };
    let now = world.ctx.now();
    let each = Batch::each((org, uuid::Uuid::nil()), None, 1, now);
    batches::insert(&world.ctx.db, each.clone(), Vec::new(), None).await.unwrap();
    let row = Upload::requested(org, uuid::Uuid::nil(), "shirt/front.png".to_owned(), now);
    uploads::insert(&world.ctx.db, vec![Upload { batch_id: Some(each.id), ..row }]).await.unwrap();
    let path = format!("/api/batches/{}", each.id);

    pin(&client, &path, line("shirt/front.png", b"x")).await.is(200);
    let refused = pin(&client, &path, line("shirt/front.png", b"x") + &line("shirt/back.png", b"x")).await.is(422);

    assert!(refused.error().3.starts_with("Line 2: names no upload"), "{}", refused.text);
    client.post(&format!("{path}/policy"), json!({})).await.is(409);
    client.post(&format!("{path}/callback"), json!({})).await.is(409);
}

#[tokio::test]
async fn nobody_gets_at_another_orgs_batch_or_without_the_scope() {
    let world = World::new().await;
    let org = world.org("owner").await;
    let (owner, stranger) =
        (Client { token: Some(world.key(org, Scope::ALL).await), world: &world }, world.client().await);
    let reader = Client { token: Some(world.key(org, &[Scope::Read, Scope::Report]).await), world: &world };
    let path = path_of(&created(&owner).await);

    for (method, route) in [("GET", ""), ("POST", "/policy"), ("POST", "/callback"), ("PUT", "/manifest")] {
        let route = format!("{path}{route}");
        world.nobody().call(method, &route).await.is(401);
        let refused = stranger.call(method, &route).await.is(403);
        assert_eq!(refused.error().3, "User has not been authorized to request this batch", "{method} {route}");
        reader.call(method, &route).await.is(if method == "GET" { 200 } else { 403 });
        for id in ["00000000-0000-0000-0000-000000000000", "nonsense"] {
            let other = route.replace(path.rsplit('/').next().unwrap(), id);
            assert_eq!(owner.call(method, &other).await.is(404).slug(), "batch_not_found_error", "{method} {other}");
        }
    }
    reader.post("/api/batches", json!({"mode": "prefix", "maxFiles": 1, "maxFileSize": 1})).await.is(403);
}
