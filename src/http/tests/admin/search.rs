//! What a search shows; what it finds is tested with the ledger.

use longshore_jobs::model::Digest;
use longshore_jobs::model::org::Scope;
use longshore_jobs::noop::Noop;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{client_of, letters, operator};
use crate::http::testing::{Client, World};

async fn find(operator: &Client<'_>, asked: &str) -> Vec<Value> {
    let query: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", asked).finish();
    let reply = operator.get(&format!("/api/admin/search?{query}")).await.is(200);
    assert_eq!(reply.body["truncated"], false);
    reply.body["results"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_file_is_shown_with_its_org_and_what_it_is_for() {
    let world = World::new().await;
    let org = world.org("acme").await;
    let client = client_of(&world, org, Scope::ALL).await;
    client.form(&[("files", "b.jpg", b"bytes")]).await.is(201);
    let wish = json!({
        "filename": "a.jpg", "sha256": Digest::of(b"bytes"), "target": {"kind": "order", "number": "A-100"}, "ref": "r-1",
    });
    let stored = client.post("/api/uploads", wish).await.is(201);
    let (upload, file) = (&stored.upload()["id"], &stored.upload()["fileId"]);
    let operator = operator(&world).await;

    for (asked, matched) in
        [(" a.jpg ", "filename"), ("A-100", "order"), ("r-1", "ref"), (file.as_str().unwrap(), "id")]
    {
        let expected = json!({
            "type": "file", "id": file, "uploadId": upload, "orgId": org, "orgName": "acme", "title": "a.jpg",
            "detail": "done · 5 bytes · order A-100", "matched": matched, "createdAt": stored.upload()["createdAt"],
        });
        assert_eq!(find(&operator, asked).await, [expected], "{asked}");
    }
    let same_bytes = find(&operator, &Digest::of(b"bytes").to_hex()).await;
    let titles: Vec<_> = same_bytes.iter().map(|hit| hit["title"].as_str().unwrap()).collect();
    assert_eq!(titles, ["a.jpg", "b.jpg"]);
    assert!(find(&operator, "nothing of the kind").await.is_empty());
}

#[tokio::test]
async fn uploads_batches_orgs_letters_and_keys_are_shown_as_what_they_are() {
    let world = World::new().await;
    let org = world.org("acme").await;
    let client = client_of(&world, org, Scope::ALL).await;
    let upload = client.post("/api/uploads", json!({"filename": "open.txt", "size": 2_000_000})).await.is(201);
    let batch = client.post("/api/batches", json!({"uploads": [{"filename": "c"}]})).await.is(202);
    let lines = json!([{"filename": "d"}, {"filename": "e"}, {"filename": "f"}]);
    let three = client.post("/api/batches", json!({"uploads": lines})).await.is(202);
    world.line.drain().await;
    let members = format!("/api/batches/{}/uploads", three.batch()["id"].as_str().unwrap());
    let member = client.get(&members).await.is(200).upload()["id"].as_str().unwrap().to_owned();
    client.call("DELETE", &format!("/api/uploads/{member}")).await.is(200);
    let letter = letters::letter(Noop::new(Uuid::now_v7()));
    letters::keep(&world, &letter).await;
    let key = client.token.clone().unwrap().key;
    let operator = operator(&world).await;
    let id = |reply: &Value| reply["id"].as_str().unwrap().to_owned();

    for (asked, kind, title, detail) in [
        (id(upload.upload()), "upload", "open.txt", "issued · 2 MB"),
        ("open.txt".to_owned(), "upload", "open.txt", "issued · 2 MB"),
        (id(batch.batch()), "batch", "Batch of 1 line", "open · 1 issued"),
        (id(three.batch()), "batch", "Batch of 3 lines", "open · 2 issued, 1 cancelled"),
        ("acme".to_owned(), "org", "acme", ""),
        (letter.subject.to_string(), "deadLetter", "noop", "attempts · 20 attempts"),
        (key.clone(), "key", "test", "upload,read,report,admin"),
    ] {
        let found = find(&operator, &asked).await;
        assert_eq!(found.len(), 1, "{asked}: {found:?}");
        let shown = [&found[0]["type"], &found[0]["title"], &found[0]["detail"]];
        assert_eq!(shown, [kind, title, detail], "{asked}");
    }
    assert_eq!(find(&operator, &key).await[0]["id"], key);
    let by_name = find(&operator, "test").await;
    assert_eq!(by_name.len(), 2, "the key of each org is called so");
    assert!(by_name.iter().all(|hit| !hit.to_string().contains("hash") && !hit.to_string().contains("secret")));
}

#[tokio::test]
async fn a_search_for_nothing_or_for_too_much_is_refused() {
    let world = World::new().await;
    let operator = operator(&world).await;
    for query in ["", "?q=", "?q=%20%20", "?q=%00", &format!("?q={}", "x".repeat(301))] {
        let reply = operator.get(&format!("/api/admin/search{query}")).await;
        assert_eq!((reply.status.as_u16(), reply.slug()), (422, "unprocessable_error"), "{query}");
        assert!(reply.error().3.contains("`q`"), "{}", reply.text);
    }
}
