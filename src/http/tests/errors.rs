//! Every slug of the contract that is thrown, and bad input that must never be our fault.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use futures_util::StreamExt as _;
use longshore_jobs::job::Limits;
use serde_json::{Value, json};

use crate::http::errors::Slug;
use crate::http::testing::{Client, World, form_of};
use crate::http::{Http, Settings, router};

const FORM: &str = "multipart/form-data; boundary=XX";

/// What API.md lists. This one is not thrown yet: nothing is rationed.
const NOT_THROWN: [&str; 1] = ["rate_limited_error"];
const LISTED: [&str; 16] = [
    "missing_files_error",
    "bad_request_error",
    "authentication_error",
    "authorization_error",
    "file_not_found_error",
    "upload_not_found_error",
    "batch_not_found_error",
    "not_found_error",
    "method_not_allowed_error",
    "conflict_error",
    "payload_too_large_error",
    "unsupported_media_type_error",
    "unprocessable_error",
    "rate_limited_error",
    "internal_error",
    "unavailable_error",
];

#[test]
fn the_slugs_are_those_of_the_contract() {
    let thrown: BTreeSet<_> = Slug::ALL.iter().map(|slug| slug.as_str()).collect();
    let expected = LISTED.into_iter().filter(|slug| !NOT_THROWN.contains(slug)).collect();
    assert_eq!(thrown, expected);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_the_envelope() {
    let world = World::new().await;

    let path = world.nobody().get("/api/nothing").await;
    let method = world.nobody().call("PATCH", "/api/uploads").await;
    let later = world.client().await.call("PATCH", "/api/files/0198c0de-0000-7000-8000-000000000000").await;

    assert_eq!((path.status.as_u16(), path.slug()), (404, "not_found_error"));
    assert_eq!((method.status.as_u16(), method.slug()), (405, "method_not_allowed_error"));
    assert!(method.header("allow").contains("POST"), "{:?}", method.headers);
    assert_eq!((later.status.as_u16(), later.slug()), (405, "method_not_allowed_error"));
}

#[tokio::test]
async fn bodies_that_are_no_json_object_are_refused() {
    let world = World::new().await;
    let client = world.client().await;
    let send = async |media_type: &str, body: &[u8]| {
        let request = client.request("POST", "/api/uploads").header("content-type", media_type);
        world.send(request.body(Body::from(body.to_vec())).unwrap()).await
    };

    for body in [&b"{\"filename\": "[..], b"", b"[]", b"7", b"\xff\xfe", &[b'['; 100_000]] {
        let reply = send("application/json", body).await;
        let (status, slug, outer, _) = reply.error();
        assert_eq!((status, slug), (400, "bad_request_error"));
        assert_eq!(outer, "Post request was poorly formed");
    }
    for media_type in ["text/plain", "multipart/form-data", "nonsense"] {
        let reply = send(media_type, b"{}").await;
        assert_eq!((reply.status.as_u16(), reply.slug()), (415, "unsupported_media_type_error"), "{media_type}");
    }
    let large = format!("{{\"filename\": \"{}\"}}", "x".repeat(10 << 20));
    let reply = send("application/json", large.as_bytes()).await;
    assert_eq!((reply.status.as_u16(), reply.slug()), (413, "payload_too_large_error"));
    send("application/json; charset=utf-8", b"{\"filename\": \"a\"}").await.is(201);
}

#[tokio::test]
async fn whoever_sends_too_much_over_a_real_connection_still_reads_why() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let world = World::new().await;
    let token = world.client().await.token.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(axum::serve(listener, world.app.clone()).into_future());

    for (path, authorization, code) in
        [("/api/uploads", format!("Bearer {token}"), "413"), ("/api/files", String::new(), "401")]
    {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            10 << 20
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&vec![b' '; 10 << 20]).await.unwrap();
        let mut reply = String::new();
        connection.read_to_string(&mut reply).await.unwrap();

        assert!(reply.starts_with(&format!("HTTP/1.1 {code}")), "{reply}");
    }
    serving.abort();
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let world = World::new().await;
    let client = world.client().await;
    let long_name = "x".repeat(4096);

    for (field, extra) in [
        ("filename", json!({"filename": null})),
        ("filename", json!({"filename": ""})),
        ("filename", json!({"filename": 7})),
        ("filename", json!({"filename": "../a"})),
        ("filename", json!({"filename": "a\u{0}b"})),
        ("filename", json!({"filename": long_name})),
        ("size", json!({"size": -1})),
        ("size", json!({"size": 1.5})),
        ("size", json!({"size": "7"})),
        ("size", json!({"size": 5_000_000_001_i64})),
        ("size", json!({"size": 1e30})),
        ("type", json!({"type": "jpeg"})),
        ("type", json!({"type": ["image/jpeg"]})),
        ("sha256", json!({"sha256": "abc"})),
        ("sha256", json!({"sha256": 7})),
        ("target", json!({"target": "A-100"})),
        ("target.kind", json!({"target": {"kind": "invoice", "number": "1"}})),
        ("target.kind", json!({"target": {"number": "1"}})),
        ("target.number", json!({"target": {"kind": "order"}})),
        ("target.number", json!({"target": {"kind": "order", "number": ""}})),
        ("target.colour", json!({"target": {"kind": "order", "number": "1", "colour": "red"}})),
        ("ref", json!({"ref": ""})),
        ("ref", json!({"ref": "x".repeat(201)})),
        ("ref", json!({"ref": "a\u{0}"})),
        ("metadata", json!({"metadata": "text"})),
        ("metadata", json!({"metadata": {"a": "x".repeat(9000)}})),
        ("colour", json!({"colour": "red"})),
    ] {
        let mut body = json!({"filename": "a.txt"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let reply = client.post("/api/uploads", body).await;

        let (status, slug, outer, inner) = reply.error();
        assert_eq!((status, slug), (422, "unprocessable_error"), "{extra}");
        assert_eq!(outer, "Post request was poorly formed");
        assert!(inner.contains(&format!("`{field}`")), "{inner}");
    }
    assert_eq!(client.get("/api/uploads").await.body["count"], 0);
}

#[tokio::test]
async fn every_bad_query_parameter_is_named() {
    let world = World::new().await;
    let client = world.client().await;

    for (path, name) in [
        ("/api/files?page=0", "page"),
        ("/api/files?perPage=many", "perPage"),
        ("/api/files?sort=size", "sort"),
        ("/api/files?after=nonsense", "after"),
        ("/api/files?hash=abc", "hash"),
        ("/api/files?target=invoice", "target"),
        ("/api/files?filename=%00", "filename"),
        ("/api/uploads?status=lost", "status"),
        ("/api/uploads?page=-1", "page"),
        ("/api/uploads?target=invoice", "target"),
    ] {
        let reply = client.get(path).await;
        assert_eq!((reply.status.as_u16(), reply.slug()), (422, "unprocessable_error"), "{path}");
        assert!(reply.error().3.contains(&format!("`{name}`")), "{}", reply.text);
    }
    client.get("/api/files?page=9223372036854775807&perPage=100000").await.is(200);
    client.get("/api/files?%ff=%ff&status=&unknown=1").await.is(200);
}

#[tokio::test]
async fn forms_that_cannot_be_read_are_refused_and_leave_nothing() {
    let world = World::new().await;
    let client = world.client().await;
    let whole = form_of(&[("files", "a.txt", b"first"), ("files", "b.txt", b"second")]);
    let cut = whole[..whole.len() - 20].to_vec();
    let endless =
        [b"--XX\r\nContent-Disposition: form-data; name=\"files\"; x=\"".to_vec(), vec![b'x'; 9 << 20]].concat();

    for (content_type, body, expected) in [
        ("application/json", whole.clone(), (415, "unsupported_media_type_error")),
        ("", whole.clone(), (415, "unsupported_media_type_error")),
        ("multipart/form-data", whole.clone(), (400, "bad_request_error")),
        ("multipart/form-data; boundary=YY", whole.clone(), (400, "bad_request_error")),
        (FORM, cut, (400, "bad_request_error")),
        (FORM, b"nonsense".to_vec(), (400, "bad_request_error")),
        (FORM, Vec::new(), (400, "bad_request_error")),
        (FORM, form_of(&[("files", "a\0b.txt", b"x")]), (400, "bad_request_error")),
        (FORM, endless, (400, "bad_request_error")),
        (FORM, form_of(&[]), (400, "missing_files_error")),
        (FORM, form_of(&[("other", "a.txt", b"x")]), (400, "missing_files_error")),
        (FORM, form_of(&[("files", "", b"")]), (400, "missing_files_error")),
        (FORM, form_of(&vec![("files", "a.txt", &b""[..]); 1001]), (413, "payload_too_large_error")),
        (FORM, form_of(&[("other", "a.txt", &vec![0; 2 << 20])]), (413, "payload_too_large_error")),
    ] {
        let reply = client.raw_form(content_type, body).await;

        assert_eq!((reply.status.as_u16(), reply.slug()), expected, "{content_type}: {}", reply.text);
        assert_eq!(reply.error().2, "Post request was poorly formed");
    }
    assert_eq!(world.shelf.keys(), Vec::<String>::new());
    assert_eq!(client.get("/api/uploads").await.body["count"], 0);
    let missing = client.form(&[]).await;
    assert_eq!(missing.error().3, "Files must be included under the 'files' field to perform request");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let world = World::new().await;
    let client = world.client().await;
    let whole = form_of(&[("files", "a.txt", b"first"), ("files", "b.txt", b"second")]);
    let begun = bytes::Bytes::from(whole[..whole.len() - 20].to_vec());
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(begun)]).chain(futures_util::stream::pending());
    let request = client.request("POST", "/api/files").header("content-type", FORM);
    let mut posting = Box::pin(world.send(request.body(Body::from_stream(body)).unwrap()));

    while world.shelf.keys().is_empty() {
        assert!(futures_util::poll!(posting.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(posting);

    while !world.shelf.keys().is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn names_in_no_known_encoding_are_no_fault_of_ours() {
    let world = World::new().await;
    let mut form = form_of(&[("files", "a?.txt", b"x")]);
    let at = form.iter().position(|&byte| byte == b'?').unwrap();
    form[at] = 0xff;

    let reply = world.client().await.raw_form(FORM, form).await;

    assert!(reply.status == 201 || reply.status == 400, "{}", reply.text);
}

#[tokio::test]
async fn endless_headers_are_cut_off() {
    let world = World::new().await;
    let client = world.client().await;
    let head = bytes::Bytes::from_static(b"--XX\r\nContent-Disposition: form-data; name=\"files\"; x=\"");
    let chunk = bytes::Bytes::from(vec![b'x'; 64 << 10]);
    let chunks = std::iter::once(head).chain(std::iter::repeat_n(chunk, 100)).map(Ok::<_, std::io::Error>);
    let body = Body::from_stream(futures_util::stream::iter(chunks));

    let request = client.request("POST", "/api/files").header("content-type", FORM).body(body).unwrap();
    let reply = world.send(request).await;

    assert_eq!((reply.status.as_u16(), reply.slug()), (413, "payload_too_large_error"));
}

#[tokio::test]
async fn a_file_beyond_the_limit_refuses_the_form_whole() {
    let limits = Limits { max_size: 10, ..Limits::default() };
    let world = World::with(limits, Settings::default()).await;
    let client = world.client().await;

    let reply = client.form(&[("files", "a.txt", b"small"), ("files", "b.txt", b"far too large")]).await;

    assert_eq!((reply.status.as_u16(), reply.slug()), (413, "payload_too_large_error"));
    assert_eq!(world.shelf.keys(), Vec::<String>::new());
    assert_eq!(client.get("/api/files").await.body["count"], 0);
}

#[tokio::test]
async fn strange_names_become_safe_entries() {
    let world = World::new().await;
    let client = world.client().await;
    let long = "x".repeat(4096);
    let cut = "x".repeat(1024);

    for (sent, kept) in [
        ("../../etc/passwd", "passwd"),
        ("..", "unnamed"),
        ("🎉.png", "🎉.png"),
        ("C:\\\\temp\\\\me.png", "me.png"),
        (long.as_str(), cut.as_str()),
    ] {
        let reply = client.form(&[("files", sent, b"x")]).await.is(201);
        assert_eq!(reply.file()["filename"], kept, "{sent}");
    }
    assert!(world.shelf.keys().iter().all(|key| key.is_ascii() && !key.contains("..")));
}

#[tokio::test]
async fn when_the_bucket_is_away_clients_are_told_to_come_back_and_nothing_else() {
    let world = World::new().await;
    let client = world.client().await;
    let file = client.form(&[("files", "a.txt", b"x")]).await.is(201);
    let content = format!("/api/files/{}/content", file.file()["id"].as_str().unwrap());
    world.shelf.away.store(true, Ordering::Relaxed);

    for reply in [client.get(&content).await, client.form(&[("files", "a.txt", b"x")]).await] {
        assert_eq!((reply.status.as_u16(), reply.slug()), (503, "unavailable_error"));
        assert_eq!(reply.header("retry-after"), "2");
        assert!(!reply.text.contains("secret"), "{}", reply.text);
    }
}

#[tokio::test]
async fn when_the_ledger_is_away_clients_are_told_to_come_back() {
    let world = World::new().await;
    let client = world.client().await;
    client.get("/api/files").await.is(200);
    world.ctx.db.close().await;

    for (method, path) in [("GET", "/api/files"), ("GET", "/api/uploads"), ("GET", "/api/files/report")] {
        let reply = client.call(method, path).await;
        assert_eq!((reply.status.as_u16(), reply.slug()), (503, "unavailable_error"), "{path}");
        assert_eq!(reply.header("retry-after"), "2");
    }
}

#[tokio::test]
async fn a_lost_queue_refuses_a_callback_but_not_an_upload() {
    let world = World::new().await;
    let client = world.client().await;
    world.line.away.store(true, Ordering::Relaxed);

    let upload = client.post("/api/uploads", json!({"filename": "a.txt"})).await.is(202);
    let path = format!("/api/uploads/{}/callback", upload.upload()["id"].as_str().unwrap());

    let reply = client.post(&path, Value::Null).await;
    assert_eq!((reply.status.as_u16(), reply.slug()), (503, "unavailable_error"));
}

#[tokio::test]
async fn a_silent_queue_keeps_a_client_no_longer_than_the_wait() {
    let world = World::with(Limits::default(), Settings { wait: Duration::ZERO, ..Settings::default() }).await;
    let client = world.client().await;
    world.line.silent.send_replace(true);

    let reply = tokio::time::timeout(Duration::from_secs(4), client.post("/api/uploads", json!({"filename": "a.txt"})));

    assert_eq!(reply.await.expect("it is answered").is(202).upload()["status"], "requested");
}

#[tokio::test]
async fn a_panic_is_answered_and_tells_nothing() {
    use axum::routing::get;

    let beside = axum::Router::new().route("/boom", get(async || -> &'static str { panic!("secret internals") }));
    let mut world = World::new().await;
    let state = Http::new(world.ctx.clone(), Settings::default(), world.operations());
    world.app = router(state, beside);

    let reply = Client { token: None, world: &world }.get("/boom").await;

    assert_eq!((reply.status.as_u16(), reply.slug()), (500, "internal_error"));
    assert!(!reply.text.contains("secret"));
    assert!(!reply.header("x-request-id").is_empty());
}
