//! The document against the service.

use std::collections::{BTreeMap, BTreeSet};

use axum::Router;
use axum::body::Body;
use longshore_jobs::job::Limits;
use longshore_jobs::model::Digest;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::super::Settings;
use super::super::console;
use super::super::errors::{ApiError, Slug};
use super::super::notices::WebhookSecret;
use super::super::testing::World;
use super::super::testing::document::document;

/// Routes for people and their browsers, which no client programs against.
const NOT_IN_THE_DOCUMENT: [&str; 9] = [
    "/",
    "/docs",
    "/docs/docs.css",
    "/docs/docs.js",
    "/docs/swagger-ui.css",
    "/docs/swagger-ui.js",
    "/openapi.json",
    "/page.css",
    "/page.js",
];

/// The service with every route that it can have.
async fn whole() -> World {
    let webhook_secret = WebhookSecret::new("a secret of more than thirty-two characters");
    World::with(Limits::default(), Settings { webhook_secret, ..Settings::default() }).await
}

/// The router's paths, which it tells to nobody but a debugger.
fn paths_of(app: &Router) -> BTreeSet<String> {
    let shown = format!("{app:?}");
    let quoted = shown.split("): \"").skip(1).filter_map(|rest| rest.split('"').next());
    quoted.filter(|path| path.starts_with('/') && !path.contains("private")).map(str::to_owned).collect()
}

/// Methods by path, as the document has them.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let document = document();
    let methods = |item: &Value| item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
    document["paths"].as_object().unwrap().iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_the_reverse() {
    let world = whole().await;
    let served = paths_of(&world.app);
    let documented: BTreeSet<_> = documented().into_keys().collect();
    let left_out = NOT_IN_THE_DOCUMENT.into_iter().chain(console::paths()).map(str::to_owned).collect();

    assert!(served.contains("/api/uploads/{id}/policy"), "paths could not be read: {served:?}");
    assert!(documented.is_disjoint(&left_out));
    assert_eq!(served, &documented | &left_out);
}

#[tokio::test]
async fn every_path_has_the_methods_that_the_document_says_and_no_others() {
    let world = whole().await;
    for (path, methods) in documented() {
        let reply = world.nobody().call("BREW", &path.replace("{id}", "x")).await.is(405);
        let mut allowed: BTreeSet<_> = reply.header("allow").split(',').map(str::to_owned).collect();
        // A GET answers HEAD too, as in the standard.
        if methods.contains("GET") {
            allowed.remove("HEAD");
        }
        assert_eq!(allowed, methods, "{path}");
    }
}

#[tokio::test]
async fn the_viewer_loads_from_here_alone() {
    let world = World::new().await;
    let page = world.nobody().get("/docs").await.is(200);
    let policy = world.nobody().get("/").await.header("content-security-policy").to_owned();
    let loaded: Vec<_> = page.text.split(['"', '\'']).filter(|part| part.starts_with("docs/")).collect();

    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(
        !page.text.contains("//") && !page.text.contains("<style") && !page.text.contains(" style="),
        "{}",
        page.text
    );
    assert_eq!(loaded.len(), 4, "{loaded:?}");
    for path in ["docs", "openapi.json"].into_iter().chain(loaded) {
        let request = world.nobody().request("GET", &format!("/{path}")).body(Body::empty()).unwrap();
        let response = world.app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        if path.starts_with("docs") {
            assert_eq!(response.headers()["content-security-policy"], policy, "{path}");
        }
    }
}

#[tokio::test]
async fn a_wish_may_have_the_fields_that_the_document_says_and_no_others() {
    let world = World::new().await;
    let whole = json!({
        "filename": "a.png", "size": 7, "type": "image/png", "sha256": Digest::of(b"picture"), "ref": "r-1",
        "target": {"kind": "style", "number": "S-1"}, "metadata": {"colour": "red"},
    });
    let wish = &document()["components"]["schemas"]["UploadWish"];

    world.client().await.post("/api/uploads", whole.clone()).await.is(201);

    let names = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&wish["properties"]), names(&whole));
    assert_eq!((&wish["additionalProperties"], &wish["required"]), (&json!(false), &json!(["filename"])));
}

#[test]
fn a_batch_is_asked_for_in_one_mode_or_the_other() {
    let wishes = &document()["components"]["schemas"];

    assert_eq!(wishes["BatchWish"]["oneOf"].as_array().unwrap().len(), 2);
    assert_eq!(wishes["EachWish"]["required"], json!(["uploads"]));
    assert_eq!(wishes["PrefixWish"]["required"], json!(["mode", "maxFiles", "maxFileSize"]));
    for (wish, mode) in [("ModeEach", "each"), ("ModePrefix", "prefix")] {
        assert_eq!(wishes[wish]["enum"], json!([mode]));
    }
}

#[test]
fn every_answer_has_a_request_id_and_every_operation_a_summary() {
    let document = document();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["summary"].is_string() && operation["operationId"].is_string(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path} {status}");
            }
        }
    }
}

#[test]
fn every_error_is_in_the_document_and_the_reverse() {
    let document = document();
    let listed: Vec<&str> = document["components"]["schemas"]["Slug"]["enum"]
        .as_array()
        .unwrap()
        .iter()
        .map(|slug| slug.as_str().unwrap())
        .collect();
    let known: Vec<_> = Slug::ALL.iter().map(|slug| slug.as_str()).collect();
    assert_eq!(listed, known);
    for &slug in Slug::ALL {
        assert_eq!(ApiError::example(slug).slug(), slug, "nothing answers with it");
        let example = format!("\"{}\":{{", slug.as_str());
        assert!(document.to_string().contains(&example), "no answer is documented that has {}", slug.as_str());
    }
}

#[test]
fn every_tag_that_is_used_is_declared() {
    let document = document();
    let declared: BTreeSet<_> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let used: BTreeSet<_> = operations.map(|operation| operation["tags"][0].as_str().unwrap()).collect();

    assert_eq!(used, declared);
    for tag in ["uploads", "batches", "files"] {
        assert!(document["info"]["description"].as_str().unwrap().contains(&format!("`{tag}`")), "{tag}");
    }
}

#[tokio::test]
async fn the_document_says_how_large_a_file_may_be_here() {
    let world = World::with(Limits { max_size: 1_000, ..Limits::default() }, Settings::default()).await;

    let served = world.nobody().get("/openapi.json").await.is(200).body;

    for (document, most) in [(&served, 1_000), (document(), 5_000_000_000_i64)] {
        let wishes = &document["components"]["schemas"];
        assert_eq!(wishes["UploadWish"]["properties"]["size"]["maximum"], most);
        assert_eq!(wishes["PrefixWish"]["properties"]["maxFileSize"]["maximum"], most);
    }
    world.client().await.post("/api/uploads", json!({"filename": "a", "size": 1_001})).await.is(422);
}

#[tokio::test]
async fn lists_begin_where_the_document_says() {
    let world = World::new().await;
    let client = world.client().await;
    let batch = client.post("/api/batches", json!({"uploads": [{"filename": "a"}]})).await.is(202);

    for path in ["/api/uploads", "/api/files", "/api/batches", "/api/batches/{id}/uploads"] {
        let parameters = document()["paths"][path]["get"]["parameters"].as_array().unwrap();
        let sort = parameters.iter().find(|parameter| parameter["name"] == "sort").unwrap();
        let reply = client.get(&path.replace("{id}", batch.batch()["id"].as_str().unwrap())).await.is(200);
        assert_eq!(reply.body["sort"], sort["schema"]["default"], "{path}");
    }
}
