//! The bucket's side of a POST policy: whether a form may be stored, judged from its fields alone.
//!
//! [`admit`] judges everything that stands before the file, so a refused form has stored nothing yet; the file itself is
//! held against the [`Permit`] while it streams. A field may come once, and only if the policy names it: what is not
//! forbidden by S3 but ambiguous is refused here. Source: "POST Policy" in the Amazon S3 API reference.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use serde_json::Value;

use super::super::sigv4::{ALGORITHM, Invalid, LONGEST_LIFE, Signer};
use super::super::upload::MAX_SIZE;
use super::super::{Digest, Timestamp};

/// The most bytes of names and values before the file.
pub const MOST_FIELD_BYTES: usize = 20 * 1024;
/// The most fields before the file.
pub const MOST_FIELDS: usize = 100;
/// The longest key in bytes.
const LONGEST_KEY: usize = 1024;
/// What needs no condition.
const UNSIGNED: [&str; 4] = ["file", "policy", "x-amz-signature", "bucket"];
const METADATA: &str = "x-amz-meta-";

/// Why a form is not stored. The codes are S3's and stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The policy does not allow it.
    #[error("Invalid according to Policy: {0}")]
    AgainstPolicy(String),
    /// The policy's time is over.
    #[error("Invalid according to Policy: Policy expired.")]
    PolicyExpired,
    /// The form is not signed at all.
    #[error("The form needs the field {0}")]
    Unsigned(&'static str),
    /// The policy cannot be read.
    #[error("Invalid Policy: {0}")]
    InvalidPolicy(String),
    /// The signature does not count.
    #[error(transparent)]
    Signature(#[from] Invalid),
    /// A field is missing, doubled, or makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// The key is longer than 1024 bytes.
    #[error("Your key is too long")]
    KeyTooLong,
    /// There is too much before the file.
    #[error("Your POST request's fields preceding the upload file are too large")]
    TooManyFields,
    /// The file is smaller than the policy wants.
    #[error("Your proposed upload is smaller than the minimum allowed size of {0} bytes")]
    TooSmall(i64),
    /// The file is larger than the policy allows.
    #[error("Your proposed upload exceeds the maximum allowed size of {0} bytes")]
    TooLarge(i64),
    /// The bytes are not those whose digest the form declares.
    #[error("The SHA-256 you specified did not match the calculated checksum")]
    BadDigest,
    /// It is not a form, or a broken one.
    #[error("The body of your POST request is not well-formed multipart/form-data: {0}")]
    Malformed(String),
}

impl Refusal {
    /// S3's word for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AgainstPolicy(_) | Self::PolicyExpired | Self::Unsigned(_) => "AccessDenied",
            Self::InvalidPolicy(_) => "InvalidPolicyDocument",
            Self::Signature(Invalid::UnknownKey) => "InvalidAccessKeyId",
            Self::Signature(Invalid::Mismatch) => "SignatureDoesNotMatch",
            Self::Signature(Invalid::Token) => "InvalidToken",
            Self::Signature(_) => "AccessDenied",
            Self::InvalidArgument(_) => "InvalidArgument",
            Self::KeyTooLong => "KeyTooLongError",
            Self::TooManyFields => "MaxPostPreDataLengthExceeded",
            Self::TooSmall(_) => "EntityTooSmall",
            Self::TooLarge(_) => "EntityTooLarge",
            Self::BadDigest => "BadDigest",
            Self::Malformed(_) => "MalformedPOSTRequest",
        }
    }

    /// The HTTP status that S3 answers with: 403 where it is about who may do what, else 400.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::AgainstPolicy(_) | Self::PolicyExpired | Self::Unsigned(_) => 403,
            Self::Signature(Invalid::Token) => 400,
            Self::Signature(_) => 403,
            _ => 400,
        }
    }
}

/// A form's fields before the file. Names are case-insensitive.
#[derive(Clone, Debug, Default)]
pub struct Form {
    fields: BTreeMap<String, String>,
    bytes: usize,
}

