//! Every way in which a form can differ from what was signed.

use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::super::sigv4::tests::example;
use super::super::super::upload::MAX_SIZE;
use super::super::{Credentials, Place, PolicyTerms, sign};
use super::*;
use crate::model::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_451_347_200_000);

fn signer(credentials: &Credentials) -> Signer<'_> {
    Signer { credentials, region: "us-east-1", now: NOW }
}

fn terms() -> PolicyTerms {
    PolicyTerms {
        place: Place::Key("staging/o/u/r".to_owned(), Uuid::nil()),
        min_size: 2,
        max_size: 5,
        content_type: Some("image/png".to_owned()),
        sha256: Some(Digest::of(b"abc")),
        traceparent: None,
        expires_at: NOW + Duration::from_secs(60),
    }
}

fn form(fields: &BTreeMap<String, String>) -> Form {
    let mut form = Form::default();
    for (name, value) in fields {
        form.add(name, value.clone()).unwrap();
    }
    form
}

fn signed() -> BTreeMap<String, String> {
    sign(&terms(), "mine", &signer(&example()))
}

/// A form with this policy and no more fields than its signature needs, signed rightly.
fn signed_document(document: &Value, extra: &[(&str, &str)]) -> BTreeMap<String, String> {
    let (credentials, policy) = (example(), STANDARD.encode(document.to_string()));
    let signer = signer(&credentials);
    let signature = signer.sign(&signer.scope(), &policy);
    let own = [
        ("policy", policy.as_str()),
        ("x-amz-signature", &signature),
        ("x-amz-algorithm", ALGORITHM),
        ("x-amz-credential", &signer.scope().to_string()),
        ("x-amz-date", &NOW.to_amz()),
    ];
    own.iter().chain(extra).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A document with these conditions besides those that every form needs.
fn document(conditions: &[Value]) -> Value {
    let mut all = vec![
        json!({ "bucket": "mine" }),
        json!(["starts-with", "$x-amz-algorithm", ""]),
        json!(["starts-with", "$x-amz-credential", ""]),
        json!(["starts-with", "$x-amz-date", ""]),
    ];
    all.extend_from_slice(conditions);
    json!({ "expiration": "2015-12-30T12:00:00.000Z", "conditions": all })
}

fn judge(fields: &BTreeMap<String, String>) -> Result<Permit, Refusal> {
    admit(&form(fields), "mine", &signer(&example()))
}

fn code(fields: &BTreeMap<String, String>) -> &'static str {
    judge(fields).unwrap_err().code()
}

#[test]
fn what_was_signed_is_admitted() {
    let permit = judge(&signed()).unwrap();

    assert_eq!(permit.key, "staging/o/u/r");
    assert_eq!(permit.content_type.as_deref(), Some("image/png"));
    assert_eq!(permit.metadata["upload-id"], Uuid::nil().to_string());
    assert_eq!(permit.sha256, Some(Digest::of(b"abc")));
    assert_eq!((permit.sizes, permit.success_status), (2..=5, 201));
}

#[test]
fn any_altered_field_is_refused() {
    for name in signed().keys() {
        let mut fields = signed();
        fields.insert(name.clone(), format!("{}x", fields[name]));
        assert!(judge(&fields).is_err(), "{name} was altered");
    }
}

#[test]
fn any_missing_field_is_refused() {
    for name in signed().keys() {
        let mut fields = signed();
        fields.remove(name);
        assert!(judge(&fields).is_err(), "{name} was left out");
    }
}

#[test]
fn a_field_that_was_not_signed_is_refused_but_for_those_to_be_ignored() {
    for name in ["acl", "x-amz-meta-other", "success_action_redirect", "tagging", "x-amz-security-token", "nonsense"] {
        let mut fields = signed();
        fields.insert(name.to_owned(), "x".to_owned());
        assert!(judge(&fields).is_err(), "{name}");
    }
    let mut fields = signed();
    fields.insert("x-ignore-me".to_owned(), "x".to_owned());
    fields.insert("bucket".to_owned(), "mine".to_owned());
    assert!(judge(&fields).is_ok());
}

#[test]
fn refusals_have_the_codes_that_s3_gives() {
    let altered = |name: &str, value: &str| {
        let mut fields = signed();
        fields.insert(name.to_owned(), value.to_owned());
        fields
    };
    let scope = "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request";
    for (name, value, expected) in [
        ("key", "staging/o/u/other", "AccessDenied"),
        ("Content-Type", "text/html", "AccessDenied"),
        ("x-amz-meta-upload-id", "other", "AccessDenied"),
        ("success_action_status", "200", "AccessDenied"),
        ("bucket", "other", "AccessDenied"),
        ("x-amz-signature", &"0".repeat(64), "SignatureDoesNotMatch"),
        ("x-amz-signature", "", "SignatureDoesNotMatch"),
        ("x-amz-signature", "no hex", "SignatureDoesNotMatch"),
        ("policy", "bm9uZQ==", "SignatureDoesNotMatch"),
        ("x-amz-algorithm", "AWS4-HMAC-MD5", "AccessDenied"),
        ("x-amz-credential", "short", "AccessDenied"),
        ("x-amz-credential", &scope.replace("AKIA", "NOBODY"), "InvalidAccessKeyId"),
        ("x-amz-credential", &scope.replace("us-east-1", "eu-west-1"), "AccessDenied"),
        ("x-amz-credential", &scope.replace("/s3/", "/sqs/"), "AccessDenied"),
        ("x-amz-credential", &scope.replace("aws4_request", "aws5_request"), "AccessDenied"),
        ("x-amz-credential", &scope.replace("20151229", "20151230"), "AccessDenied"),
        ("x-amz-date", "20151230T000000Z", "AccessDenied"),
        ("x-amz-date", "yesterday", "AccessDenied"),
        ("x-amz-security-token", "stray", "InvalidToken"),
    ] {
        assert_eq!(code(&altered(name, value)), expected, "{name} = {value}");
    }
}

