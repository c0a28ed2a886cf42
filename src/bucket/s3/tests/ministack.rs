//! The bucket on MiniStack: the contract, and the forms it takes and refuses.
//!
//! Servers differ in the code of a refusal, so these tests ask whether something is stored and never how it is said.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_jobs::model::TraceParent;
use longshore_jobs::model::policy::Place;
use longshore_jobs::testkit::contract;
use reqwest::multipart::{Form, Part};
use uuid::Uuid;

use super::*;

/// A bucket of the test's own on the server for tests; `None` where there is none.
async fn fresh(checksums: Checksums) -> Option<S3Bucket> {
    let endpoint = given("LONGSHORE_TEST_AWS", "the bucket on S3")?;
    let name = format!("longshore-{}", Uuid::new_v4());
    let endpoint = Some(endpoint.parse().unwrap());
    let options = Options { endpoint, path_style: true, checksums, ..options(&name, credentials()) };
    assert!(matches!(S3Bucket::open(options.clone()).await, Err(OpenError::NoSuchBucket { .. })));
    let shared = aws::load(options.region.clone()).await.into_builder();
    let shared = shared.credentials_provider(SharedCredentialsProvider::new(credentials())).build();
    client(&shared, &options, options.endpoint.as_ref()).create_bucket().bucket(&name).send().await.unwrap();
    Some(S3Bucket::open(options).await.unwrap())
}

#[tokio::test]
async fn the_contract_holds() {
    for checksums in [Checksums::WhenRequired, Checksums::WhenSupported] {
        let Some(bucket) = fresh(checksums).await else { return };
        contract::bucket(&bucket).await;
    }
}

fn terms() -> PolicyTerms {
    PolicyTerms {
        place: Place::Key("staging/o/u/r".to_owned(), Uuid::nil()),
        min_size: 2,
        max_size: 10,
        content_type: Some("text/plain".to_owned()),
        sha256: Some(Digest::of(b"accepted")),
        traceparent: Some(TraceParent::begin()),
        expires_at: Timestamp::system_now() + Duration::from_secs(600),
    }
}

async fn post(policy: &PostPolicy, file: &'static [u8]) -> u16 {
    let mut form = Form::new();
    for (name, value) in policy.fields.clone() {
        form = form.text(name, value);
    }
    let form = form.part("file", Part::bytes(file));
    browser().post(&policy.url).multipart(form).send().await.unwrap().status().as_u16()
}

/// Knows no credentials.
fn browser() -> reqwest::Client {
    crate::client::choose_cryptography();
    reqwest::Client::new()
}

#[tokio::test]
async fn a_form_is_taken_as_its_policy_says() {
    let Some(bucket) = fresh(Checksums::WhenRequired).await else { return };

    let policy = bucket.sign(terms()).await.unwrap();
    assert_eq!(post(&policy, b"accepted").await, 201);

    let head = bucket.head("staging/o/u/r").await.unwrap().unwrap();
    assert_eq!((head.size, head.content_type.as_deref()), (8, Some("text/plain")));
    assert_eq!(whole(bucket.read(&head).await.unwrap()).await.unwrap(), b"accepted");
}