impl Form {
    /// Adds a field, in bounds and once. Fields to be ignored are, but they count.
    pub fn add(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        self.bytes += name.len() + value.len();
        if self.bytes > MOST_FIELD_BYTES {
            return Err(Refusal::TooManyFields);
        }
        let name = name.to_ascii_lowercase();
        if name.starts_with("x-ignore-") {
            return Ok(());
        }
        if self.fields.contains_key(&name) {
            return Err(Refusal::InvalidArgument(format!("The field {name} is there twice")));
        }
        self.fields.insert(name, value);
        if self.fields.len() > MOST_FIELDS { Err(Refusal::TooManyFields) } else { Ok(()) }
    }

    /// How many bytes a further field may have.
    #[must_use]
    pub fn room(&self) -> usize {
        MOST_FIELD_BYTES.saturating_sub(self.bytes)
    }

    /// The value of a field, by its name in lower case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    fn signature_part(&self, name: &'static str) -> Result<&str, Refusal> {
        self.get(name).ok_or(Refusal::Unsigned(name))
    }
}

/// What an admitted form may store, and how it is to be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// Where.
    pub key: String,
    /// The media type.
    pub content_type: Option<String>,
    /// What was sent as `x-amz-meta-…`, by the part behind that.
    pub metadata: BTreeMap<String, String>,
    /// What the bytes must hash to.
    pub sha256: Option<Digest>,
    /// How many bytes.
    pub sizes: RangeInclusive<i64>,
    /// 200, 201 or 204, as `success_action_status` asks for.
    pub success_status: u16,
}

impl Permit {
    /// Judges the bytes so far: whether there are too many.
    pub fn check_growth(&self, size: i64) -> Result<(), Refusal> {
        if size > *self.sizes.end() { Err(Refusal::TooLarge(*self.sizes.end())) } else { Ok(()) }
    }

    /// Judges all the bytes: how many there are and what they hash to.
    pub fn check_whole(&self, size: i64, sha256: Digest) -> Result<(), Refusal> {
        self.check_growth(size)?;
        if size < *self.sizes.start() {
            return Err(Refusal::TooSmall(*self.sizes.start()));
        }
        if self.sha256.is_some_and(|declared| declared != sha256) { Err(Refusal::BadDigest) } else { Ok(()) }
    }
}

/// Judges a form that was posted to a bucket, by whose signer it must have been signed.
pub fn admit(form: &Form, bucket: &str, signer: &Signer<'_>) -> Result<Permit, Refusal> {
    let policy = verify_signature(form, signer)?;
    let policy = Policy::parse(&policy)?;
    if signer.now >= policy.expiration {
        return Err(Refusal::PolicyExpired);
    }
    policy.check(form, bucket)?;
    Ok(Permit {
        key: key_of(form)?,
        content_type: form.get("content-type").map(str::to_owned),
        metadata: metadata_of(form),
        sha256: declared_digest(form)?,
        sizes: policy.sizes,
        success_status: form.get("success_action_status").and_then(success_status).unwrap_or(204),
    })
}

/// Gives the policy's text, once its signature is known to be good.
fn verify_signature(form: &Form, signer: &Signer<'_>) -> Result<Vec<u8>, Refusal> {
    let policy = form.signature_part("policy")?;
    if form.signature_part("x-amz-algorithm")? != ALGORITHM {
        return Err(Invalid::Malformed("x-amz-algorithm").into());
    }
    let (credential, date) = (form.signature_part("x-amz-credential")?, form.signature_part("x-amz-date")?);
    let signature = form.signature_part("x-amz-signature")?;
    let (scope, signed_at) = signer.scope_of(credential, date)?;
    signer.verify(&scope, policy, signature)?;
    signer.verify_token(form.get("x-amz-security-token"))?;
    if signer.now > signed_at + LONGEST_LIFE {
        return Err(Invalid::Expired.into());
    }
    STANDARD.decode(policy).map_err(|_| Refusal::InvalidPolicy("it is not base64".to_owned()))
}