#[test]
fn another_secret_and_another_bucket_are_refused() {
    let other = Credentials { secret_access_key: "another".to_owned(), ..example() };
    let forged = sign(&terms(), "mine", &signer(&other));
    assert_eq!(code(&forged), "SignatureDoesNotMatch");
    let elsewhere = sign(&terms(), "other", &signer(&example()));
    assert_eq!(code(&elsewhere), "AccessDenied");
}

#[test]
fn a_session_token_must_be_that_of_the_credentials() {
    let borrowed = Credentials { session_token: Some("token".to_owned()), ..example() };
    let mut fields = sign(&terms(), "mine", &signer(&borrowed));
    assert!(admit(&form(&fields), "mine", &signer(&borrowed)).is_ok());
    fields.insert("x-amz-security-token".to_owned(), "other".to_owned());
    assert!(admit(&form(&fields), "mine", &signer(&borrowed)).is_err());
}

#[test]
fn time_is_up_at_the_expiration_and_seven_days_after_signing() {
    let credentials = example();
    let at = |offset: Duration| Signer { now: NOW + offset, ..signer(&credentials) };
    let judged = |terms: &PolicyTerms, offset| {
        let fields = sign(terms, "mine", &at(Duration::ZERO));
        admit(&form(&fields), "mine", &at(offset)).map(|_| ())
    };

    assert_eq!(judged(&terms(), Duration::from_millis(59_999)), Ok(()));
    assert_eq!(judged(&terms(), Duration::from_secs(60)), Err(Refusal::PolicyExpired));
    let long = PolicyTerms { expires_at: NOW + LONGEST_LIFE * 2, ..terms() };
    assert_eq!(judged(&long, LONGEST_LIFE), Ok(()));
    assert_eq!(judged(&long, LONGEST_LIFE + Duration::from_secs(1)), Err(Invalid::Expired.into()));
}

#[test]
fn both_spellings_of_a_condition_and_any_case_of_a_name_count() {
    for (condition, good) in [
        (json!({ "KEY": "a/b" }), true),
        (json!({ "Key": "a/c" }), false),
        (json!(["eq", "$key", "a/b"]), true),
        (json!(["EQ", "$Key", "a/B"]), false),
        (json!(["starts-with", "$key", "a/"]), true),
        (json!(["Starts-With", "$KEY", ""]), true),
        (json!(["starts-with", "$key", "b/"]), false),
        (json!(["starts-with", "$absent", ""]), false),
        (json!({ "absent": "" }), false),
    ] {
        let fields =
            signed_document(&document(&[json!(["starts-with", "$key", ""]), condition.clone()]), &[("kEy", "a/b")]);
        assert_eq!(judge(&fields).is_ok(), good, "{condition}");
    }
}

#[test]
fn size_ranges_narrow_each_other_and_never_pass_what_a_post_can_carry() {
    let key = json!({ "key": "k" });
    let sizes = |ranges: &[Value]| {
        let conditions: Vec<_> = [key.clone()].into_iter().chain(ranges.iter().cloned()).collect();
        judge(&signed_document(&document(&conditions), &[("key", "k")])).map(|permit| permit.sizes)
    };
    assert_eq!(sizes(&[]), Ok(0..=MAX_SIZE));
    assert_eq!(sizes(&[json!(["content-length-range", 1, 10])]), Ok(1..=10));
    assert_eq!(sizes(&[json!(["content-length-range", "1", "10"])]), Ok(1..=10));
    let two = [json!(["content-length-range", 1, 10]), json!(["content-length-range", 0, 7])];
    assert_eq!(sizes(&two), Ok(1..=7));
    assert_eq!(sizes(&[json!(["content-length-range", 0, i64::MAX])]), Ok(0..=MAX_SIZE));
    for broken in [json!([2, 1]), json!([-1, 1]), json!([0, "x"]), json!([0, 1.5]), json!([0])] {
        let mut parts = vec![json!("content-length-range")];
        parts.extend(broken.as_array().unwrap().iter().cloned());
        assert_eq!(sizes(&[Value::Array(parts)]).unwrap_err().code(), "InvalidPolicyDocument", "{broken}");
    }
}

