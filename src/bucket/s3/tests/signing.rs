//! Where forms go and what is in them; nothing here needs a server.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_jobs::model::policy::Place;
use longshore_jobs::model::policy::document::Policy;
use longshore_jobs::testkit::HandClock;
use uuid::Uuid;

use super::*;

/// Opened on a port where nobody listens: that must not matter.
async fn nowhere(options: Options) -> S3Bucket {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    S3Bucket::open(Options { endpoint: Some(endpoint), ..options }).await.unwrap()
}

fn url(text: &str) -> Option<Url> {
    Some(text.parse().unwrap())
}

fn terms(expires_at: Timestamp) -> PolicyTerms {
    PolicyTerms {
        place: Place::Key("staging/o/u/r".to_owned(), Uuid::nil()),
        min_size: 0,
        max_size: 10,
        content_type: None,
        sha256: None,
        traceparent: None,
        expires_at,
    }
}

#[tokio::test]
async fn forms_go_where_the_bucket_is_reached_from_outside() {
    let plain = || options("bucket", credentials());
    let tokyo = Options { region: Some("ap-northeast-1".to_owned()), ..plain() };
    for (options, expected) in [
        (
            Options { public_endpoint: url("http://s3.example:9000"), path_style: true, ..plain() },
            "http://s3.example:9000/bucket",
        ),
        (
            Options { public_endpoint: url("https://s3.example/"), path_style: true, ..plain() },
            "https://s3.example/bucket",
        ),
        (
            Options { public_endpoint: url("https://example/s3/"), path_style: true, ..plain() },
            "https://example/s3/bucket",
        ),
        (Options { public_endpoint: url("http://s3.example:9000"), ..plain() }, "http://bucket.s3.example:9000/"),
        (Options { public_endpoint: url("https://127.0.0.1:9000"), ..plain() }, "https://127.0.0.1:9000/bucket"),
        (
            Options { public_endpoint: url("https://s3.ap-northeast-1.amazonaws.com"), ..tokyo },
            "https://bucket.s3.ap-northeast-1.amazonaws.com/",
        ),
    ] {
        let bucket = nowhere(options).await;
        let form = bucket.sign(terms(Timestamp::system_now() + Duration::from_secs(600))).await.unwrap();
        assert_eq!((form.url.as_str(), bucket.address().url.as_str()), (expected, expected));
    }
}

#[tokio::test]
async fn without_endpoints_forms_go_to_aws() {
    for (name, region, expected) in [
        ("bucket", "eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com/"),
        ("a.bucket", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/a.bucket"),
        ("bucket", "cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn/"),
    ] {
        let options = Options { region: Some(region.to_owned()), ..options(name, credentials()) };
        let shared = aws::load(options.region.clone()).await.into_builder();
        let shared = shared.credentials_provider(SharedCredentialsProvider::new(credentials())).build();
        assert_eq!(form_url(&client_for_others(&shared, &options), name).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_session_token_is_in_the_form_and_in_the_policy_and_ends_it() {
    let clock = Arc::new(HandClock::default());
    let (now, life) = (clock.now(), Duration::from_secs(600));
    let ends: SystemTime = UNIX_EPOCH + now.since(Timestamp::default()) + life;
    let borrowed = Credentials::new("KEY", "secret", Some("tok/en+".to_owned()), Some(ends), "test");
    let bucket = nowhere(Options { clock: clock.clone(), ..options("bucket", borrowed) }).await;

    let form = bucket.sign(terms(now + 10 * life)).await.unwrap();

    let end = now + life - Duration::from_secs(30);
    let policy = STANDARD.decode(&form.fields["policy"]).unwrap();
    assert_eq!((form.expires_at, Policy::parse(&policy).unwrap().expiration), (end, end));
    assert_eq!(form.fields["x-amz-security-token"], "tok/en+");
    assert!(String::from_utf8(policy).unwrap().contains(r#"{"x-amz-security-token":"tok/en+"}"#));
    assert_eq!(bucket.address().access_key_id, "KEY");
}

#[tokio::test]
async fn a_policy_that_would_be_dead_on_arrival_is_an_error() {
    let clock = Arc::new(HandClock::default());
    let ends = UNIX_EPOCH + clock.now().since(Timestamp::default()) + Duration::from_secs(80);
    let ending = Credentials::new("KEY", "secret", None, Some(ends), "test");
    let bucket = nowhere(Options { clock: clock.clone(), ..options("bucket", ending) }).await;

    let refused = bucket.sign(terms(clock.now() + Duration::from_secs(600))).await;

    assert!(matches!(refused, Err(BucketError::Failed { op: "sign", .. })));
    assert!(bucket.sign(terms(clock.now() + Duration::from_secs(40))).await.is_ok(), "this one is not cut");
}

#[tokio::test]
async fn a_presigned_url_goes_to_the_public_endpoint_and_asks_for_no_headers() {
    let public_endpoint = url("https://s3.example");
    let options = Options { public_endpoint, checksums: Checksums::WhenSupported, ..options("bucket", credentials()) };
    let bucket = nowhere(options).await;

    let signed = bucket.presign_get("blobs/a b", "наряд \"1\".png", Duration::from_secs(60)).await.unwrap();

    let signed: Url = signed.parse().unwrap();
    let value = |name: &str| signed.query_pairs().find(|(given, _)| given == name).unwrap().1.into_owned();
    assert_eq!((signed.host_str(), signed.path()), (Some("bucket.s3.example"), "/blobs/a%20b"));
    assert_eq!((value("X-Amz-SignedHeaders"), value("X-Amz-Expires")), ("host".to_owned(), "60".to_owned()));
    assert_eq!(value("response-content-disposition"), attachment("наряд \"1\".png"));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_or_elsewhere_is_not_opened() {
    let missing = Server::start(Vec::new(), |_| Act::Refuse(404, "NoSuchBucket")).await;
    let elsewhere = Server::start(Vec::new(), |_| Act::Redirect("eu-west-1")).await;
    let forbidden = Server::start(Vec::new(), |_| Act::Refuse(403, "AccessDenied")).await;
    let at = |server: &Server| Options {
        endpoint: Some(server.url.clone()),
        path_style: true,
        ..options("b", credentials())
    };

    assert!(matches!(S3Bucket::open(at(&missing)).await, Err(OpenError::NoSuchBucket { .. })));
    let Err(OpenError::OtherRegion { found, configured, .. }) = S3Bucket::open(at(&elsewhere)).await else {
        panic!("it was opened in another region")
    };
    assert_eq!((found.as_str(), configured.as_str()), ("eu-west-1", "us-east-1"));
    assert!(S3Bucket::open(at(&forbidden)).await.is_ok());
}
