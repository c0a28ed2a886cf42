//! `/api/batches`: many uploads in, and how they get on.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use longshore_jobs::issue_batch::{CHUNK, IssueBatch};
use longshore_jobs::job::{Job as _, Lane};
use longshore_jobs::ledger::dead_letters::{self, DeadLetter};
use longshore_jobs::ledger::{batches, lines};
use longshore_jobs::model::Digest;
use longshore_jobs::sql;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::http::testing::{Client, Reply, World};

fn path_of(reply: &Reply) -> String {
    format!("/api/batches/{}", reply.batch()["id"].as_str().unwrap())
}

async fn members(client: &Client<'_>, batch: &Reply, query: &str) -> Reply {
    client.get(&format!("{}/uploads{query}", path_of(batch))).await.is(200)
}

fn names(reply: &Reply) -> Vec<&str> {
    reply.body["uploads"].as_array().unwrap().iter().map(|upload| upload["filename"].as_str().unwrap()).collect()
}

/// How many rows there are of what a batch consists of.
async fn rows(world: &World) -> i64 {
    let query =
        "select (select count(*) from batches) + (select count(*) from batch_lines) + (select count(*) from uploads)";
    sql!(world.ctx.db.reader(), c => sqlx::query_scalar(query).fetch_one(c).await).unwrap()
}

#[tokio::test]
async fn a_batch_is_accepted_and_its_uploads_come_with_their_policies() {
    let world = World::new().await;
    let client = world.client().await;
    world.idle();
    let body = json!({
        "target": {"kind": "order", "number": "A-100"},
        "uploads": [
            {"filename": "front.png", "size": 7, "ref": "r-1", "metadata": {"side": "front"}},
            {"filename": "back.png", "target": {"kind": "style", "number": "S-1"}, "sha256": Digest::of(b"back")},
        ],
    });

    let reply = client.post("/api/batches", body).await.is(202);

    assert_eq!((reply.header("location"), reply.header("retry-after")), (path_of(&reply).as_str(), "1"));
    let entry = reply.batch();
    for (field, expected) in [
        ("mode", json!("each")),
        ("createdAt", json!("2023-11-14T22:13:20.000Z")),
        ("target", json!({"kind": "order", "number": "A-100"})),
        ("lines", json!(2)),
        ("known", json!(0)),
        ("ready", json!(false)),
        ("progress", json!(0.0)),
        ("taskCount", json!(2)),
        ("taskStatusPending", json!(2)),
        ("closedAt", json!(null)),
        ("attention", json!(null)),
    ] {
        assert_eq!(entry[field], expected, "{field}");
    }
    world.line.drain().await;
    let ready = client.get(&path_of(&reply)).await.is(200);
    assert_eq!((&ready.batch()["ready"], &ready.batch()["counts"]["issued"]), (&json!(true), &json!(2)));
    let uploads = members(&client, &reply, "").await;
    assert_eq!((names(&uploads), &uploads.body["count"]), (vec!["front.png", "back.png"], &json!(2)));
    let [front, back] = [&uploads.body["uploads"][0], &uploads.body["uploads"][1]];
    assert_eq!(
        (&front["status"], &front["type"], &front["ref"]),
        (&json!("issued"), &json!("image/png"), &json!("r-1"))
    );
    assert_eq!((&front["target"]["number"], &back["target"]["number"]), (&json!("A-100"), &json!("S-1")));
    assert_eq!((&front["metadata"], &front["batchId"]), (&json!({"side": "front"}), &entry["id"]));
    assert_eq!(front["upload"]["fields"]["policy"], "signed");
}

#[tokio::test]
async fn lines_of_json_are_a_batch_too() {
    let world = World::new().await;
    let client = world.client().await;
    let lines =
        "{\"filename\": \"a\"}\r\n\n  \n{\"filename\": \"b\", \"target\": {\"kind\": \"style\", \"number\": \"S-1\"}}";

    let reply = client.post_lines("/api/batches?target=order&number=A-100", lines).await.is(202);
    world.line.drain().await;

    assert_eq!((&reply.batch()["lines"], &reply.batch()["target"]["number"]), (&json!(2), &json!("A-100")));
    let uploads = members(&client, &reply, "").await;
    assert_eq!(names(&uploads), ["a", "b"]);
    assert_eq!(uploads.body["uploads"][0]["target"], json!({"kind": "order", "number": "A-100"}));
    assert_eq!(uploads.body["uploads"][1]["target"], json!({"kind": "style", "number": "S-1"}));
    for (query, said) in [
        ("target=order", "`number` must be"),
        ("target=bogus&number=1", "`target` will"),
        ("number=%07", "`number` must"),
    ] {
        let half = client.post_lines(&format!("/api/batches?{query}"), lines).await;
        let (status, slug, outer, inner) = half.error();
        assert_eq!((status, slug, outer), (422, "unprocessable_error", "Post request was poorly formed"));
        assert!(inner.contains(said), "{inner}");
    }
}

