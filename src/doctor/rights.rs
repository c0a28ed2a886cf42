//! What we may do in the bucket, one right after the other, on an object of our own that is removed at the end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use longshore_jobs::job::{Limits, with_causes};
use longshore_jobs::model::policy::{Place, PolicyTerms, PostPolicy};
use longshore_jobs::model::upload::policy_life;
use longshore_jobs::model::{Digest, Timestamp, keys};
use longshore_jobs::outside::{Body, Bucket as _, BucketError, ObjectHead};
use uuid::Uuid;

use super::{Finding, Outcome};
use crate::bucket::s3::S3Bucket;
use crate::bucket::s3::settings::{Blame, blame};
use crate::client::api::PolicyForm;
use crate::client::form::Content;
use crate::client::{Api, ApiError};

/// Bytes in a range of the read: small, so that a small object is read in ranges.
pub(super) const PART: usize = 1024;
/// Less than two parts is read by one request, more by ranges.
const SMALL: usize = PART;
const LARGE: usize = 3 * PART;

/// The objects of one examination. They are named before they are made, so that they can be removed whatever becomes of it;
/// should that fail too, the sweep knows them by their org.
#[derive(Clone)]
pub(super) struct Objects {
    bucket: Arc<S3Bucket>,
    /// Below `staging/`, as an upload's that does not exist: a notice about it finds nothing.
    small: String,
    large: String,
    /// Below `blobs/`.
    copy: String,
}

/// What is done on them.
struct Probe {
    bucket: Arc<S3Bucket>,
    objects: Objects,
    findings: Vec<Finding>,
}

const MEND_CREDENTIALS: &str = "give the process the right credentials: AWS_ACCESS_KEY_ID with its AWS_SECRET_ACCESS_KEY \
    (and AWS_SESSION_TOKEN), or AWS_PROFILE; s3.region has to be the bucket's";

/// Whether the server of the bucket answers and knows who we are.
pub(super) async fn greet(bucket: &S3Bucket) -> Outcome {
    let (name, id) = (bucket.address().bucket, bucket.address().access_key_id);
    let Err(error) = bucket.list(keys::STAGING, None).await else { return known(&name, &id) };
    match blame(&error) {
        Blame::Credentials(said) => {
            Outcome::failed(format!("the server refuses the access key {id}: {said}"), MEND_CREDENTIALS)
        }
        Blame::Silence => Outcome::failed(
            with_causes(&error),
            "see that the S3 server runs, and that s3_endpoint and s3.region lead to it",
        ),
        // Whatever else is wrong has a check of its own.
        Blame::Right(_) | Blame::Other => known(&name, &id),
    }
}

fn known(bucket: &str, id: &str) -> Outcome {
    Outcome::ok(format!("the server of s3://{bucket} answers, and knows the access key {id}"))
}

/// Tries all rights but the one to delete, which [`Objects::clear`] does.
pub(super) async fn look(objects: Objects, limits: Limits) -> Vec<Finding> {
    let mut probe = Probe { bucket: Arc::clone(&objects.bucket), objects, findings: Vec::new() };
    probe.sign(limits).await;
    probe.use_objects().await;
    probe.findings
}

impl Objects {
    pub(super) fn of(bucket: Arc<S3Bucket>) -> Self {
        Self {
            small: keys::staging(keys::NOBODY, Uuid::now_v7()),
            large: keys::staging(keys::NOBODY, Uuid::now_v7()),
            copy: keys::blob(keys::NOBODY, Digest::of(b"longshore doctor")),
            bucket,
        }
    }

    /// Removes them. One by one: the right may be there for one part of the bucket and lacking for the other.
    pub(super) async fn clear(self) -> Outcome {
        let keys = [self.small, self.large, self.copy];
        let deleted = join_all(keys.iter().map(|key| self.bucket.delete(std::slice::from_ref(key)))).await;
        judge_right("s3:DeleteObject on staging/* and blobs/*", deleted.into_iter().collect())
    }
}

impl Probe {
    /// How long credentials last against how long the longest policy should.
    async fn sign(&mut self, limits: Limits) {
        let life = policy_life(limits.policy_life, Some(limits.max_size));
        let wanted = Timestamp::system_now() + life;
        let outcome = match self.bucket.sign(self.terms(self.objects.small.clone(), wanted)).await {
            Ok(policy) => judge_life(policy.expires_at.since(Timestamp::system_now()), life),
            Err(error) => Outcome::failed(
                format!("no policy can be signed: {}", with_causes(&error)),
                "give the process credentials that last: AWS_PROFILE, a role of the machine, or AWS_ACCESS_KEY_ID",
            ),
        };
        self.findings.push(outcome.of("credentials"));
    }