fn key_of(form: &Form) -> Result<String, Refusal> {
    match form.get("key") {
        None | Some("") => Err(Refusal::InvalidArgument("Bucket POST must contain a field named 'key'".to_owned())),
        Some(key) if key.len() > LONGEST_KEY => Err(Refusal::KeyTooLong),
        Some(key) => Ok(key.to_owned()),
    }
}

fn metadata_of(form: &Form) -> BTreeMap<String, String> {
    let named = |(name, value): (&String, &String)| Some((name.strip_prefix(METADATA)?.to_owned(), value.clone()));
    form.fields.iter().filter_map(named).collect()
}

/// The digest that the form declares. Any other checksum is refused rather than ignored.
fn declared_digest(form: &Form) -> Result<Option<Digest>, Refusal> {
    let known = |name: &str| ["x-amz-checksum-sha256", "x-amz-checksum-algorithm"].contains(&name);
    let mut names = form.fields.keys().filter(|name| name.starts_with("x-amz-checksum-"));
    let other_algorithm = form.get("x-amz-checksum-algorithm").is_some_and(|name| name != "SHA256");
    if other_algorithm || names.any(|name| !known(name)) {
        return Err(Refusal::InvalidArgument("The only checksum that is checked here is SHA256".to_owned()));
    }
    let Some(text) = form.get("x-amz-checksum-sha256") else { return Ok(None) };
    let raw = STANDARD.decode(text).ok();
    let digest = raw.and_then(|raw| hex::encode(raw).parse().ok());
    digest.map(Some).ok_or_else(|| Refusal::InvalidArgument("x-amz-checksum-sha256 is not a SHA-256".to_owned()))
}

fn success_status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| [200, 201, 204].contains(status))
}

/// A policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When it ends.
    pub expiration: Timestamp,
    /// What each field must be.
    pub conditions: Vec<Condition>,
    /// How many bytes; at most what one POST can carry.
    pub sizes: RangeInclusive<i64>,
}

/// What one field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name in lower case.
    pub field: String,
    /// Against what it is held.
    pub test: Test,
}

/// How a field is held against its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is exactly this.
    Eq(String),
    /// It starts with this, which may be empty.
    StartsWith(String),
}

impl Policy {
    /// Reads a document, strictly: what is not understood could have been a restriction.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let document: Value = serde_json::from_slice(text).map_err(|_| invalid("it is not JSON"))?;
        let members = document.as_object().ok_or_else(|| invalid("it is not an object"))?;
        if let Some(name) = members.keys().find(|name| !["expiration", "conditions"].contains(&name.as_str())) {
            return Err(invalid(&format!("unexpected: '{name}'")));
        }
        let expiration = members.get("expiration").and_then(Value::as_str).and_then(parse_time);
        let expiration = expiration.ok_or_else(|| invalid("it has no valid expiration"))?;
        let conditions = members.get("conditions").and_then(Value::as_array);
        let mut policy = Self { expiration, conditions: Vec::new(), sizes: 0..=MAX_SIZE };
        for condition in conditions.ok_or_else(|| invalid("it has no list of conditions"))? {
            policy.add(condition)?;
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &Value) -> Result<(), Refusal> {
        let broken = || invalid(&format!("invalid condition: {condition}"));
        match condition {
            Value::Object(exact) if !exact.is_empty() => {
                for (field, value) in exact {
                    self.require(field, Test::Eq(value.as_str().ok_or_else(broken)?.to_owned()));
                }
                Ok(())
            }
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(op), min, max] if op.eq_ignore_ascii_case("content-length-range") => {
                    let bounds = integer(min).zip(integer(max)).filter(|(min, max)| (0..=*max).contains(min));
                    self.narrow(bounds.ok_or_else(broken)?);
                    Ok(())
                }
                [Value::String(op), Value::String(field), Value::String(value)] => {
                    let field = field.strip_prefix('$').ok_or_else(broken)?;
                    self.require(field, test(op, value).ok_or_else(broken)?);
                    Ok(())
                }
                _ => Err(broken()),
            },
            _ => Err(broken()),
        }
    }

    fn require(&mut self, field: &str, test: Test) {
        self.conditions.push(Condition { field: field.to_ascii_lowercase(), test });
    }

    fn narrow(&mut self, (min, max): (i64, i64)) {
        self.sizes = min.max(*self.sizes.start())..=max.min(*self.sizes.end());
    }

    /// Holds a form against the conditions: every condition is met, every field has one, and one is about the bucket.
    pub fn check(&self, form: &Form, bucket: &str) -> Result<(), Refusal> {
        if form.get("bucket").is_some_and(|named| named != bucket) {
            return Err(Refusal::AgainstPolicy("The form names another bucket".to_owned()));
        }
        for Condition { field, test } in &self.conditions {
            let value = if field == "bucket" { Some(bucket) } else { form.get(field) };
            if !value.is_some_and(|value| test.holds(value)) {
                return Err(Refusal::AgainstPolicy(format!("Policy Condition failed: {}", test.show(field))));
            }
        }
        let named = |name: &str| self.conditions.iter().any(|condition| condition.field == name);
        if !named("bucket") {
            return Err(Refusal::AgainstPolicy("Policy has no condition on the bucket".to_owned()));
        }
        match form.fields.keys().find(|name| !UNSIGNED.contains(&name.as_str()) && !named(name)) {
            Some(name) => Err(Refusal::AgainstPolicy(format!("Extra input fields: {name}"))),
            None => Ok(()),
        }
    }
}

