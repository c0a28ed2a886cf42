//! `/api/files`: forms in, entries, lists, contents and the report out.

use longshore_jobs::model::Digest;
use serde_json::json;
use std::time::Duration;

use crate::http::Settings;
use crate::http::testing::World;
use longshore_jobs::job::Limits;

#[tokio::test]
async fn posted_files_are_done_in_order_and_look_as_the_contract_says() {
    let world = World::new().await;
    let client = world.client().await;

    let reply = client.form(&[("files", "MyPicture.jpg", b"picture"), ("files[]", "README", b"")]).await.is(201);

    assert_eq!(reply.body["message"], "Successful post request");
    let hash = Digest::of(b"picture").to_string();
    let file = reply.file();
    for (field, expected) in [
        ("filename", json!("MyPicture.jpg")),
        ("createdAt", json!("2023-11-14T22:13:20.000Z")),
        ("size", json!(7)),
        ("hash", json!(hash)),
        ("extension", json!(".jpg")),
        ("type", json!("image/jpeg")),
        ("encodings", json!({"raw": {"size": 7}})),
        ("status", json!("done")),
        ("deduplicated", json!(false)),
    ] {
        assert_eq!(file[field], expected, "{field}");
    }
    assert!(file["userId"].is_string() && file["orgId"].is_string());
    let empty = &reply.body["files"][1];
    assert_eq!((&empty["extension"], &empty["type"], &empty["size"]), (&json!(null), &json!(null), &json!(0)));
    let shown = client.get(&format!("/api/files/{}", file["id"].as_str().unwrap())).await.is(200);
    assert_eq!(shown.file(), file);
    assert_eq!(shown.body["message"], "Successful get request");
}

#[tokio::test]
async fn the_same_bytes_twice_are_two_entries_and_one_blob() {
    let world = World::new().await;
    let client = world.client().await;

    let reply = client.form(&[("files", "a.txt", b"same"), ("files", "b.txt", b"same")]).await.is(201);
    world.line.drain().await;
    let report = client.get("/api/files/report").await.is(200);

    let flags = [0, 1].map(|n| reply.body["files"][n]["deduplicated"].as_bool().unwrap());
    assert!(flags.contains(&true) && flags.contains(&false), "{}", reply.text);
    assert_eq!(world.shelf.keys().len(), 1, "{:?}", world.shelf.keys());
    let entry = report.file();
    assert_eq!((&entry["count"], &entry["sizeBytes"]), (&json!(2), &json!(8)));
    assert_eq!((&entry["uniqueCount"], &entry["uniqueSizeBytes"]), (&json!(1), &json!(4)));
    assert!(entry["size"].is_number() && entry["asOf"].is_string());
}

#[tokio::test]
async fn past_the_wait_entries_have_their_final_ids_and_get_finds_them() {
    let settings = Settings { files_wait: Duration::ZERO, ..Settings::default() };
    let world = World::with(Limits::default(), settings).await;
    let client = world.client().await;
    world.idle();

    let early = client.form(&[("files", "a.txt", b"bytes")]).await.is(201);
    let path = format!("/api/files/{}", early.file()["id"].as_str().unwrap());
    let pending = client.get(&path).await.is(200);
    let no_content = client.get(&format!("{path}/content")).await;
    world.line.drain().await;
    let done = client.get(&path).await.is(200);

    assert_eq!((&early.file()["status"], &early.file()["size"]), (&json!("arrived"), &json!(5)));
    assert_eq!(early.file()["hash"], Digest::of(b"bytes").to_string());
    assert_eq!(pending.file(), early.file());
    assert_eq!((no_content.status.as_u16(), no_content.slug()), (404, "file_not_found_error"));
    assert_eq!((&done.file()["status"], &done.file()["id"]), (&json!("done"), &early.file()["id"]));
}

#[tokio::test]
async fn a_posted_file_that_the_bucket_loses_is_rejected_and_the_others_stand() {
    let world = World::new().await;
    let client = world.client().await;
    world.idle();

    let posting = client.form(&[("files", "lost.txt", b"lost"), ("files", "kept.txt", b"kept")]);
    let losing = async {
        while world.line.kinds().is_empty() {
            tokio::task::yield_now().await;
        }
        world.shelf.objects.lock().unwrap().retain(|_, (_, bytes)| &bytes[..] != b"lost");
        world.line.drain().await;
    };
    let (reply, ()) = tokio::join!(posting, losing);

    let reply = reply.is(201);
    let told = [0, 1].map(|n| (reply.body["files"][n]["filename"].clone(), reply.body["files"][n]["status"].clone()));
    assert_eq!(told, [(json!("lost.txt"), json!("rejected")), (json!("kept.txt"), json!("done"))]);
    let path = |n: usize| format!("/api/files/{}", reply.body["files"][n]["id"].as_str().unwrap());
    assert_eq!(client.get(&path(0)).await.is(200).file()["status"], "rejected");
    assert_eq!(client.get(&path(1)).await.is(200).file(), &reply.body["files"][1]);
}

