//! An upload's way, as the client sees it.

use reqwest::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::engines::Engines;
use crate::server::{client, post_form, post_form_with, read};

on_each_engine! {
    a_file_for_an_order_goes_all_the_way,
    the_content_comes_back_as_it_was,
    same_bytes_twice_are_two_entries_and_counted_twice,
    a_known_hash_needs_no_upload,
    another_hash_or_size_than_declared_is_refused_by_the_bucket,
    another_hash_than_declared_is_never_stored,
    a_form_that_was_tampered_with_stores_nothing,
    a_ref_stands_for_one_upload,
    files_posted_in_one_form_are_answered_in_order,
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256-{}", hex::encode(Sha256::digest(bytes)))
}

async fn a_file_for_an_order_goes_all_the_way(engines: Engines) {
    let server = engines.start().await;
    let upload = server
        .create(json!({
            "filename": "front.png", "type": "image/png", "size": 5,
            "target": { "kind": "order", "number": "A-100" }, "metadata": { "side": "front" },
        }))
        .await;
    assert_eq!((upload["status"].as_str(), upload["upload"]["method"].as_str()), (Some("issued"), Some("POST")));

    assert_eq!(post_form(&upload, b"bytes").await, 201);
    let done = server.settled(&upload).await;

    assert_eq!((done["status"].as_str(), done["hash"].as_str()), (Some("done"), Some(sha256(b"bytes").as_str())));
    let (status, files) = server.get(&format!("/api/files/{}", done["fileId"].as_str().unwrap())).await;
    assert_eq!((status.as_u16(), files["files"][0]["filename"].as_str()), (200, Some("front.png")));
    assert_eq!(files["files"][0]["target"], json!({ "kind": "order", "number": "A-100" }));
    assert_eq!(server.report_of(1).await["sizeBytes"], 5);
}

async fn the_content_comes_back_as_it_was(engines: Engines) {
    let server = engines.start().await;
    let done = server.uploaded("наряд 🎉.txt", b"what was put in").await;

    let path = format!("/api/files/{}/content", done["fileId"].as_str().unwrap());
    let redirect = server.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(redirect.status(), 302);
    let place = redirect.headers()["location"].to_str().unwrap().to_owned();
    let content = client().get(place).send().await.unwrap();

    assert_eq!(content.status(), 200);
    let disposition = content.headers()["content-disposition"].to_str().unwrap().to_owned();
    assert!(disposition.starts_with("attachment"), "{disposition}");
    assert_eq!(content.bytes().await.unwrap(), "what was put in");
}

async fn same_bytes_twice_are_two_entries_and_counted_twice(engines: Engines) {
    let server = engines.start().await;
    let first = server.uploaded("one.txt", b"the same").await;
    let second = server.uploaded("two.txt", b"the same").await;

    assert_eq!((&first["deduplicated"], &second["deduplicated"]), (&json!(false), &json!(true)));
    assert_ne!(first["fileId"], second["fileId"]);
    let report = server.report_of(2).await;
    assert_eq!(
        (&report["sizeBytes"], &report["uniqueCount"], &report["uniqueSizeBytes"]),
        (&json!(16), &json!(1), &json!(8))
    );
}

async fn a_known_hash_needs_no_upload(engines: Engines) {
    let server = engines.start().await;
    server.uploaded("one.txt", b"known").await;

    let upload = server.create(json!({ "filename": "two.txt", "sha256": sha256(b"known") })).await;

    assert_eq!((upload["status"].as_str(), &upload["deduplicated"]), (Some("done"), &json!(true)));
    assert!(upload["upload"].is_null());
    let (status, answer) =
        server.post("/api/uploads", json!({ "filename": "x", "sha256": sha256(b"known"), "size": 1 })).await;
    assert_eq!((status.as_u16(), answer["error"]["type"].as_str()), (422, Some("unprocessable_error")));
    server.report_of(2).await;
}

