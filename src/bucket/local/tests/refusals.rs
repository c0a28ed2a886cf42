//! Forms that are refused. Each says why, and leaves no row, no data file and no half-written one.

use longshore_jobs::model::sigv4::Scope;

use super::*;

/// Posts a form that was bent, and expects S3's code for it and nothing stored.
async fn refused(code: &str, bend: impl AsyncFnOnce(&Rig) -> Form) {
    let mut rig = Rig::new().await;

    let form = bend(&rig).await;
    let answer = rig.post(form).await;

    assert_eq!(answer.code(), code, "{} {}", answer.status, answer.text());
    assert!(answer.status.is_client_error(), "{}", answer.status);
    rig.assert_nothing_stored().await;
}

/// A test per line: its name, S3's code, and how the good form is bent.
macro_rules! refused {
    ($($name:ident: $code:literal, $bend:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            refused($code, async |rig: &Rig| {
                let mut form = rig.form(rig.terms(), b"the bytes").await;
                let bend: fn(&mut Form) = $bend;
                bend(&mut form);
                form
            })
            .await;
        }
    )+};
}

refused! {
    no_signature: "AccessDenied", |form| form.remove("x-amz-signature");
    a_wrong_signature: "SignatureDoesNotMatch", |form| form.set("x-amz-signature", &"0".repeat(64));
    no_policy: "AccessDenied", |form| form.remove("policy");
    an_altered_policy: "SignatureDoesNotMatch", |form| form.replace("policy", "e", "f");
    no_algorithm: "AccessDenied", |form| form.remove("x-amz-algorithm");
    no_credential: "AccessDenied", |form| form.remove("x-amz-credential");
    no_date: "AccessDenied", |form| form.remove("x-amz-date");
    an_unknown_access_key: "InvalidAccessKeyId", |form| form.replace("x-amz-credential", "LOCAL", "NOBODY");
    another_region: "AccessDenied", |form| form.replace("x-amz-credential", "/local/", "/us-east-1/");
    another_service: "AccessDenied", |form| form.replace("x-amz-credential", "/s3/", "/sqs/");
    another_day_in_the_credential: "AccessDenied", |form| form.replace("x-amz-credential", "/20260101/", "/20260102/");
    another_date: "AccessDenied", |form| form.replace("x-amz-date", "20260101", "20260102");
    a_session_token_that_is_none: "InvalidToken", |form| form.add_first("x-amz-security-token", "stray");
    another_key: "AccessDenied", |form| form.set("key", "staging/o/u/other");
    a_key_that_climbs: "AccessDenied", |form| form.set("key", "../../../etc/passwd");
    no_key: "AccessDenied", |form| form.remove("key");
    another_type: "AccessDenied", |form| form.set("Content-Type", "text/html");
    no_type: "AccessDenied", |form| form.remove("Content-Type");
    other_metadata: "AccessDenied", |form| form.set("x-amz-meta-upload-id", "another");
    no_metadata: "AccessDenied", |form| form.remove("x-amz-meta-upload-id");
    another_success_status: "AccessDenied", |form| form.set("success_action_status", "200");
    no_success_status: "AccessDenied", |form| form.remove("success_action_status");
    an_unsigned_field: "AccessDenied", |form| form.add_first("acl", "public-read");
    unsigned_metadata: "AccessDenied", |form| form.add_first("x-amz-meta-more", "x");
    an_unsigned_checksum: "AccessDenied", |form| form.add_first("x-amz-checksum-sha256", "x");
    a_doubled_field: "InvalidArgument", |form| form.add_first("key", "staging/o/u/r");
    another_bucket_in_a_field: "AccessDenied", |form| form.add_first("bucket", "another");
    another_bucket_in_the_path: "NoSuchBucket", |form| form.path = "/bucket/another".to_owned();
    no_file: "InvalidArgument", |form| form.remove("file");
    a_file_before_other_fields: "AccessDenied", |form| form.parts.rotate_right(1);
    a_field_behind_the_file: "InvalidArgument", |form| form.add_last("x-ignore-late", "x");
    two_files: "InvalidArgument", |form| form.add_last("file", "the second");
    fields_of_more_than_20_kilobytes: "MaxPostPreDataLengthExceeded", |form| {
        form.add_first("x-ignore-big", &"x".repeat(20_481));
    };
    more_than_a_hundred_fields: "MaxPostPreDataLengthExceeded", |form| {
        (0..101).for_each(|n| form.add_first(&format!("f{n}"), ""));
    };
    a_value_that_is_no_text: "InvalidArgument", |form| form.parts.insert(0, ("x-ignore-raw".to_owned(), vec![0xff]));
    no_boundary_in_the_header: "MalformedPOSTRequest", |form| form.boundary = None;
    another_boundary: "MalformedPOSTRequest", |form| form.boundary = Some("another");
    a_form_that_breaks_off_in_the_file: "MalformedPOSTRequest", |form| form.cut = 40;
    a_form_that_breaks_off_at_its_last_boundary: "MalformedPOSTRequest", |form| form.cut = 4;
    a_form_that_breaks_off_in_the_fields: "MalformedPOSTRequest", |form| form.cut = form.body().len() - 300;
    an_empty_form: "MalformedPOSTRequest", |form| form.cut = form.body().len();
}