#[tokio::test]
async fn a_form_that_differs_from_its_policy_stores_nothing() {
    let Some(bucket) = fresh(Checksums::WhenRequired).await else { return };
    let good = bucket.sign(terms()).await.unwrap();
    let with = |name: &str, value: &str| {
        let mut policy = good.clone();
        policy.fields.insert(name.to_owned(), value.to_owned()).expect("the form has the field");
        policy
    };
    let without = |name: &str| {
        let mut policy = good.clone();
        policy.fields.remove(name).expect("the form has the field");
        policy
    };
    let wider = STANDARD.decode(&good.fields["policy"]).unwrap();
    let wider =
        String::from_utf8(wider).unwrap().replace("\"content-length-range\",2,10", "\"content-length-range\",2,99");
    let past = PolicyTerms { expires_at: Timestamp::system_now() - Duration::from_secs(1), ..terms() };
    let mut cases = vec![
        ("another key", with("key", "staging/o/u/x"), &b"accepted"[..]),
        ("a key above", with("key", "blobs/o/u/r"), b"accepted"),
        ("another type", with("Content-Type", "text/html"), b"accepted"),
        ("another upload", with("x-amz-meta-upload-id", "x"), b"accepted"),
        ("one byte too many", good.clone(), b"too large!!"),
        ("one byte too few", good.clone(), b"1"),
        ("an altered signature", with("x-amz-signature", &"0".repeat(64)), b"accepted"),
        ("an altered policy", with("policy", &STANDARD.encode(wider)), b"accepted"),
        ("another day", with("x-amz-date", "20200101T000000Z"), b"accepted"),
        ("a policy of the past", bucket.sign(past).await.unwrap(), b"accepted"),
    ];
    for name in ["key", "policy", "x-amz-signature", "x-amz-credential", "x-amz-date", "x-amz-meta-upload-id"] {
        cases.push((name, without(name), b"accepted"));
    }
    for (what, policy, file) in cases {
        let status = post(&policy, file).await;

        assert!((400..500).contains(&status), "{what}: {status}");
        assert!(bucket.list("", None).await.unwrap().objects.is_empty(), "{what} was stored");
    }
    assert_eq!(post(&good, b"accepted").await, 201, "the policy itself is good");
}

#[tokio::test]
async fn a_form_signed_by_somebody_else_stores_nothing() {
    let Some(bucket) = fresh(Checksums::WhenRequired).await else { return };
    for (key, secret) in [("test", "guessed"), ("AKIANOBODY0000000000", "guessed")] {
        let credentials = policy::Credentials {
            access_key_id: key.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: None,
        };
        let signer = Signer { credentials: &credentials, region: &bucket.region, now: Timestamp::system_now() };
        let fields = policy::sign(&terms(), &bucket.name, &signer);
        let forged = PostPolicy { url: bucket.form_url.clone(), fields, expires_at: terms().expires_at };

        let status = post(&forged, b"accepted").await;

        assert!((400..500).contains(&status), "{key}: {status}");
        assert!(bucket.list("", None).await.unwrap().objects.is_empty());
    }
}

#[tokio::test]
async fn a_presigned_url_gives_the_object_as_an_attachment_and_nothing_else() {
    let Some(bucket) = fresh(Checksums::WhenRequired).await else { return };
    bucket.put("blobs/a b+c%/ü", Some("image/png"), chunks([b"bytes".to_vec()])).await.unwrap();

    let signed = bucket.presign_get("blobs/a b+c%/ü", "наряд.png", Duration::from_secs(60)).await.unwrap();
    let answer = browser().get(&signed).send().await.unwrap();

    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-disposition"], attachment("наряд.png"));
    assert_eq!(answer.bytes().await.unwrap(), "bytes");
    let touched = signed.replace("X-Amz-Expires=60", "X-Amz-Expires=61");
    assert!(browser().get(touched).send().await.unwrap().status().is_client_error());
}

/// Posts one file under a policy for many, its key spelled out.
async fn post_at(policy: &PostPolicy, key: &str) -> u16 {
    let mut policy = policy.clone();
    policy.fields.insert("key".to_owned(), key.to_owned());
    post(&policy, b"accepted").await
}

#[tokio::test]
async fn a_policy_for_many_files_takes_any_key_below_its_prefix_and_no_other() {
    let Some(bucket) = fresh(Checksums::WhenRequired).await else { return };
    let place = Place::Prefix("staging/o/batch/b/".to_owned(), Uuid::nil());
    let policy = bucket.sign(PolicyTerms { place, content_type: None, sha256: None, ..terms() }).await.unwrap();
    let keys = ["staging/o/batch/b/a.txt", "staging/o/batch/b/наряд/a b+c%.txt"];

    for key in keys {
        assert_eq!(post_at(&policy, key).await, 201, "{key}");
    }
    for key in ["staging/o/batch/c/a.txt", "staging/o/batch/", "blobs/o/a"] {
        let status = post_at(&policy, key).await;
        assert!((400..500).contains(&status), "{key}: {status}");
    }

    let listed = bucket.list("", None).await.unwrap().objects;
    assert_eq!(listed.iter().map(|head| head.key.as_str()).collect::<Vec<_>>(), keys);
    bucket.delete(&keys.map(str::to_owned)).await.unwrap();
    assert!(bucket.list("", None).await.unwrap().objects.is_empty());
}
