//! The S3 POST policy: what a form may upload, signed so that the bucket can check it without asking us.
//!
//! [`sign`] makes one; [`check`] is the other side, where our own bucket judges the form that comes back. Some
//! servers refuse a condition without its field, and all of them a field without its condition, so every field that
//! is sent has exactly one condition: an exact one, but for the key of many files, of which only the beginning is fixed.

pub mod check;
pub mod document;
mod refusal;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::sigv4::{ALGORITHM, Signer};
use super::{Digest, Timestamp, TraceParent};

pub use super::sigv4::Credentials;

/// In a form's `key` this stands for the name of the file that is posted, which the bucket puts in its place.
pub const FILENAME: &str = "${filename}";

/// The field, and the metadata of the object, that names its trace.
const TRACE_FIELD: &str = "x-amz-meta-traceparent";

/// Where a policy lets its client put bytes, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this key, for this upload.
    Key(String, Uuid),
    /// At any number of keys that begin so, for this batch.
    Prefix(String, Uuid),
}

impl Place {
    /// The form's `key` as it is handed out.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Key(key, _) => key.clone(),
            Self::Prefix(prefix, _) => format!("{prefix}{FILENAME}"),
        }
    }

    /// What goes along with the object, to say whose it is.
    fn owner(&self) -> (&'static str, Uuid) {
        match self {
            Self::Key(_, upload) => ("x-amz-meta-upload-id", *upload),
            Self::Prefix(_, batch) => ("x-amz-meta-batch-id", *batch),
        }
    }

    /// The condition on one field of the form.
    fn condition(&self, name: &str, value: &str) -> Value {
        match self {
            Self::Prefix(prefix, _) if name == "key" => json!(["starts-with", "$key", prefix]),
            _ => json!({ name: value }),
        }
    }
}

/// What one policy allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyTerms {
    /// Where the bytes may go.
    pub place: Place,
    /// The fewest bytes.
    pub min_size: i64,
    /// The most bytes.
    pub max_size: i64,
    /// The exact media type; `None` when the form sends none.
    pub content_type: Option<String>,
    /// The digest that the client declared: signed in, so that servers which can check it do.
    pub sha256: Option<Digest>,
    /// The trace that the object is to name, as metadata.
    pub traceparent: Option<TraceParent>,
    /// When the policy ends, unless the credentials end sooner.
    pub expires_at: Timestamp,
}

/// A signed policy as the client needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostPolicy {
    /// Where to post the form.
    pub url: String,
    /// The form's fields; `file` comes behind them.
    pub fields: BTreeMap<String, String>,
    /// When it ends. Kept in a column of its own, not in the JSON.
    #[serde(skip)]
    pub expires_at: Timestamp,
}

/// The fields of a form that uploads to the bucket under these terms. Names are lower case but for `Content-Type`.
#[must_use]
pub fn sign(terms: &PolicyTerms, bucket: &str, signer: &Signer<'_>) -> BTreeMap<String, String> {
    let mut fields = fields_to_sign(terms, signer);
    let policy = STANDARD.encode(document(terms, bucket, &fields).to_string());
    let signature = signer.sign(&signer.scope(), &policy);
    fields.insert("policy".to_owned(), policy);
    fields.insert("x-amz-signature".to_owned(), signature);
    fields
}

