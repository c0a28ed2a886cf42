//! Our forms against those of boto3 and of the JavaScript SDK, over some hundreds of random policies each.
//!
//! A judge signs the document that it writes itself, and no two write the same text. So three things are held against each
//! other: our signature of the judge's document, the fields of our form, and what our document means.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_jobs::model::policy::document::Policy;
use longshore_jobs::model::policy::{Credentials, Place};
use longshore_jobs::model::sigv4::Scope;
use serde::Deserialize;
use uuid::Uuid;

use super::*;

const ROUNDS: &str = "300";

/// One line of a judge's.
#[derive(Deserialize)]
struct Judgement {
    asked: Question,
    fields: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    region: String,
    /// Seconds.
    signed_at: i64,
    /// Seconds.
    life: u64,
    bucket: String,
    key: String,
    min_size: i64,
    max_size: i64,
    content_type: Option<String>,
    sha256: Option<Digest>,
    /// Of the upload, or of the batch whose files' keys begin with `key`.
    owner: Uuid,
    is_prefix: bool,
    traceparent: Option<String>,
}

impl Question {
    fn signed_at(&self) -> Timestamp {
        Timestamp::from_millis(self.signed_at * 1000)
    }

    fn credentials(&self) -> Credentials {
        Credentials {
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
            session_token: self.session_token.clone(),
        }
    }

    fn terms(&self) -> PolicyTerms {
        PolicyTerms {
            place: if self.is_prefix {
                Place::Prefix(self.key.clone(), self.owner)
            } else {
                Place::Key(self.key.clone(), self.owner)
            },
            min_size: self.min_size,
            max_size: self.max_size,
            content_type: self.content_type.clone(),
            sha256: self.sha256,
            traceparent: self.traceparent.as_ref().map(|parent| parent.parse().unwrap()),
            expires_at: self.signed_at() + Duration::from_secs(self.life),
        }
    }
}

#[test]
fn forms_are_those_of_boto3() {
    let Some(python) = given("LONGSHORE_TEST_PYTHON", "forms as boto3 signs them") else { return };
    agree(Command::new(python).arg(judge("boto3_policies.py")).arg(ROUNDS), &[]);
}

#[test]
fn forms_are_those_of_the_javascript_sdk() {
    let Some(modules) = given("LONGSHORE_TEST_NODE_MODULES", "forms as the JavaScript SDK signs them") else {
        return;
    };
    // It sends the bucket's name as a field too, which S3 ignores.
    agree(Command::new("node").arg(judge("js_policies.mjs")).arg(modules).arg(ROUNDS), &["bucket"]);
}

fn judge(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ops/judges").join(name)
}

fn agree(judge: &mut Command, theirs_alone: &[&str]) {
    let output = judge.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let judgements: Vec<Judgement> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    assert_eq!(judgements.len().to_string(), ROUNDS);
    assert!(judgements.iter().any(|judgement| judgement.asked.session_token.is_some()));
    assert!(judgements.iter().any(|judgement| judgement.asked.session_token.is_none()));
    assert!(judgements.iter().any(|judgement| judgement.asked.is_prefix));
    assert!(judgements.iter().any(|judgement| !judgement.asked.is_prefix));
    for judgement in &judgements {
        compare(judgement, theirs_alone);
    }
}

fn compare(judgement: &Judgement, theirs_alone: &[&str]) {
    let (asked, credentials) = (&judgement.asked, judgement.asked.credentials());
    let signer = Signer { credentials: &credentials, region: &asked.region, now: asked.signed_at() };
    let mut ours = lower(&policy::sign(&asked.terms(), &asked.bucket, &signer));
    let mut theirs = lower(&judgement.fields);
    let mut taken = |name: &str| (ours.remove(name).unwrap(), theirs.remove(name).unwrap());
    let (our_policy, their_policy) = taken("policy");
    let (our_signature, their_signature) = taken("x-amz-signature");
    theirs.retain(|name, _| !theirs_alone.contains(&name.as_str()));

    let scope: Scope = theirs["x-amz-credential"].parse().unwrap();
    assert_eq!(signer.sign(&scope, &their_policy), their_signature, "{their_policy}");
    assert_eq!(signer.sign(&signer.scope(), &our_policy), our_signature, "{our_policy}");
    assert_eq!(ours, theirs);
    assert_eq!(meaning(&our_policy), meaning(&their_policy));
}

/// S3 does not heed the case of a field's name.
fn lower(fields: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}

/// The document without its order.
fn meaning(policy: &str) -> (Timestamp, Vec<String>, RangeInclusive<i64>) {
    let policy = Policy::parse(&STANDARD.decode(policy).unwrap()).unwrap();
    let mut conditions: Vec<_> = policy.conditions.iter().map(ToString::to_string).collect();
    conditions.sort();
    (policy.expiration, conditions, policy.sizes)
}
