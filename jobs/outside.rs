//! What a job may touch beyond the ledger: the bucket, the queue and the clock.
//!
//! A trait stands only where a network is crossed or time is told. Each has exactly one contract test that every
//! implementation passes (`testkit::contract` for buckets, `queue::contract` in the service for queues).

use std::fs;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use uuid::Uuid;

use crate::job::{NewJob, Pool};
use crate::model::policy::{PolicyTerms, PostPolicy};
use crate::model::{Digest, Timestamp};

/// Tells the time, in jobs and doors alike. Tests crank it by hand.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::system_now()
    }
}

/// Takes jobs. A push onto a waiting job of the same kind and subject takes the earlier due time and the better lane; onto
/// a running one it makes that one run once more. Nothing is swallowed.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Puts the jobs on, all or none.
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError>;

    /// The jobs about these that wait or run now, in no order. Cheap for some few.
    async fn about(&self, subjects: &[Uuid]) -> Result<Vec<QueuedJob>, LookError>;
}

/// A job as the queue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedJob {
    /// Its name.
    pub kind: String,
    /// What it is about.
    pub subject: Uuid,
    /// Who runs it.
    pub pool: Pool,
    /// Whether a worker holds it.
    pub is_running: bool,
    /// Since when it may run, or from when on.
    pub due: Timestamp,
    /// How many attempts have failed.
    pub attempts: u32,
    /// How many it has.
    pub max_attempts: u32,
    /// What went wrong last; `None` where nothing did, and on queues that do not keep it.
    pub error: Option<String>,
}

/// A queue could not be asked what it has.
#[derive(Debug, thiserror::Error)]
#[error("look for jobs on the queue")]
pub struct LookError(#[source] pub BoxError);

/// A queue could not be reached or refused.
#[derive(Debug, thiserror::Error)]
#[error("push {count} jobs onto the queue")]
pub struct QueueError {
    /// How many jobs were to be pushed.
    pub count: usize,
    /// What the engine said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What HEAD tells of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Where it is.
    pub key: String,
    /// Bytes.
    pub size: i64,
    /// The version of the bytes, without quotes; not a hash of anything.
    pub etag: String,
    /// The media type it was stored with.
    pub content_type: Option<String>,
    /// When it was stored; the epoch where the server did not say.
    pub modified_at: Timestamp,
}

impl ObjectHead {
    /// When it was stored; `None` where the server did not say.
    #[must_use]
    pub fn landed_at(&self) -> Option<Timestamp> {
        Some(self.modified_at).filter(|at| *at > Timestamp::default())
    }
}

/// The bytes of one version of an object.
pub enum Body {
    /// A local file, opened at its start: hashed on one thread, without hand-overs.
    File(fs::File),
    /// Chunks in order from a server.
    Stream(BoxStream<'static, Result<Bytes, BucketError>>),
}

/// A page of a listing, in the order of the keys' bytes.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// At most as many as were asked for.
    pub objects: Vec<ObjectHead>,
    /// Where the next page starts: hand it in as `after`. `None` on the last page.
    pub next: Option<String>,
}

/// Chunks that are to become an object.
pub type Chunks<'a> = BoxStream<'a, Result<Bytes, BoxError>>;

/// Any error of whoever feeds a [`Chunks`] stream.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What was stored by [`Bucket::put`].
#[derive(Clone, Debug)]
pub struct Stored {
    /// As HEAD would tell it.
    pub head: ObjectHead,
    /// Of the bytes as they passed through.
    pub sha256: Digest,
}

/// Object storage: S3, or a folder that behaves like it.
#[async_trait]
pub trait Bucket: Send + Sync {
    /// Signs a POST policy; its life is cut to that of the credentials.
    async fn sign(&self, terms: PolicyTerms) -> Result<PostPolicy, BucketError>;

    /// What is at the key; `None` when nothing is.
    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError>;

    /// Reads the version `etag`. [`BucketError::Changed`] when another one is there, [`BucketError::Missing`] when none.
    async fn read(&self, head: &ObjectHead) -> Result<Body, BucketError>;

    /// Stores a stream under a key. Nothing is stored when the stream fails or is dropped.
    async fn put(&self, key: &str, content_type: Option<&str>, bytes: Chunks<'_>) -> Result<Stored, BucketError>;

    /// Copies the version `from.etag` to another key. `Some` is the digest of the copy, where the server computed it.
    /// [`BucketError::Changed`] and [`BucketError::Missing`] as with [`Bucket::read`].
    async fn copy(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError>;

    /// Removes the objects; those that are not there are no error.
    async fn delete(&self, keys: &[String]) -> Result<(), BucketError>;

    /// Lists keys with the prefix that sort behind `after`, at most 1,000.
    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError>;

    /// A URL by which anyone can GET the object for `life`, as an attachment of that name.
    async fn presign_get(&self, key: &str, filename: &str, life: Duration) -> Result<String, BucketError>;

    /// What a page needs before it asks for an upload.
    fn address(&self) -> BucketAddress;
}

/// Where the bucket is, without anything secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketAddress {
    /// Where forms are posted.
    pub url: String,
    /// Its name.
    pub bucket: String,
    /// For signatures.
    pub region: String,
    /// The public half of the credentials.
    pub access_key_id: String,
}

/// What can go wrong with a bucket, as far as callers treat it differently.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// There is no such object.
    #[error("object {key} is missing")]
    Missing {
        /// Where it was looked for.
        key: String,
    },
    /// The object is another version than the one asked for.
    #[error("object {key} has changed")]
    Changed {
        /// Where it is.
        key: String,
    },
    /// The server asks for fewer requests.
    #[error("{op} was throttled")]
    Throttled {
        /// The operation.
        op: &'static str,
    },
    /// The stream that was to be stored ended in an error; nothing was stored.
    #[error("the bytes for {key} broke off")]
    BrokenOff {
        /// Where they were going.
        key: String,
        /// What its feeder said.
        #[source]
        source: BoxError,
    },
    /// Anything that a second try may cure.
    #[error("{op} failed on the bucket")]
    Failed {
        /// The operation.
        op: &'static str,
        /// What the bucket said.
        #[source]
        source: BoxError,
    },
}
