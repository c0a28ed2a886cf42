//! Presigned GET and HEAD, and CORS.

use super::*;

const LIFE: Duration = Duration::from_secs(60);

impl Rig {
    async fn with_object() -> (Self, String) {
        let rig = Self::new().await;
        rig.bucket.put("blobs/a ü", Some("text/html"), chunks(b"0123456789")).await.unwrap();
        let url = rig.bucket.presign_get("blobs/a ü", "résumé \"1\".html", LIFE).await.unwrap();
        (rig, url)
    }

    async fn get(&self, url: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask("GET", url, headers).await
    }

    async fn ask(&self, method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
        let path = url.strip_prefix("http://127.0.0.1:8080").unwrap();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }
}

#[tokio::test]
async fn a_presigned_url_gives_the_object_as_an_attachment() {
    let (rig, url) = Rig::with_object().await;

    let answer = rig.get(&url, &[]).await;

    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "0123456789"), "{}", answer.text());
    let etag = rig.bucket.head("blobs/a ü").await.unwrap().unwrap().etag;
    for (name, value) in [
        ("content-type", "text/html"),
        ("content-length", "10"),
        (
            "content-disposition",
            "attachment; filename=\"r_sum_ _1_.html\"; filename*=UTF-8''r%C3%A9sum%C3%A9%20%221%22.html",
        ),
        ("accept-ranges", "bytes"),
        ("etag", &format!("\"{etag}\"")),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
        ("access-control-allow-origin", "*"),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_range_is_served_as_part_of_the_whole() {
    let (rig, url) = Rig::with_object().await;
    for (range, text, content_range) in
        [("bytes=0-3", "0123", "bytes 0-3/10"), ("bytes=8-", "89", "bytes 8-9/10"), ("bytes=-1", "9", "bytes 9-9/10")]
    {
        let answer = rig.get(&url, &[("range", range)]).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::PARTIAL_CONTENT, text));
        assert_eq!(answer.header("content-range"), content_range);
        assert_eq!(answer.header("content-length"), text.len().to_string());
    }
    let answer = rig.get(&url, &[("range", "bytes=10-")]).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange"));
    assert_eq!(answer.header("content-range"), "bytes */10");
}

#[tokio::test]
async fn conditions_pin_a_version() {
    let (rig, url) = Rig::with_object().await;
    let etag = format!("\"{}\"", rig.bucket.head("blobs/a ü").await.unwrap().unwrap().etag);
    for (name, value, status) in [
        ("if-match", etag.as_str(), StatusCode::OK),
        ("if-match", "*", StatusCode::OK),
        ("if-match", "\"other\"", StatusCode::PRECONDITION_FAILED),
        ("if-none-match", &etag, StatusCode::NOT_MODIFIED),
        ("if-none-match", "\"other\"", StatusCode::OK),
    ] {
        assert_eq!(rig.get(&url, &[(name, value)]).await.status, status, "{name}: {value}");
    }
    let stale = rig.get(&url, &[("range", "bytes=0-3"), ("if-range", "\"other\"")]).await;
    assert_eq!((stale.status, stale.text().as_str()), (StatusCode::OK, "0123456789"));
}

#[tokio::test]
async fn an_empty_object_is_served() {
    let rig = Rig::new().await;
    rig.bucket.put("empty", None, chunks(b"")).await.unwrap();
    let url = rig.bucket.presign_get("empty", "e", LIFE).await.unwrap();
    let answer = rig.get(&url, &[]).await;
    assert_eq!((answer.status, answer.header("content-length")), (StatusCode::OK, "0"));
    assert_eq!(answer.header("content-type"), "application/octet-stream");
}

#[tokio::test]
async fn head_has_a_signature_of_its_own_and_no_body() {
    let (rig, get_url) = Rig::with_object().await;
    let (host, path) = rig.bucket.place("blobs/a ü");
    let request = longshore_jobs::model::sigv4::Request { method: "HEAD", host: &host, path: &path, query: Vec::new() };
    let url = format!("{}?{}", rig.bucket.url_of("blobs/a ü"), rig.bucket.signer().presign(request, LIFE));

    let answer = rig.ask("HEAD", &url, &[]).await;

    assert_eq!((answer.status, answer.header("content-length")), (StatusCode::OK, "10"));
    assert_eq!(answer.header("content-disposition"), "attachment");
    assert!(answer.body.is_empty());
    assert_eq!(rig.get(&url, &[]).await.code(), "SignatureDoesNotMatch");
    assert_eq!(rig.ask("HEAD", &get_url, &[]).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn metadata_that_was_posted_is_told() {
    let mut rig = Rig::new().await;
    rig.posted(rig.terms(), b"bytes").await;
    let url = rig.bucket.presign_get("staging/o/u/r", "f", LIFE).await.unwrap();
    let answer = rig.get(&url, &[]).await;
    assert_eq!(answer.header("x-amz-meta-upload-id"), Uuid::nil().to_string());
}

#[tokio::test]
async fn without_a_good_signature_nothing_is_told() {
    let (rig, url) = Rig::with_object().await;
    let bare = url.split('?').next().unwrap();
    for (asked, code) in [
        (bare.to_owned(), "AccessDenied"),
        (url.replace("blobs/a", "blobs/b"), "SignatureDoesNotMatch"),
        (url.replace("attachment", "inline"), "SignatureDoesNotMatch"),
        (url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"), "SignatureDoesNotMatch"),
        (url.replace("=LOCAL", "=NOBODY"), "InvalidAccessKeyId"),
        (url.replace("%2Flocal%2F", "%2Fus-east-1%2F"), "AccessDenied"),
        (url.replace("/longshore/", "/another/"), "NoSuchBucket"),
        (format!("{url}&X-Amz-Date=20260101T000000Z"), "AccessDenied"),
        (format!("{url}&%FF=x"), "InvalidURI"),
    ] {
        let answer = rig.get(&asked, &[]).await;
        assert_eq!(answer.code(), code, "{asked}");
        assert!(answer.status.is_client_error());
    }
    rig.clock.advance(LIFE + Duration::from_secs(1));
    assert_eq!(rig.get(&url, &[]).await.code(), "AccessDenied");
}

#[tokio::test]
async fn what_is_gone_is_not_found_by_a_good_url() {
    let (rig, url) = Rig::with_object().await;
    rig.bucket.delete(&["blobs/a ü".to_owned()]).await.unwrap();
    let answer = rig.get(&url, &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "NoSuchKey"));
}

#[tokio::test]
async fn a_browser_may_post_and_read_from_anywhere() {
    let rig = Rig::new().await;
    let asked = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type"),
    ];
    let answer = rig.ask("OPTIONS", "http://127.0.0.1:8080/bucket/longshore", &asked).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-methods"), "GET, HEAD, POST");
    assert_eq!(answer.header("access-control-allow-headers"), "content-type");
    assert!(answer.header("access-control-expose-headers").contains("ETag, Location"));
}

#[tokio::test]
async fn what_is_not_offered_is_answered_in_s3s_words() {
    let rig = Rig::new().await;
    for (method, path, code) in [
        ("PUT", "/bucket/longshore/key", "MethodNotAllowed"),
        ("DELETE", "/bucket/longshore/key", "MethodNotAllowed"),
        ("GET", "/bucket/longshore", "MethodNotAllowed"),
        ("GET", "/bucket/longshore/%FF", "InvalidURI"),
    ] {
        let answer = rig.ask(method, &format!("http://127.0.0.1:8080{path}"), &[]).await;
        assert_eq!(answer.code(), code, "{method} {path} {}", answer.status);
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
}