fn fields_to_sign(terms: &PolicyTerms, signer: &Signer<'_>) -> BTreeMap<String, String> {
    let optional = [
        ("Content-Type", terms.content_type.clone()),
        ("x-amz-checksum-algorithm", terms.sha256.map(|_| "SHA256".to_owned())),
        ("x-amz-checksum-sha256", terms.sha256.map(Digest::to_base64)),
        (TRACE_FIELD, terms.traceparent.map(|parent| parent.to_string())),
        ("x-amz-security-token", signer.credentials.session_token.clone()),
    ];
    let (owner, id) = terms.place.owner();
    let always = [
        ("key", terms.place.key()),
        ("success_action_status", "201".to_owned()),
        ("x-amz-algorithm", ALGORITHM.to_owned()),
        ("x-amz-credential", signer.scope().to_string()),
        ("x-amz-date", signer.now.to_amz()),
        (owner, id.to_string()),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    always.into_iter().chain(optional).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn document(terms: &PolicyTerms, bucket: &str, fields: &BTreeMap<String, String>) -> Value {
    let mut conditions = vec![json!({ "bucket": bucket })];
    conditions.extend(fields.iter().map(|(name, value)| terms.place.condition(name, value)));
    conditions.push(json!(["content-length-range", terms.min_size, terms.max_size]));
    json!({ "expiration": terms.expires_at.to_string(), "conditions": conditions })
}

#[cfg(test)]
mod tests {
    use super::super::sigv4::tests::example;
    use super::*;

    fn terms() -> PolicyTerms {
        PolicyTerms {
            place: Place::Key("staging/o/u/r".to_owned(), Uuid::nil()),
            min_size: 5,
            max_size: 5,
            content_type: None,
            sha256: None,
            traceparent: None,
            expires_at: Timestamp::from_millis(1_451_433_600_000),
        }
    }

    fn signed(terms: &PolicyTerms, credentials: &Credentials) -> (BTreeMap<String, String>, Value) {
        let signer = Signer { credentials, region: "us-east-1", now: Timestamp::from_millis(1_451_347_200_000) };
        let fields = sign(terms, "bucket-of-mine", &signer);
        let document = STANDARD.decode(&fields["policy"]).unwrap();
        (fields, serde_json::from_slice(&document).unwrap())
    }

    #[test]
    fn the_document_says_exactly_what_is_allowed() {
        let (fields, document) = signed(&terms(), &example());

        assert_eq!(document["expiration"], "2015-12-30T00:00:00.000Z");
        assert_eq!(
            document["conditions"],
            json!([
                { "bucket": "bucket-of-mine" },
                { "key": "staging/o/u/r" },
                { "success_action_status": "201" },
                { "x-amz-algorithm": "AWS4-HMAC-SHA256" },
                { "x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request" },
                { "x-amz-date": "20151229T000000Z" },
                { "x-amz-meta-upload-id": "00000000-0000-0000-0000-000000000000" },
                ["content-length-range", 5, 5],
            ])
        );
        assert_eq!(fields.len(), 8);
    }

    #[test]
    fn a_policy_for_many_files_fixes_where_their_keys_begin() {
        let many = PolicyTerms { place: Place::Prefix("staging/o/batch/b/".to_owned(), Uuid::nil()), ..terms() };

        let (fields, document) = signed(&many, &example());

        assert_eq!(fields["key"], "staging/o/batch/b/${filename}");
        assert_eq!(fields["x-amz-meta-batch-id"], Uuid::nil().to_string());
        let conditions = document["conditions"].as_array().unwrap();
        assert!(conditions.contains(&json!(["starts-with", "$key", "staging/o/batch/b/"])), "{conditions:?}");
        assert!(conditions.contains(&json!({ "x-amz-meta-batch-id": Uuid::nil().to_string() })));
        let text = document.to_string();
        assert!(!text.contains("upload-id") && !text.contains("filename"), "{text}");
    }

    #[test]
    fn what_is_optional_is_sent_and_signed_when_it_is_there() {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let declared = PolicyTerms {
            content_type: Some("image/png".to_owned()),
            sha256: Some(Digest::of(b"bytes")),
            traceparent: Some(traceparent.parse().unwrap()),
            ..terms()
        };
        let credentials = Credentials { session_token: Some("token".to_owned()), ..example() };

        let (fields, document) = signed(&declared, &credentials);

        let checksum = Digest::of(b"bytes").to_base64();
        for (name, value) in [
            ("Content-Type", "image/png"),
            ("x-amz-checksum-algorithm", "SHA256"),
            ("x-amz-checksum-sha256", &checksum),
            ("x-amz-meta-traceparent", traceparent),
            ("x-amz-security-token", "token"),
        ] {
            assert_eq!(fields[name], value);
            assert!(document["conditions"].as_array().unwrap().contains(&json!({ name: value })), "{name}");
        }
    }

    #[test]
    fn every_field_has_a_condition_and_lower_case() {
        let declared = PolicyTerms { content_type: Some("a/b".into()), sha256: Some(Digest::of(b"")), ..terms() };
        let (fields, document) = signed(&declared, &example());

        for name in fields.keys().filter(|name| !["policy", "x-amz-signature"].contains(&name.as_str())) {
            let condition = json!({ name: fields[name] });
            assert!(document["conditions"].as_array().unwrap().contains(&condition), "{name}");
            assert!(name == "Content-Type" || *name == name.to_lowercase(), "{name}");
        }
    }
}
