//! Who may do what: every route without a key, without its scope, and from another org.

use std::collections::BTreeSet;

use longshore_jobs::ledger::api_keys;
use longshore_jobs::model::org::Scope;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

use crate::http::testing::document::operations;
use crate::http::testing::{Client, Reply, World};

/// Every route of the API: method, path, and the scopes of which one will do. `{u}`, `{f}` and `{b}` stand for ids.
const ROUTES: &[(&str, &str, &[Scope])] = &[
    ("POST", "/api/uploads", &[Scope::Upload]),
    ("GET", "/api/uploads", &[Scope::Upload, Scope::Read]),
    ("GET", "/api/uploads/config", &[Scope::Upload, Scope::Read]),
    ("GET", "/api/uploads/{u}", &[Scope::Upload, Scope::Read]),
    ("POST", "/api/uploads/{u}/callback", &[Scope::Upload]),
    ("POST", "/api/uploads/{u}/policy", &[Scope::Upload]),
    ("DELETE", "/api/uploads/{u}", &[Scope::Upload]),
    ("POST", "/api/batches", &[Scope::Upload]),
    ("GET", "/api/batches", &[Scope::Upload, Scope::Read]),
    ("GET", "/api/batches/{b}", &[Scope::Upload, Scope::Read]),
    ("GET", "/api/batches/{b}/uploads", &[Scope::Upload, Scope::Read]),
    ("POST", "/api/batches/{b}/policy", &[Scope::Upload]),
    ("POST", "/api/batches/{b}/callback", &[Scope::Upload]),
    ("PUT", "/api/batches/{b}/manifest", &[Scope::Upload]),
    ("DELETE", "/api/batches/{b}", &[Scope::Upload]),
    ("POST", "/api/files", &[Scope::Upload]),
    ("GET", "/api/files", &[Scope::Read]),
    ("GET", "/api/files/report", &[Scope::Read, Scope::Report]),
    ("GET", "/api/files/{f}", &[Scope::Read]),
    ("GET", "/api/files/{f}/content", &[Scope::Read]),
    ("DELETE", "/api/files/{f}", &[Scope::Upload]),
];

/// The ids of an upload that waits for its bytes, a file and a batch, all of this client.
struct Things {
    upload: String,
    file: String,
    batch: String,
}

async fn own_things(client: &Client<'_>) -> Things {
    let id = |entry: &Value| entry["id"].as_str().unwrap().to_owned();
    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);
    let file = client.form(&[("files", "b.txt", b"bytes")]).await.is(201);
    let batch = client.post("/api/batches", json!({"uploads": [{"filename": "c.txt"}]})).await.is(202);
    Things { upload: id(upload.upload()), file: id(file.file()), batch: id(batch.batch()) }
}

async fn try_route(client: &Client<'_>, route: (&str, &str), things: &Things) -> Reply {
    let path = route.1.replace("{u}", &things.upload).replace("{f}", &things.file).replace("{b}", &things.batch);
    client.call(route.0, &path).await
}

#[test]
fn every_route_of_the_document_is_tried_here() {
    let one_id = |path: &str| ["{u}", "{f}", "{b}"].iter().fold(path.to_owned(), |path, id| path.replace(id, "{id}"));
    let tried: BTreeSet<_> = ROUTES.iter().map(|(method, path, _)| ((*method).to_owned(), one_id(path))).collect();
    // Notices come from a bucket, with a secret of its own; what operators do has a test like this one.
    let is_apart = |path: &str| path == "/api/notices" || path.starts_with("/api/admin/");
    let asks_for_a_key = |path: &str| path.starts_with("/api/") && !is_apart(path);

    assert_eq!(tried, operations().into_iter().filter(|(_, path)| asks_for_a_key(path)).collect());
}

#[tokio::test]
async fn no_route_answers_without_a_key_and_none_asks_for_basic() {
    let world = World::new().await;
    let things = own_things(&world.client().await).await;

    for &(method, path, _) in ROUTES {
        let reply = try_route(&world.nobody(), (method, path), &things).await;

        let (status, slug, outer, _) = reply.error();
        assert_eq!((status, slug), (401, "authentication_error"), "{method} {path}");
        assert_eq!(outer, "Error getting authentication");
        assert!(!reply.headers.contains_key("www-authenticate"));
    }
}

#[tokio::test]
async fn every_route_needs_one_of_its_scopes() {
    let world = World::new().await;
    let org = world.org("scoped").await;
    let everything = Client { token: Some(world.key(org, Scope::ALL).await), world: &world };
    let things = own_things(&everything).await;

    for &(method, path, scopes) in ROUTES {
        for &scope in Scope::ALL {
            let client = Client { token: Some(world.key(org, &[scope]).await), world: &world };
            let reply = try_route(&client, (method, path), &things).await;

            let refused = reply.status == 403;
            assert_eq!(refused, !scopes.contains(&scope), "{method} {path} with {scope}: {}", reply.text);
            if refused {
                assert_eq!(reply.slug(), "authorization_error");
                assert_eq!(reply.error().2, "User lacks authorization to make this request");
            }
        }
    }
}