#[tokio::test]
async fn one_bad_line_refuses_all_and_names_line_and_field() {
    let world = World::new().await;
    let client = world.client().await;
    client.form(&[("files", "known.txt", b"bytes")]).await.is(201);
    world.line.drain().await;
    let before = rows(&world).await;
    let known = Digest::of(b"bytes").to_hex();

    for (bad, expected) in [
        (json!({"filename": "x", "size": -1}), "Line 300: field `size` must not be negative"),
        (json!({"filename": ""}), "Line 300: field `filename` must not be empty"),
        (json!({"size": 1}), "Line 300: field `filename` must be given"),
        (json!({"filename": "x", "sha256": "abc"}), "Line 300: field `sha256` will not do"),
        (json!({"filename": "x", "target": {"kind": "order"}}), "Line 300: field `target.number` must be given"),
        (json!({"filename": "x", "colour": 1}), "Line 300: field `colour` is not known here"),
        (json!({"filename": "x", "ref": "r 17"}), "Line 300: field `ref` must not be the same as in line 17"),
        (json!({"filename": "x", "sha256": known, "size": 6}), "Line 300: field `size` does not fit `sha256`"),
        (json!([1]), "Line 300: it must be a JSON object"),
    ] {
        let good = |number: usize| json!({"filename": format!("{number}.txt"), "ref": format!("r {number}")});
        let mut uploads: Vec<Value> = (1..=400).map(good).collect();
        uploads[299] = bad.clone();
        // What the org has is asked once every line is good by itself.
        if bad["size"] != 6 {
            uploads[350] = json!({"filename": "later", "size": -5});
        }
        let lines: String = uploads.iter().map(|line| format!("{line}\n")).collect();

        for reply in [
            client.post("/api/batches", json!({"uploads": uploads})).await,
            client.post_lines("/api/batches", &lines).await,
        ] {
            let (status, slug, outer, inner) = reply.error();
            assert_eq!((status, slug), (422, "unprocessable_error"), "{bad}");
            assert_eq!(outer, "Post request was poorly formed");
            assert!(inner.starts_with(expected), "{bad}: {inner}");
        }
    }
    let broken = client.post_lines("/api/batches", "{\"filename\": \"a\"}\n\n{\"filename\": ").await;
    assert!(broken.error().3.starts_with("Line 3: it is not valid JSON"), "{}", broken.text);
    world.line.drain().await;
    assert_eq!(rows(&world).await, before);
}

#[tokio::test]
async fn a_body_that_is_no_batch_is_refused() {
    let world = World::new().await;
    let client = world.client().await;
    let many: Vec<Value> = (0..10_001).map(|_| json!({"filename": "x"})).collect();

    for (body, status, said) in [
        (json!({}), 422, "`uploads` must be given"),
        (json!({"uploads": []}), 422, "`uploads` must be 1 to 10000 lines"),
        (json!({"uploads": many}), 422, "`uploads` must be 1 to 10000 lines"),
        (json!({"uploads": "a"}), 422, "`uploads` must be a list"),
        (json!({"uploads": [{"filename": "a"}], "mode": "some"}), 422, "`mode` must be"),
        (json!({"uploads": [{"filename": "a"}], "mode": "prefix"}), 422, "`uploads` must not be given"),
        (json!({"uploads": [{"filename": "a"}], "target": {"kind": "x"}}), 422, "`target.kind`"),
        (json!({"uploads": [{"filename": "a"}], "colour": 1}), 422, "`colour` is not known here"),
        (json!([]), 400, "not valid JSON"),
    ] {
        let reply = client.post("/api/batches", body).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
        assert!(reply.error().3.contains(said), "{}", reply.text);
    }
    let empty = client.post_lines("/api/batches", "\n \n").await;
    assert!(empty.error().3.contains("1 to 10000 lines"), "{}", empty.text);
    let text = client.request("POST", "/api/batches").header("content-type", "text/csv").body("a".into()).unwrap();
    assert_eq!(world.send(text).await.slug(), "unsupported_media_type_error");
    assert_eq!(rows(&world).await, 0);
}

