//! A bucket in memory: as true to the contract as the real ones, and open to a test's hand.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use super::HandClock;
use crate::model::Digest;
use crate::model::policy::{self, Credentials, PolicyTerms, PostPolicy};
use crate::model::sigv4::Signer;
use crate::outside::{Body, Bucket, BucketAddress, BucketError, Chunks, Clock, Listing, ObjectHead, Stored};

const PAGE: usize = 1000;
const CHUNK: usize = 64 * 1024;

/// Holds objects until it is dropped. Signs as a real one would, with credentials that are no secret.
pub struct MemoryBucket {
    clock: Arc<dyn Clock>,
    credentials: Credentials,
    objects: Mutex<BTreeMap<String, Object>>,
    versions: AtomicU64,
    broken: Mutex<BTreeSet<String>>,
    held: Mutex<BTreeSet<String>>,
    kept: AtomicUsize,
    hashes_copies: AtomicBool,
}

#[derive(Clone)]
struct Object {
    head: ObjectHead,
    bytes: Bytes,
}

impl Default for MemoryBucket {
    fn default() -> Self {
        Self::new(Arc::new(HandClock::default()))
    }
}

impl MemoryBucket {
    /// An empty one.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let (access_key_id, secret_access_key) = ("MEMORY".to_owned(), "no-secret".to_owned());
        let credentials = Credentials { access_key_id, secret_access_key, session_token: None };
        Self {
            clock,
            credentials,
            objects: Mutex::default(),
            versions: AtomicU64::new(1),
            broken: Mutex::default(),
            held: Mutex::default(),
            kept: AtomicUsize::default(),
            hashes_copies: AtomicBool::new(true),
        }
    }

    /// From now on nothing below the prefix can be looked at or read; it can still be copied and removed.
    pub fn break_key(&self, prefix: &str) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).insert(prefix.to_owned());
    }

    /// Ends what [`MemoryBucket::break_key`] began.
    pub fn mend_key(&self, prefix: &str) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).remove(prefix);
    }

    /// From now on nothing below the prefix can be removed; what it is to be removed with goes all the same.
    pub fn keep_key(&self, prefix: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(prefix.to_owned());
    }

    /// How often something was to be removed that cannot be.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.load(Ordering::SeqCst)
    }

    /// From now on it does not tell the digest of a copy, as many servers do not.
    pub fn hash_no_copies(&self) {
        self.hashes_copies.store(false, Ordering::SeqCst);
    }

    /// Puts an object there as a client's upload would.
    pub fn land(&self, key: &str, bytes: &[u8]) -> ObjectHead {
        self.store(key, None, Bytes::copy_from_slice(bytes))
    }

    /// The bytes at a key; `None` when there are none.
    #[must_use]
    pub fn bytes(&self, key: &str) -> Option<Bytes> {
        self.objects().get(key).map(|object| object.bytes.clone())
    }

    /// All keys in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.objects().keys().cloned().collect()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reach(&self, op: &'static str, key: &str) -> Result<(), BucketError> {
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.iter().any(|prefix| key.starts_with(prefix)) {
            return Err(BucketError::Failed { op, source: "the key is broken".into() });
        }
        Ok(())
    }

    fn store(&self, key: &str, content_type: Option<&str>, bytes: Bytes) -> ObjectHead {
        let head = ObjectHead {
            key: key.to_owned(),
            size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            etag: format!("v{}", self.versions.fetch_add(1, Ordering::Relaxed)),
            content_type: content_type.map(str::to_owned),
            modified_at: self.clock.now(),
        };
        self.objects().insert(key.to_owned(), Object { head: head.clone(), bytes });
        head
    }

    fn version(&self, head: &ObjectHead) -> Result<Object, BucketError> {
        let key = || head.key.clone();
        let object = self.objects().get(&head.key).cloned().ok_or_else(|| BucketError::Missing { key: key() })?;
        if object.head.etag == head.etag { Ok(object) } else { Err(BucketError::Changed { key: key() }) }
    }
}

#[async_trait]
impl Bucket for MemoryBucket {
    async fn sign(&self, terms: PolicyTerms) -> Result<PostPolicy, BucketError> {
        let BucketAddress { url, bucket, region, .. } = self.address();
        let signer = Signer { credentials: &self.credentials, region: &region, now: self.clock.now() };
        let fields = policy::sign(&terms, &bucket, &signer);
        Ok(PostPolicy { url, fields, expires_at: terms.expires_at })
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        self.reach("head", key)?;
        Ok(self.objects().get(key).map(|object| object.head.clone()))
    }

    async fn read(&self, head: &ObjectHead) -> Result<Body, BucketError> {
        self.reach("read", &head.key)?;
        let bytes = self.version(head)?.bytes;
        let chunks = (0..bytes.len()).step_by(CHUNK).map(|at| bytes.slice(at..bytes.len().min(at + CHUNK)));
        let chunks: Vec<_> = chunks.map(Ok).collect();
        Ok(Body::Stream(stream::iter(chunks).boxed()))
    }

    async fn put(&self, key: &str, content_type: Option<&str>, mut bytes: Chunks<'_>) -> Result<Stored, BucketError> {
        let mut whole = BytesMut::new();
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|source| BucketError::BrokenOff { key: key.to_owned(), source })?;
            whole.extend_from_slice(&chunk);
        }
        let sha256 = Digest::of(&whole);
        Ok(Stored { head: self.store(key, content_type, whole.freeze()), sha256 })
    }

    async fn copy(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError> {
        let Object { head, bytes } = self.version(from)?;
        let sha256 = Digest::of(&bytes);
        self.store(to, head.content_type.as_deref(), bytes);
        Ok(self.hashes_copies.load(Ordering::SeqCst).then_some(sha256))
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (stay, go): (Vec<_>, Vec<_>) =
            keys.iter().partition(|key| held.iter().any(|prefix| key.starts_with(prefix)));
        let mut objects = self.objects();
        for key in go {
            objects.remove(key);
        }
        if stay.is_empty() {
            return Ok(());
        }
        self.kept.fetch_add(1, Ordering::SeqCst);
        Err(BucketError::Failed { op: "delete", source: "the key is kept".into() })
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError> {
        self.reach("list", prefix)?;
        let objects = self.objects();
        let behind = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = objects.range::<str, _>((behind, Bound::Unbounded)).map(|(_, object)| &object.head);
        let mut found = found.filter(|head| head.key.starts_with(prefix));
        let page: Vec<_> = found.by_ref().take(PAGE).cloned().collect();
        let next = found.next().and_then(|_| page.last()).map(|head| head.key.clone());
        Ok(Listing { objects: page, next })
    }

    async fn presign_get(&self, key: &str, _filename: &str, life: Duration) -> Result<String, BucketError> {
        Ok(format!("{}/{key}?life={}", self.address().url, life.as_secs()))
    }

    fn address(&self) -> BucketAddress {
        BucketAddress {
            url: "http://bucket.test/memory".to_owned(),
            bucket: "memory".to_owned(),
            region: "local".to_owned(),
            access_key_id: self.credentials.access_key_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_a_bucket() {
        super::super::contract::bucket(&MemoryBucket::default()).await;
    }

    #[tokio::test]
    async fn what_lands_is_there() {
        let bucket = MemoryBucket::default();
        let head = bucket.land("staging/a", b"bytes");
        assert_eq!(bucket.head("staging/a").await.unwrap(), Some(head));
        assert_eq!(bucket.bytes("staging/a").as_deref(), Some(b"bytes".as_slice()));
        assert_eq!(bucket.keys(), ["staging/a"]);
    }
}