#[tokio::test]
async fn no_route_shows_another_orgs_things() {
    let world = World::new().await;
    let (mine, other) = (world.client().await, world.client().await);
    let things = own_things(&mine).await;

    for &(method, path, _) in ROUTES {
        let reply = try_route(&other, (method, path), &things).await;
        if path.contains("{u}") {
            let expected = "User has not been authorized to request this upload";
            assert_eq!((reply.status.as_u16(), reply.error().3), (403, expected), "{method} {path}");
        } else if path.contains("{f}") {
            let expected = "User has not been authorized to request this file";
            assert_eq!((reply.status.as_u16(), reply.error().3), (403, expected), "{method} {path}");
        } else if path.contains("{b}") {
            let expected = "User has not been authorized to request this batch";
            assert_eq!((reply.status.as_u16(), reply.error().3), (403, expected), "{method} {path}");
        } else {
            let Things { upload, file, batch } = &things;
            assert!([upload, file, batch].iter().all(|id| !reply.text.contains(*id)), "{method} {path}");
        }
    }
    assert_eq!(other.get("/api/uploads").await.body["count"], 0);
    assert_eq!(other.get("/api/files").await.body["count"], 0);
    assert_eq!(other.get("/api/batches").await.body["count"], 0);
    assert_eq!(other.get("/api/files/report").await.file()["count"], 0);
}

#[tokio::test]
async fn another_orgs_bytes_are_no_known_hash() {
    let world = World::new().await;
    own_things(&world.client().await).await;
    let sha256 = longshore_jobs::model::Digest::of(b"bytes").to_hex();

    let body = json!({"filename": "b.txt", "sha256": sha256, "ref": "r"});
    let reply = world.client().await.post("/api/uploads", body).await.is(201);

    assert_eq!(reply.upload()["status"], "issued");
}

#[tokio::test]
async fn a_wrong_secret_an_unknown_key_and_a_revoked_one_are_refused() {
    let world = World::new().await;
    let client = world.client().await;
    client.get("/api/uploads").await.is(200);

    let mut wrong = client.clone();
    wrong.token.as_mut().unwrap().secret = "0".repeat(64);
    wrong.get("/api/uploads").await.is(401);
    let mut unknown = client.clone();
    unknown.token.as_mut().unwrap().key = "unknown".to_owned();
    unknown.get("/api/uploads").await.is(401);

    let key = client.token.clone().unwrap().key;
    assert!(api_keys::revoke(&world.ctx.db, key, world.ctx.now()).await.unwrap());
    world.clock.turn(Duration::from_secs(6));
    client.get("/api/uploads").await.is(401);
}

#[tokio::test]
async fn policies_are_shown_to_those_who_may_upload_alone() {
    let world = World::new().await;
    let org = world.org("shown").await;
    let uploader = Client { token: Some(world.key(org, &[Scope::Upload]).await), world: &world };
    let reader = Client { token: Some(world.key(org, &[Scope::Read]).await), world: &world };
    let reply = uploader.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);
    let path = format!("/api/uploads/{}", reply.upload()["id"].as_str().unwrap());

    assert_eq!(uploader.get(&path).await.upload()["upload"]["fields"]["policy"], "signed");
    assert!(reader.get(&path).await.upload()["upload"].is_null());
    assert!(!reader.get("/api/uploads").await.text.contains("signed"));
}

#[tokio::test]
async fn an_id_that_is_none_or_unknown_is_not_found() {
    let world = World::new().await;
    let client = world.client().await;

    for id in [Uuid::now_v7().to_string(), "nonsense".to_owned(), "%ff%fe".to_owned(), "..%2f..".to_owned()] {
        for &(method, path, _) in ROUTES {
            let things = Things { upload: id.clone(), file: id.clone(), batch: id.clone() };
            let reply = try_route(&client, (method, path), &things).await;
            if path.contains("{u}") {
                assert_eq!((reply.status.as_u16(), reply.slug()), (404, "upload_not_found_error"), "{method} {path}");
            } else if path.contains("{b}") {
                assert_eq!((reply.status.as_u16(), reply.slug()), (404, "batch_not_found_error"), "{method} {path}");
            } else if path.contains("{f}") {
                let (status, slug, outer, inner) = reply.error();
                assert_eq!((status, slug), (404, "file_not_found_error"), "{method} {path}");
                assert_eq!(outer, "Requested file does not exist");
                assert_eq!(inner, "User has requested a non-existent file");
            }
        }
    }
}