    async fn use_objects(&mut self) {
        let (small, large) = (self.objects.small.clone(), self.objects.large.clone());
        let missing = self.bucket.head(&keys::staging(keys::NOBODY, Uuid::nil())).await.map(drop);
        self.note("bucket missing", "s3:ListBucket (a missing object is else a 403)", missing);
        let posted = self.post(&small, SMALL).await;
        self.findings.push(judge_post(posted).of("bucket post"));
        let put = self.put(&large).await;
        self.note("bucket put", "s3:PutObject on staging/* (POST /api/files)", put);
        let listed = self.bucket.list(keys::STAGING, None).await.map(drop);
        self.note("bucket list", "s3:ListBucket", listed);
        let (Some(small), large) = (self.head(&small).await, self.head_quietly(&large).await) else { return };
        let read = self.read(&small, SMALL).await;
        self.note("bucket read", "s3:GetObject on staging/*", read);
        let pinned = self.bucket.read(&ObjectHead { etag: "another".to_owned(), ..small.clone() }).await;
        self.findings.push(judge_pin(pinned.map(drop)).of("bucket if-match"));
        if let Some(large) = large {
            let ranged = self.read(&large, LARGE).await;
            self.note("bucket ranges", "s3:GetObject on staging/*", ranged);
        }
        self.copy(&small).await;
    }

    async fn copy(&mut self, from: &ObjectHead) {
        let copy = self.objects.copy.clone();
        let copied = self.bucket.copy(from, &copy).await.map(drop);
        let worked = copied.is_ok();
        self.note("bucket copy", "s3:GetObject on staging/* and s3:PutObject on blobs/*", copied);
        if worked {
            let seen = self.bucket.head(&copy).await.and_then(|head| head.ok_or(BucketError::Missing { key: copy }));
            self.note("bucket blobs", "s3:GetObject on blobs/* (downloads)", seen.map(drop));
        }
    }

    async fn head(&mut self, key: &str) -> Option<ObjectHead> {
        let found = self
            .bucket
            .head(key)
            .await
            .and_then(|head| head.ok_or_else(|| BucketError::Missing { key: key.to_owned() }));
        let head = found.as_ref().ok().cloned();
        self.note("bucket head", "s3:GetObject on staging/*", found.map(drop));
        head
    }

    async fn head_quietly(&self, key: &str) -> Option<ObjectHead> {
        self.bucket.head(key).await.ok().flatten()
    }

    async fn post(&self, key: &str, size: usize) -> Result<(), Unposted> {
        let terms = self.terms(key.to_owned(), Timestamp::system_now() + Duration::from_secs(300));
        let policy = self.bucket.sign(terms).await.map_err(|error| Unposted::Unsigned(with_causes(&error)))?;
        let api = Api::new(self.somewhere(&policy)?, String::new());
        let content = Content::Whole(Bytes::from(vec![b'x'; size]));
        api.post_form(&form_of(policy), &content).await.map_err(Unposted::Refused)
    }

    fn somewhere(&self, policy: &PostPolicy) -> Result<url::Url, Unposted> {
        policy.url.parse().map_err(|_| Unposted::Unsigned(format!("{} is no URL", policy.url)))
    }

    async fn put(&self, key: &str) -> Result<(), BucketError> {
        let chunks = stream::iter([Ok(Bytes::from(vec![b'x'; LARGE]))]).boxed();
        self.bucket.put(key, None, chunks).await.map(drop)
    }

    async fn read(&self, head: &ObjectHead, size: usize) -> Result<(), BucketError> {
        let Body::Stream(mut chunks) = self.bucket.read(head).await? else { return Ok(()) };
        let mut came = 0;
        while let Some(chunk) = chunks.next().await {
            came += chunk?.len();
        }
        if came == size {
            return Ok(());
        }
        let source = format!("{came} bytes came of {size}").into();
        Err(BucketError::Failed { op: "read", source })
    }

    fn terms(&self, key: String, expires_at: Timestamp) -> PolicyTerms {
        let place = Place::Key(key, Uuid::nil());
        PolicyTerms {
            place,
            min_size: 0,
            max_size: 1 << 20,
            content_type: None,
            sha256: None,
            traceparent: None,
            expires_at,
        }
    }

    /// Notes how an operation went; `right` is what it needs.
    fn note(&mut self, name: &'static str, right: &str, done: Result<(), BucketError>) {
        self.findings.push(judge_right(right, done).of(name));
    }
}

/// Why a form was not posted.
enum Unposted {
    Unsigned(String),
    Refused(ApiError),
}