#[test]
fn a_document_that_is_not_understood_is_refused() {
    let with = |condition: Value| json!({ "expiration": "2015-12-30T12:00:00Z", "conditions": [condition] });
    for broken in [
        json!([]),
        json!({}),
        json!({ "conditions": [] }),
        json!({ "expiration": "2015-12-30T12:00:00Z" }),
        json!({ "expiration": "tomorrow", "conditions": [] }),
        json!({ "expiration": 1451476800, "conditions": [] }),
        json!({ "expiration": "2015-12-30T12:00:00Z", "conditions": {} }),
        json!({ "expiration": "2015-12-30T12:00:00Z", "conditions": [], "except": [] }),
        with(json!("key")),
        with(json!({})),
        with(json!({ "key": 7 })),
        with(json!(["eq", "key", "k"])),
        with(json!(["ends-with", "$key", "k"])),
        with(json!(["eq", "$key"])),
        with(json!(["eq", "$key", "k", "k"])),
    ] {
        assert_eq!(code(&signed_document(&broken, &[])), "InvalidPolicyDocument", "{broken}");
    }
}

#[test]
fn a_policy_without_a_bucket_and_a_key_that_will_not_do_store_nothing() {
    let mut no_bucket = document(&[json!({ "key": "k" })]);
    no_bucket["conditions"].as_array_mut().unwrap().remove(0);
    assert_eq!(code(&signed_document(&no_bucket, &[("key", "k")])), "AccessDenied");
    assert_eq!(code(&signed_document(&document(&[]), &[])), "InvalidArgument");
    let any = document(&[json!(["starts-with", "$key", ""])]);
    assert_eq!(code(&signed_document(&any, &[("key", "")])), "InvalidArgument");
    assert_eq!(code(&signed_document(&any, &[("key", &"k".repeat(1025))])), "KeyTooLongError");
    assert_eq!(code(&signed_document(&any, &[("key", "a\0b")])), "InvalidArgument");
}

#[test]
fn only_a_sha256_can_be_declared() {
    let any = |name: &str| json!(["starts-with", format!("${name}"), ""]);
    for (name, value) in [
        ("x-amz-checksum-sha256", "short"),
        ("x-amz-checksum-sha256", "AAAA"),
        ("x-amz-checksum-crc32", "AAAAAA=="),
        ("x-amz-checksum-algorithm", "CRC32"),
    ] {
        let fields = signed_document(&document(&[any("key"), any(name)]), &[("key", "k"), (name, value)]);
        assert_eq!(code(&fields), "InvalidArgument", "{name} = {value}");
    }
}

#[test]
fn success_is_answered_as_asked_or_without_a_body() {
    let any = |name: &str| json!(["starts-with", format!("${name}"), ""]);
    for (asked, answered) in [("200", 200), ("201", 201), ("204", 204), ("500", 204), ("", 204)] {
        let conditions = [any("key"), any("success_action_status")];
        let fields = signed_document(&document(&conditions), &[("key", "k"), ("success_action_status", asked)]);
        assert_eq!(judge(&fields).unwrap().success_status, answered, "{asked}");
    }
}

#[test]
fn fields_are_bounded_and_come_once() {
    let mut form = Form::default();
    form.add("key", "k".to_owned()).unwrap();
    assert_eq!(form.add("KEY", "k".to_owned()).unwrap_err().code(), "InvalidArgument");
    assert_eq!(form.add("big", "x".repeat(MOST_FIELD_BYTES)), Err(Refusal::TooManyFields));
    let mut many = Form::default();
    let added = (0..=MOST_FIELDS).map(|n| many.add(&n.to_string(), String::new())).last();
    assert_eq!(added, Some(Err(Refusal::TooManyFields)));
}

#[test]
fn the_bytes_are_held_against_the_permit() {
    let permit = judge(&signed()).unwrap();
    let digest = Digest::of(b"abc");
    for (size, sha256, expected) in [
        (1, digest, Err(Refusal::TooSmall(2))),
        (2, digest, Ok(())),
        (5, digest, Ok(())),
        (6, digest, Err(Refusal::TooLarge(5))),
        (3, Digest::of(b"abd"), Err(Refusal::BadDigest)),
    ] {
        assert_eq!(permit.check_whole(size, sha256), expected, "{size}");
    }
}

#[test]
fn a_key_that_grows_too_long_by_its_files_name_is_refused_before_it_is_built() {
    let grown = |places: usize, filename: &str| {
        let mut form = Form::default();
        form.add("key", FILENAME.repeat(places)).unwrap();
        form.name_file(filename).map(|()| form.get("key").map_or(0, str::len))
    };

    assert_eq!(grown(1, &"x".repeat(1024)), Ok(1024));
    assert_eq!(grown(1, &"x".repeat(1025)), Err(Refusal::KeyTooLong));
    assert_eq!(grown(512, "ab"), Ok(1024));
    assert_eq!(grown(513, "ab"), Err(Refusal::KeyTooLong));
    assert_eq!(grown(1700, "folder/"), Ok(0), "it is the outcome that counts");
    assert_eq!(grown(1700, &"x".repeat(128 * 1024)), Err(Refusal::KeyTooLong));
}
