//! The bucket's side of a POST policy: whether a form may be stored, judged from its fields alone.
//!
//! [`admit`] judges everything that stands before the file, so a refused form has stored nothing yet; the file
//! itself is held against the [`Permit`] while it streams. A field may come once, and only if the policy names it:
//! what is not forbidden by S3 but ambiguous is refused here. Source: "POST Policy" in the Amazon S3 API reference.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::Digest;
use super::super::sigv4::{ALGORITHM, Invalid, LONGEST_LIFE, Signer};
use super::FILENAME;
use super::document::Policy;
pub use super::refusal::Refusal;

#[cfg(test)]
mod tests;

/// The most bytes of names and values before the file.
pub const MOST_FIELD_BYTES: usize = 20 * 1024;
/// The most fields before the file.
pub const MOST_FIELDS: usize = 100;
/// The longest key in bytes.
const LONGEST_KEY: usize = 1024;
/// What needs no condition.
const UNSIGNED: [&str; 4] = ["file", "policy", "x-amz-signature", "bucket"];
const METADATA: &str = "x-amz-meta-";

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

    /// Puts the name of the posted file, less the folders before it, where the key has `${filename}`. Source: "POST Object".
    /// Nobody has shown a signature yet, so a key that comes out too long is refused before it is built.
    pub fn name_file(&mut self, filename: &str) -> Result<(), Refusal> {
        let Some(key) = self.fields.get_mut("key") else { return Ok(()) };
        let places = key.matches(FILENAME).count();
        if places == 0 {
            return Ok(());
        }
        let last = filename.rsplit(['/', '\\']).next().unwrap_or_default();
        if key.len() - places * FILENAME.len() + places * last.len() > LONGEST_KEY {
            return Err(Refusal::KeyTooLong);
        }
        *key = key.replace(FILENAME, last);
        Ok(())
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
    hold(form, &policy, bucket)?;
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

/// Holds a form against the conditions: every condition is met, every field has one, and one is about the bucket.
fn hold(form: &Form, policy: &Policy, bucket: &str) -> Result<(), Refusal> {
    if form.get("bucket").is_some_and(|named| named != bucket) {
        return Err(Refusal::AgainstPolicy("The form names another bucket".to_owned()));
    }
    for condition in &policy.conditions {
        let value = if condition.field == "bucket" { Some(bucket) } else { form.get(&condition.field) };
        if !value.is_some_and(|value| condition.test.holds(value)) {
            return Err(Refusal::AgainstPolicy(format!("Policy Condition failed: {condition}")));
        }
    }
    if !policy.names("bucket") {
        return Err(Refusal::AgainstPolicy("Policy has no condition on the bucket".to_owned()));
    }
    match form.fields.keys().find(|name| !UNSIGNED.contains(&name.as_str()) && !policy.names(name)) {
        Some(name) => Err(Refusal::AgainstPolicy(format!("Extra input fields: {name}"))),
        None => Ok(()),
    }
}

fn key_of(form: &Form) -> Result<String, Refusal> {
    match form.get("key") {
        None | Some("") => Err(Refusal::InvalidArgument("Bucket POST must contain a field named 'key'".to_owned())),
        Some(key) if key.len() > LONGEST_KEY => Err(Refusal::KeyTooLong),
        Some(key) if key.contains('\0') => Err(Refusal::InvalidArgument("A key must not hold NUL".to_owned())),
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