impl Test {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Eq(exact) => value == exact,
            Self::StartsWith(prefix) => value.starts_with(prefix),
        }
    }

    fn show(&self, field: &str) -> String {
        let (op, value) = match self {
            Self::Eq(exact) => ("eq", exact),
            Self::StartsWith(prefix) => ("starts-with", prefix),
        };
        format!("[{op:?}, \"${field}\", {value:?}]")
    }
}

fn test(op: &str, value: &str) -> Option<Test> {
    match op.to_ascii_lowercase().as_str() {
        "eq" => Some(Test::Eq(value.to_owned())),
        "starts-with" => Some(Test::StartsWith(value.to_owned())),
        _ => None,
    }
}

/// S3 takes numbers in quotes too.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn parse_time(text: &str) -> Option<Timestamp> {
    Some(Timestamp::from_millis(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis()))
}

fn invalid(what: &str) -> Refusal {
    Refusal::InvalidPolicy(what.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use uuid::Uuid;

    use super::super::super::sigv4::tests::example;
    use super::super::{Credentials, PolicyTerms, sign};
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_451_347_200_000);

    fn signer(credentials: &Credentials) -> Signer<'_> {
        Signer { credentials, region: "us-east-1", now: NOW }
    }

    fn terms() -> PolicyTerms {
        PolicyTerms {
            key: "staging/o/u/r".to_owned(),
            min_size: 2,
            max_size: 5,
            content_type: Some("image/png".to_owned()),
            sha256: Some(Digest::of(b"abc")),
            upload_id: Uuid::nil(),
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
        for name in
            ["acl", "x-amz-meta-other", "success_action_redirect", "tagging", "x-amz-security-token", "nonsense"]
        {
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
    fn a_policy_without_a_bucket_or_a_key_stores_nothing() {
        let mut no_bucket = document(&[json!({ "key": "k" })]);
        no_bucket["conditions"].as_array_mut().unwrap().remove(0);
        assert_eq!(code(&signed_document(&no_bucket, &[("key", "k")])), "AccessDenied");
        assert_eq!(code(&signed_document(&document(&[]), &[])), "InvalidArgument");
        let any = document(&[json!(["starts-with", "$key", ""])]);
        assert_eq!(code(&signed_document(&any, &[("key", "")])), "InvalidArgument");
        assert_eq!(code(&signed_document(&any, &[("key", &"k".repeat(1025))])), "KeyTooLongError");
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
}