#[tokio::test]
async fn json_that_is_whole_but_cannot_be_read_is_refused() {
    let world = World::new().await;
    let client = world.client().await;
    let deep = "[".repeat(200) + &"]".repeat(200);

    for value in ["1e999", &deep, r#""\ud800""#] {
        for field in ["target", "mode", "colour"] {
            let body = format!(r#"{{"{field}": {value}, "uploads": [{{"filename": "a"}}]}}"#);
            let request = client.request("POST", "/api/batches").header("content-type", "application/json");
            let reply = world.send(request.body(body.into()).unwrap()).await;
            let (status, slug, _, inner) = reply.error();
            assert_eq!((status, slug), (400, "bad_request_error"), "{field}: {value}");
            assert!(inner.starts_with("The body is not valid JSON: "), "{inner}");
        }
        let line = format!(r#"{{"filename": {value}}}"#);
        let reply = client.post_lines("/api/batches", &line).await.is(422);
        assert!(reply.error().3.starts_with("Line 1: it is not valid JSON: "), "{}", reply.text);
        let request = client.request("POST", "/api/batches").header("content-type", "application/json");
        let reply = world.send(request.body(format!(r#"{{"uploads": [{line}]}}"#).into()).unwrap()).await.is(422);
        assert!(reply.error().3.starts_with("Line 1: it is not valid JSON: "), "{}", reply.text);
    }
    let long = json!({"x".repeat(1 << 20): "y".repeat(2 << 20)});
    let reply = client.post("/api/batches", long).await.is(422);
    assert!(reply.text.len() < 300 && reply.error().3.ends_with("` is too long"), "{}", reply.text.len());
    assert_eq!(rows(&world).await, 0);
}

#[tokio::test]
async fn a_body_may_be_large_but_not_larger_than_sixteen_mebibytes() {
    let world = World::new().await;
    let client = world.client().await;
    world.idle();
    let line = |number: usize| json!({"filename": format!("{number}.txt"), "metadata": {"note": "x".repeat(1_000)}});
    let uploads: Vec<Value> = (0..10_000).map(line).collect();

    let good = client.post("/api/batches", json!({"uploads": uploads})).await.is(202);
    let large = client.post_lines("/api/batches", &"\n".repeat((16 << 20) + 1)).await;
    let long = client.post_lines("/api/batches", &format!("{{\"filename\": \"{}\"}}", "x".repeat(1 << 20))).await;

    assert_eq!(good.batch()["taskCount"], 10_000);
    assert_eq!((large.status.as_u16(), large.slug()), (413, "payload_too_large_error"));
    assert!(large.error().3.contains("16777216"), "{}", large.text);
    assert_eq!((long.status.as_u16(), &long.error().3[..7]), (422, "Line 1:"));
}

#[tokio::test]
async fn a_get_waits_until_the_batch_is_over() {
    let world = World::new().await;
    let client = world.client().await;
    let reply = client.post("/api/batches", json!({"uploads": [{"filename": "a"}, {"filename": "b"}]})).await.is(202);
    world.line.drain().await;
    let uploads = members(&client, &reply, "").await;
    let ids: Vec<&str> = (0..2).map(|place| uploads.body["uploads"][place]["id"].as_str().unwrap()).collect();

    let waiting = async {
        let request = client.request("GET", &path_of(&reply)).header("prefer", "wait=30");
        world.send(request.body(axum::body::Body::empty()).unwrap()).await.is(200)
    };
    let finishing = async {
        let key = uploads.body["uploads"][0]["upload"]["fields"]["key"].as_str().unwrap();
        world.shelf.lay(key, Bytes::from_static(b"bytes"));
        client.post(&format!("/api/uploads/{}/callback", ids[0]), Value::Null).await.is(202);
        client.call("DELETE", &format!("/api/uploads/{}", ids[1])).await.is(200);
    };
    let (over, ()) = tokio::join!(waiting, finishing);

    assert_eq!(over.header("preference-applied"), "wait=30");
    let batch = over.batch();
    assert_eq!((&batch["progress"], &batch["taskResultSuccesses"]), (&json!(1.0), &json!(1)));
    assert_eq!((&batch["taskResultFailures"], &batch["bytesDone"]), (&json!(1), &json!(5)));
}

#[tokio::test]
async fn a_wait_ends_with_its_time() {
    let world = World::new().await;
    let client = world.client().await;
    world.idle();
    let reply = client.post("/api/batches", json!({"uploads": [{"filename": "a"}]})).await.is(202);

    let request = client.request("GET", &path_of(&reply)).header("prefer", "wait=1");
    let waited = world.send(request.body(axum::body::Body::empty()).unwrap()).await.is(200);

    assert_eq!((&waited.batch()["ready"], &waited.batch()["taskStatusPending"]), (&json!(false), &json!(1)));
}

#[tokio::test]
async fn uploads_of_a_batch_are_listed_in_pages_by_status_and_as_lines() {
    let world = World::new().await;
    let client = world.client().await;
    client.post("/api/uploads", json!({"filename": "earlier", "ref": "r 7"})).await.is(201);
    let line = |number: usize| json!({"filename": format!("{number:04}"), "ref": format!("r {number}")});
    let uploads: Vec<Value> = (0..1_203).map(line).collect();
    let reply = client.post("/api/batches", json!({"uploads": uploads})).await.is(202);
    world.line.drain().await;
    assert_eq!(client.get(&path_of(&reply)).await.batch()["known"], 1);

    let (mut seen, mut query) = (Vec::new(), "?perPage=1000".to_owned());
    loop {
        let page = members(&client, &reply, &query).await;
        assert_eq!(page.body["count"], 1_203);
        seen.extend(names(&page).into_iter().map(str::to_owned));
        let Some(next) = page.body["next"].as_str() else { break };
        query = format!("?perPage=1000&after={next}");
    }
    let expected: Vec<String> = std::iter::once("earlier".to_owned())
        .chain((0..1_203).filter(|number| *number != 7).map(|number| format!("{number:04}")))
        .collect();
    assert_eq!(seen, expected);
    let second = members(&client, &reply, "?perPage=600&page=2").await;
    assert_eq!(names(&second), expected[600..1_200]);
    assert_eq!(members(&client, &reply, "?status=done").await.body["count"], 0);

    let request =
        client.request("GET", &format!("{}/uploads", path_of(&reply))).header("accept", "application/x-ndjson");
    let lines = world.send(request.body(axum::body::Body::empty()).unwrap()).await.is(200);
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let entries: Vec<Value> = lines.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let named: Vec<&str> = entries.iter().map(|entry| entry["filename"].as_str().unwrap()).collect();
    assert_eq!(named, expected);
    assert!(entries.iter().all(|entry| entry["upload"]["fields"]["key"].is_string()));
}

#[tokio::test]
async fn batches_are_listed_newest_first() {
    let world = World::new().await;
    let client = world.client().await;
    let mut posted = Vec::new();
    for number in 0..5 {
        let lines = (0..=number).map(|_| json!({"filename": "x"})).collect::<Vec<_>>();
        posted.push(client.post("/api/batches", json!({"uploads": lines})).await.is(202).batch()["id"].clone());
    }
    world.line.drain().await;
    posted.reverse();

    let first = client.get("/api/batches?perPage=2").await.is(200);
    let next = first.body["next"].as_str().unwrap();
    let second = client.get(&format!("/api/batches?perPage=3&after={next}")).await.is(200);

    let ids = |reply: &Reply| -> Vec<Value> {
        reply.body["batches"].as_array().unwrap().iter().map(|batch| batch["id"].clone()).collect()
    };
    assert_eq!((ids(&first), ids(&second)), (posted[..2].to_vec(), posted[2..].to_vec()));
    assert_eq!((&first.body["count"], &second.body["next"]), (&json!(5), &json!(null)));
    assert_eq!(first.batch()["counts"]["issued"], 5);
}

#[tokio::test]
async fn a_cancelled_batch_drops_its_lines_and_cancels_what_is_open() {
    let world = World::new().await;
    let client = world.client().await;
    let lines: Vec<Value> = (0..CHUNK + 10).map(|number| json!({"filename": number.to_string()})).collect();
    world.idle();
    let reply = client.post("/api/batches", json!({"uploads": lines})).await.is(202);
    let id: Uuid = reply.batch()["id"].as_str().unwrap().parse().unwrap();
    IssueBatch { batch: id }.run(&world.ctx).await.unwrap();
    let uploads = members(&client, &reply, "?perPage=2").await;
    let key = |place: usize| uploads.body["uploads"][place]["upload"]["fields"]["key"].as_str().unwrap().to_owned();
    world.shelf.lay(&key(1), Bytes::from_static(b"too late"));

    let cancelled = client.call("DELETE", &path_of(&reply)).await.is(200);
    world.line.drain().await;
    let again = client.call("DELETE", &path_of(&reply)).await.is(200);

    let chunk = i64::try_from(CHUNK).unwrap();
    for reply in [&cancelled, &again] {
        let batch = reply.batch();
        assert_eq!((&batch["counts"]["cancelled"], &batch["taskCount"]), (&json!(chunk), &json!(chunk + 10)));
        assert_eq!((&batch["taskResultFailures"], &batch["progress"]), (&json!(chunk + 10), &json!(1.0)));
        assert!(batch["closedAt"].is_string());
    }
    assert_eq!(cancelled.batch()["updatedAt"], again.batch()["updatedAt"]);
    assert!(world.shelf.keys().is_empty());
    assert_eq!(lines::first(&world.ctx.db, id).await.unwrap(), None);
}

#[tokio::test]
async fn a_batch_is_cancelled_to_its_end_although_the_client_goes_away() {
    let world = World::new().await;
    let client = world.client().await;
    let lines: Vec<Value> = (0..2_000).map(|number| json!({"filename": number.to_string()})).collect();
    let reply = client.post("/api/batches", json!({"uploads": lines})).await.is(202);
    world.line.drain().await;
    let path = path_of(&reply);

    let request = client.request("DELETE", &path).body(axum::body::Body::empty()).unwrap();
    let deleting = tokio::spawn(world.app.clone().oneshot(request));
    let cancelled = async || client.get(&path).await.is(200).batch()["counts"]["cancelled"].as_i64().unwrap();
    while cancelled().await == 0 {}
    deleting.abort();

    assert!(deleting.await.is_err_and(|error| error.is_cancelled()), "it was over too early to be broken off");
    let deadline = Instant::now() + Duration::from_secs(60);
    while cancelled().await < 2_000 {
        assert!(Instant::now() < deadline, "it was left at {}", cancelled().await);
    }
}

#[tokio::test]
async fn a_batch_whose_job_is_dead_asks_for_attention() {
    let world = World::new().await;
    let client = world.client().await;
    world.idle();
    let reply = client.post("/api/batches", json!({"uploads": [{"filename": "a"}]})).await.is(202);
    let id: Uuid = reply.batch()["id"].as_str().unwrap().parse().unwrap();
    let letter = DeadLetter {
        id: Uuid::now_v7(),
        kind: IssueBatch::KIND.to_owned(),
        subject: id,
        pool: IssueBatch::POOL,
        lane: Lane::Bulk,
        payload: json!({"batch": id}).to_string(),
        attempts: 20,
        crashes: 0,
        reason: "attempts".to_owned(),
        error: "no use".to_owned(),
        died_at: world.ctx.now(),
    };
    let kept =
        world.ctx.db.write_one(move |mut tx| Box::pin(async move { dead_letters::insert(&mut tx, &letter).await }));
    kept.await.unwrap();
    world.clock.turn(Duration::from_secs(1_000));

    let shown = client.get(&path_of(&reply)).await.is(200);

    assert_eq!(shown.batch()["attention"], true);
    assert!(batches::due_to_resume(&world.ctx.db, world.ctx.now(), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_is_taken_in_while_the_queue_is_away() {
    let world = World::new().await;
    let client = world.client().await;
    world.line.away.store(true, Ordering::Relaxed);

    client.post("/api/batches", json!({"uploads": [{"filename": "a"}]})).await.is(202);

    world.clock.turn(Duration::from_secs(61));
    assert_eq!(batches::due_to_resume(&world.ctx.db, world.ctx.now(), 10).await.unwrap().len(), 1);
}