#[tokio::test]
async fn a_file_that_has_no_bytes_yet_is_not_found() {
    let world = World::new().await;
    let client = world.client().await;
    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(201);
    let id = upload.upload()["id"].as_str().unwrap().parse().unwrap();
    let row = longshore_jobs::ledger::uploads::find(&world.ctx.db, id).await.unwrap().unwrap();

    let reply = client.get(&format!("/api/files/{}", row.file_id)).await;

    assert_eq!((reply.status.as_u16(), reply.slug()), (404, "file_not_found_error"));
}

#[tokio::test]
async fn contents_are_behind_a_short_lived_redirect() {
    let world = World::new().await;
    let client = world.client().await;
    let file = client.form(&[("files", "a.txt", b"bytes")]).await.is(201);

    let reply = client.get(&format!("/api/files/{}/content", file.file()["id"].as_str().unwrap())).await.is(302);

    assert!(reply.header("location").starts_with("https://bucket.test/blobs/"));
    assert!(reply.header("location").ends_with("expires=300"));
    assert_eq!(reply.header("cache-control"), "no-store");
}

#[tokio::test]
async fn lists_go_page_by_page_or_behind_a_cursor() {
    let world = World::new().await;
    let client = world.client().await;
    for n in 0..5 {
        client.form(&[("files", &format!("{n}.txt"), format!("bytes {n}").as_bytes())]).await.is(201);
    }
    let names = |reply: &crate::http::testing::Reply| -> Vec<String> {
        let files = reply.body["files"].as_array().unwrap();
        files.iter().map(|file| file["filename"].as_str().unwrap().to_owned()).collect()
    };

    let all = client.get("/api/files").await.is(200);
    assert_eq!(names(&all), ["4.txt", "3.txt", "2.txt", "1.txt", "0.txt"]);
    assert_eq!((&all.body["page"], &all.body["perPage"], &all.body["count"]), (&json!(1), &json!(30), &json!(5)));
    assert_eq!((&all.body["sort"], &all.body["next"]), (&json!("-createdAt"), &json!(null)));
    assert_eq!(all.body["countCapped"], false);

    let second = client.get("/api/files?page=2&perPage=2&sort=createdAt").await.is(200);
    assert_eq!(names(&second), ["2.txt", "3.txt"]);

    let first = client.get("/api/files?perPage=3").await.is(200);
    client.form(&[("files", "late.txt", b"late")]).await.is(201);
    let next = first.body["next"].as_str().unwrap();
    let rest = client.get(&format!("/api/files?perPage=3&after={next}")).await.is(200);
    assert_eq!(names(&rest), ["1.txt", "0.txt"]);
    assert_eq!(rest.body["next"], json!(null));
    assert_eq!(client.get("/api/files?perPage=1000").await.body["perPage"], 100);
}

#[tokio::test]
async fn lists_are_filtered() {
    let world = World::new().await;
    let client = world.client().await;
    client.form(&[("files", "a.txt", b"a"), ("files", "b.jpg", b"b")]).await.is(201);
    let target = json!({"kind": "order", "number": "A-100"});
    let sha256 = Digest::of(b"a").to_hex();
    let known = json!({"filename": "known.bin", "sha256": sha256, "target": target});
    client.post("/api/uploads", known).await.is(201);

    for (query, count) in [
        ("filename=b.jpg".to_owned(), 1),
        ("type=text/plain".to_owned(), 1),
        ("type=text%2Fplain&filename=b.jpg".to_owned(), 0),
        (format!("hash={sha256}"), 2),
        (format!("hash=sha256-{sha256}"), 2),
        ("target=order&number=A-100".to_owned(), 1),
        ("target=style".to_owned(), 0),
    ] {
        let reply = client.get(&format!("/api/files?{query}")).await.is(200);
        assert_eq!(reply.body["count"], count, "{query}");
        assert_eq!(reply.body["files"].as_array().unwrap().len(), count, "{query}");
    }
}