fn form_of(policy: PostPolicy) -> PolicyForm {
    let expires = policy.expires_at.since(Timestamp::system_now()).as_secs();
    PolicyForm { url: policy.url, fields: policy.fields, expires, came: std::time::Instant::now() }
}

fn judge_right(right: &str, done: Result<(), BucketError>) -> Outcome {
    let Err(error) = done else { return Outcome::ok("allowed, and it works") };
    match blame(&error) {
        Blame::Right(said) => Outcome::failed(said, mend_right(right)),
        Blame::Credentials(said) => Outcome::failed(said, MEND_CREDENTIALS),
        Blame::Silence | Blame::Other => Outcome::failed(
            with_causes(&error),
            "see the log of the S3 server; with another server than AWS, its version",
        ),
    }
}

fn mend_right(right: &str) -> String {
    format!("allow it to the role of this process: {right}; ops/terraform/roles.tf has all rights, by kind of process")
}

fn judge_post(posted: Result<(), Unposted>) -> Outcome {
    let error = match posted {
        Ok(()) => return Outcome::ok("a form with a signed policy was taken"),
        Err(Unposted::Unsigned(why)) => return Outcome::failed(why, "see the check `credentials`"),
        Err(Unposted::Refused(error)) => error,
    };
    let mend = match &error {
        ApiError::FormRefused { code, .. } => match code.as_str() {
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" => {
                MEND_CREDENTIALS.to_owned()
            }
            "NoSuchBucket" => "set bucket_url to a bucket that is there".to_owned(),
            "AuthorizationHeaderMalformed" | "PermanentRedirect" => {
                "set s3.region to the region of the bucket".to_owned()
            }
            _ => mend_right("s3:PutObject on staging/*, for whoever signs (pool issue)"),
        },
        _ => "see that s3.public_endpoint (else s3_endpoint) is where clients, and this machine, reach S3".to_owned(),
    };
    Outcome::failed(with_causes(&error), mend)
}

/// What came of a read of a version that is not there.
fn judge_pin(read: Result<(), BucketError>) -> Outcome {
    match read {
        Err(BucketError::Changed { .. }) => Outcome::ok("another version than the one that was asked for is refused"),
        Ok(()) => Outcome::failed(
            "the server gives another version than the one that was asked for: it ignores If-Match",
            "use an S3 server that obeys If-Match on GET: without it bytes may change after they were checked",
        ),
        Err(error) => Outcome::warning(
            format!("the server does not say 412 of another version: {}", with_causes(&error)),
            "check the server's version",
        ),
    }
}

fn judge_life(left: Duration, wanted: Duration) -> Outcome {
    let minutes = |life: Duration| life.as_secs().div_ceil(60);
    // What was signed a moment ago has lost a moment.
    if left + Duration::from_secs(5) >= wanted {
        return Outcome::ok(format!("good for a policy of {} minutes, the longest there is", minutes(wanted)));
    }
    Outcome::warning(
        format!(
            "they end in {} minutes, and a policy for the largest file lives {}: it is cut short",
            minutes(left),
            minutes(wanted)
        ),
        "give the process credentials with a longer session (DurationSeconds of the role), or lower limits.max_size; \
         clients renew a policy by POST /api/uploads/{id}/policy",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn status(outcome: Outcome) -> Status {
        outcome.of("x").status()
    }

    #[test]
    fn credentials_have_to_outlive_the_longest_policy() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        assert_eq!(status(judge_life(minutes(98), minutes(98))), Status::Ok);
        assert_eq!(status(judge_life(minutes(10), minutes(98))), Status::Warning);
    }

    #[test]
    fn a_server_that_ignores_if_match_fails() {
        assert_eq!(status(judge_pin(Err(BucketError::Changed { key: String::new() }))), Status::Ok);
        assert_eq!(status(judge_pin(Ok(()))), Status::Failed);
        assert_eq!(status(judge_pin(Err(BucketError::Throttled { op: "read" }))), Status::Warning);
    }

    #[test]
    fn a_refused_form_says_what_to_set() {
        let refused = |code: &str| {
            let error = ApiError::FormRefused { status: 403, code: code.to_owned(), message: "no".to_owned() };
            let Outcome::Failed(trouble) = judge_post(Err(Unposted::Refused(error))) else { panic!("it was refused") };
            trouble.mend
        };
        assert!(refused("SignatureDoesNotMatch").contains("AWS_SECRET_ACCESS_KEY"));
        assert!(refused("AccessDenied").contains("s3:PutObject on staging/*"));
        assert!(refused("PermanentRedirect").contains("s3.region"));
    }
}