async fn another_hash_or_size_than_declared_is_refused_by_the_bucket(engines: Engines) {
    let server = engines.start().await;
    let hashed = server.create(json!({ "filename": "a", "sha256": sha256(b"promised") })).await;
    let sized = server.create(json!({ "filename": "b", "size": 3 })).await;

    // Not every S3 server compares the hash; those that do not leave it to the worker, see below.
    if !engines.are_remote() {
        assert!(post_form(&hashed, b"delivery").await.is_client_error());
    }
    assert!(post_form(&sized, b"four").await.is_client_error());
    assert!(post_form(&sized, b"2!").await.is_client_error());

    // Nothing was stored: the right bytes still find their way.
    assert_eq!(post_form(&hashed, b"promised").await, 201);
    assert_eq!(post_form(&sized, b"3!!").await, 201);
    assert_eq!(server.settled(&hashed).await["status"], "done");
    assert_eq!(server.settled(&sized).await["status"], "done");
}

async fn another_hash_than_declared_is_never_stored(engines: Engines) {
    let server = engines.start().await;
    let upload = server.create(json!({ "filename": "a", "sha256": sha256(b"promised") })).await;

    if post_form(&upload, b"delivery").await.is_success() {
        let ended = server.settled(&upload).await;
        assert_eq!((&ended["status"], &ended["reason"]), (&json!("rejected"), &json!("digest_mismatch")));
    }

    assert_eq!(server.get("/api/files").await.1["files"], json!([]));
    server.place().staging_is_empty().await;
}

async fn a_form_that_was_tampered_with_stores_nothing(engines: Engines) {
    let server = engines.start().await;
    let upload = server.create(json!({ "filename": "a", "type": "text/plain" })).await;
    let swaps: [(&str, &str); 5] = [
        ("key", "staging/elsewhere"),
        ("Content-Type", "text/html"),
        ("x-amz-meta-upload-id", "00000000-0000-0000-0000-000000000000"),
        ("x-amz-signature", "0000000000000000000000000000000000000000000000000000000000000000"),
        ("policy", "e30="),
    ];
    for (name, value) in swaps {
        let status = post_form_with(&upload, b"bytes", |fields| {
            let field = fields.iter_mut().find(|(field, _)| field == name).unwrap_or_else(|| panic!("no field {name}"));
            value.clone_into(&mut field.1);
        })
        .await;
        assert!(status.is_client_error(), "{name}: {status}");
    }
    let extra = post_form_with(&upload, b"bytes", |fields| fields.push(("acl".into(), "public-read".into()))).await;
    assert!(extra.is_client_error(), "{extra}");

    let (_, answer) = server.get(&format!("/api/uploads/{}", upload["id"].as_str().unwrap())).await;
    assert_eq!(answer["uploads"][0]["status"], "issued");
}

async fn a_ref_stands_for_one_upload(engines: Engines) {
    let server = engines.start().await;
    let body = json!({ "filename": "a", "ref": "client-7" });
    let first = server.create(body.clone()).await;

    let (status, again) = server.post("/api/uploads", body.clone()).await;
    assert_eq!((status.as_u16(), &again["uploads"][0]["id"]), (200, &first["id"]));
    assert_eq!(post_form(&again["uploads"][0], b"once").await, 201);
    server.settled(&first).await;

    let (status, done) = server.post("/api/uploads", body).await;
    assert_eq!((status.as_u16(), done["uploads"][0]["status"].as_str()), (200, Some("done")));
    server.report_of(1).await;
}

async fn files_posted_in_one_form_are_answered_in_order(engines: Engines) {
    let server = engines.start().await;
    let part = |name: &str, bytes: &'static [u8]| reqwest::multipart::Part::bytes(bytes).file_name(name.to_owned());
    let form = reqwest::multipart::Form::new()
        .part("files", part("MyPicture.jpg", b"first"))
        .part("files", part("../../copy.jpg", b"first"))
        .part("files[]", part("empty", b""));

    let answer = server.request(Method::POST, "/api/files").multipart(form).send().await.unwrap();
    let (status, answer) = read(answer).await;

    assert_eq!((status.as_u16(), answer["message"].as_str()), (201, Some("Successful post request")));
    let entries = answer["files"].as_array().unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry["filename"].as_str().unwrap()).collect();
    assert_eq!(names, ["MyPicture.jpg", "copy.jpg", "empty"]);
    assert_eq!((&entries[0]["type"], &entries[0]["extension"]), (&json!("image/jpeg"), &json!(".jpg")));
    assert_eq!((&entries[1]["hash"], &entries[2]["size"]), (&json!(sha256(b"first")), &json!(0)));
    assert_eq!(entries[0]["encodings"], json!({ "raw": { "size": 5 } }));
    let report = server.report_of(3).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&json!(10), &json!(2)));
}