#[tokio::test]
async fn a_form_signed_with_another_secret() {
    refused("SignatureDoesNotMatch", async |rig| {
        let credentials = Credentials { secret_access_key: "a guess".to_owned(), ..rig.bucket.credentials.clone() };
        let signer = Signer { credentials: &credentials, ..rig.bucket.signer() };
        let mut form = rig.form(rig.terms(), b"the bytes").await;
        form.set("x-amz-signature", &policy::sign(&rig.terms(), "longshore", &signer)["x-amz-signature"]);
        form
    })
    .await;
}

#[tokio::test]
async fn a_form_signed_for_another_bucket() {
    refused("AccessDenied", async |rig| {
        let fields = policy::sign(&rig.terms(), "another", &rig.bucket.signer());
        let mut form = rig.form(rig.terms(), b"the bytes").await;
        fields.iter().for_each(|(name, value)| form.set(name, value));
        form
    })
    .await;
}

#[tokio::test]
async fn an_expired_policy() {
    refused("AccessDenied", async |rig| {
        let form = rig.form(rig.terms(), b"the bytes").await;
        rig.clock.advance(Duration::from_secs(900));
        form
    })
    .await;
}

#[tokio::test]
async fn a_policy_from_the_future() {
    refused("AccessDenied", async |rig| {
        let form = rig.form(rig.terms(), b"the bytes").await;
        rig.clock.set(rig.clock.now() - Duration::from_secs(3600));
        form
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_is_signed_but_makes_no_sense() {
    refused("InvalidPolicyDocument", async |rig| {
        let (signer, nonsense) = (rig.bucket.signer(), "bm8gcG9saWN5");
        let scope: Scope = signer.scope();
        let mut form = rig.form(rig.terms(), b"the bytes").await;
        form.set("policy", nonsense);
        form.set("x-amz-signature", &signer.sign(&scope, nonsense));
        form
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_too_small() {
    for file in [b"".as_slice(), b"x"] {
        refused("EntityTooSmall", async |rig| rig.form(rig.terms(), file).await).await;
    }
    let file = vec![7; 2_000_000];
    refused("EntityTooSmall", async |rig| rig.form(PolicyTerms { min_size: 2_000_001, ..rig.terms() }, &file).await)
        .await;
}

#[tokio::test]
async fn a_file_that_is_too_large() {
    for (size, max_size) in [(6, 5), (300_000, 299_999), (3_000_000, 2_000_000)] {
        let file = vec![7; size];
        refused("EntityTooLarge", async |rig| rig.form(PolicyTerms { max_size, ..rig.terms() }, &file).await).await;
    }
}

#[tokio::test]
async fn bytes_that_hash_to_something_else_than_declared() {
    for size in [9, 1_000_000] {
        let file = vec![7; size];
        let sha256 = Some(Digest::of(b"other bytes"));
        refused("BadDigest", async |rig| rig.form(PolicyTerms { sha256, ..rig.terms() }, &file).await).await;
    }
}

#[tokio::test]
async fn a_checksum_other_than_the_signed_one() {
    refused("AccessDenied", async |rig| {
        let terms = PolicyTerms { sha256: Some(Digest::of(b"declared")), ..rig.terms() };
        let mut form = rig.form(terms, b"the bytes").await;
        form.set("x-amz-checksum-sha256", &Digest::of(b"the bytes").to_base64());
        form
    })
    .await;
}

#[tokio::test]
async fn a_large_form_that_is_bent_at_its_end() {
    let file = vec![7; 2_000_000];
    refused("MalformedPOSTRequest", async |rig| Form { cut: 4, ..rig.form(rig.terms(), &file).await }).await;
    refused("InvalidArgument", async |rig| {
        let mut form = rig.form(rig.terms(), &file).await;
        form.add_last("late", "x");
        form
    })
    .await;
}

#[tokio::test]
async fn a_sender_that_goes_away() {
    let mut rig = Rig::new().await;
    let form = rig.form(rig.terms(), &vec![7; 2_000_000]).await;
    let (head, _) = form.request().into_parts();
    let pieces: Vec<_> = form.body().chunks(50_000).take(30).map(Bytes::copy_from_slice).map(Ok).collect();
    let gone = [Err(io::Error::from(io::ErrorKind::ConnectionReset))];
    let body = Body::from_stream(futures_util::stream::iter(pieces.into_iter().chain(gone)));

    let answer = rig.send(Request::from_parts(head, body)).await;

    assert_eq!(answer.code(), "MalformedPOSTRequest");
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_sender_that_falls_silent() {
    let mut rig = Rig::new().await;
    let form = rig.form(rig.terms(), &vec![7; 2_000_000]).await;
    let (head, _) = form.request().into_parts();
    let piece = Ok::<_, io::Error>(Bytes::from(form.body()[..1_500_000].to_vec()));
    let body = Body::from_stream(futures_util::stream::iter([piece]).chain(futures_util::stream::pending()));

    let answer = rig.send(Request::from_parts(head, body)).await;

    assert_eq!(answer.code(), "RequestTimeout");
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_sender_that_drips_its_fields() {
    let mut rig = Rig::new().await;
    let (head, _) = rig.form(rig.terms(), b"bytes").await.request().into_parts();
    let start = format!("--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"key\"\r\n\r\n");
    // Each of them is well within the time that a sender may pause.
    let drops = futures_util::stream::repeat(Bytes::from("x")).then(async |byte| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        byte
    });
    let body = futures_util::stream::iter([Bytes::from(start)]).chain(drops).map(Ok::<_, io::Error>);

    let answer = rig.send(Request::from_parts(head, Body::from_stream(Box::pin(body)))).await;

    assert_eq!(answer.code(), "RequestTimeout");
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_body_that_is_given_up_outside() {
    let mut rig = Rig::new().await;
    let form = rig.form(rig.terms(), &vec![7; 2_000_000]).await;
    let (head, _) = form.request().into_parts();
    let piece = Ok(Bytes::from(form.body()[..1_500_000].to_vec()));
    let silent = Err(io::Error::from(io::ErrorKind::TimedOut));

    let answer =
        rig.send(Request::from_parts(head, Body::from_stream(futures_util::stream::iter([piece, silent])))).await;

    assert_eq!(answer.code(), "RequestTimeout");
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_header_without_end_is_cut_off() {
    let mut rig = Rig::new().await;
    let start = Bytes::from(format!("--{BOUNDARY}\r\nX-Endless: "));
    let endless = futures_util::stream::repeat(Bytes::from(vec![b'x'; 8192]));
    let body = futures_util::stream::iter([start]).chain(endless).map(Ok::<_, io::Error>);
    let (head, _) = rig.form(rig.terms(), b"").await.request().into_parts();

    let answer = rig.send(Request::from_parts(head, Body::from_stream(body))).await;

    assert_eq!(answer.code(), "MaxPostPreDataLengthExceeded");
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_body_that_is_no_form() {
    let mut rig = Rig::new().await;
    for kind in ["application/json", "multipart/mixed; boundary=x", "nonsense", ""] {
        let request = Request::post("/bucket/longshore").header("content-type", kind).body(Body::from("{}")).unwrap();
        assert_eq!(rig.send(request).await.code(), "MalformedPOSTRequest", "{kind}");
    }
    rig.assert_nothing_stored().await;
}

#[tokio::test]
async fn a_refused_post_leaves_the_object_that_was_there() {
    let mut rig = Rig::new().await;
    rig.posted(rig.terms(), b"before").await;
    let before = rig.bucket.head("staging/o/u/r").await.unwrap();
    let large = rig.form(PolicyTerms { max_size: 5, ..rig.terms() }, b"too large").await;

    assert_eq!(rig.post(large).await.code(), "EntityTooLarge");

    assert_eq!(rig.bucket.head("staging/o/u/r").await.unwrap(), before);
    assert_eq!((rig.data_files(), rig.tmp_files()), (1, 0));
}

/// What is logged at `info` and above while a form is posted and refused.
async fn told(form: Form, rig: &Rig) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let lines = tracing_subscriber::fmt().with_writer(Arc::new(log.reopen().unwrap())).with_ansi(false).without_time();
    let logging = tracing::subscriber::set_default(lines.with_max_level(tracing::Level::INFO).finish());
    assert!(rig.post(form).await.status.is_client_error());
    drop(logging);
    fs::read_to_string(log.path()).unwrap()
}

#[tokio::test]
async fn the_operator_is_told_what_was_refused_and_no_secret() {
    let rig = Rig::new().await;
    let trace = longshore_jobs::model::TraceParent::begin();
    let terms = || PolicyTerms { max_size: 5, traceparent: Some(trace), ..rig.terms() };
    let signature = |form: &Form| {
        let part = form.parts.iter().find(|(name, _)| name == "x-amz-signature").unwrap();
        String::from_utf8(part.1.clone()).unwrap()
    };
    for (bytes, code) in [(&b"too many bytes"[..], "EntityTooLarge"), (b"x", "EntityTooSmall")] {
        let form = rig.form(terms(), bytes).await;
        let secret = signature(&form);
        let told = told(form, &rig).await;
        assert_eq!(told.lines().count(), 1, "{told}");
        let (upload, trace) = (format!("upload={}", Uuid::nil()), format!("trace={}", trace.trace_id()));
        for part in ["INFO", &upload, &trace, &format!("code=\"{code}\"")] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        assert!(!told.contains(&secret), "{told}");
    }
}

#[tokio::test]
async fn what_a_stranger_writes_fills_no_log() {
    let rig = Rig::new().await;
    let mut form = rig.form(rig.terms(), b"bytes").await;
    form.set("x-amz-meta-upload-id", "no id\nERROR forged");
    form.set("key", &format!("staging/{}\nERROR forged", "k".repeat(900)));
    let told = told(form, &rig).await;
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.len() < 700 && told.contains("code=\"AccessDenied\""), "{told}");

    let mut form = rig.form(rig.terms(), b"bytes").await;
    form.remove("x-amz-meta-upload-id");
    form.set("key", "of/others");
    assert_eq!(self::told(form, &rig).await, "");
}
