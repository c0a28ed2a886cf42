//! A bucket in memory: the same promises as a real one, as the contract shows, and hooks to play the client.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::HandClock;
use crate::model::policy::{PolicyTerms, PostPolicy};
use crate::model::{Digest, Timestamp};
use crate::outside::{
    Body, Bucket, BucketAddress, BucketError, Chunks, Clock, Listing, ObjectHead, Stored, SystemClock,
};

/// How many keys a page of a listing holds.
const PAGE: usize = 1000;

/// Keeps objects in a map.
pub struct MemoryBucket {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    versions: u64,
    objects: BTreeMap<String, (ObjectHead, Bytes)>,
}

impl Default for MemoryBucket {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), state: Mutex::default() }
    }
}

impl MemoryBucket {
    /// A bucket whose objects are as old as this clock says.
    #[must_use]
    pub fn with_clock(clock: Arc<HandClock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Puts an object as a client would, without any notice.
    pub fn land(&self, key: &str, bytes: &[u8]) -> ObjectHead {
        self.keep(key, None, Bytes::copy_from_slice(bytes))
    }

    /// Every key, sorted.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    fn keep(&self, key: &str, content_type: Option<String>, bytes: Bytes) -> ObjectHead {
        let modified_at: Timestamp = self.clock.now();
        let mut state = self.lock();
        state.versions += 1;
        let size = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let etag = format!("v{}", state.versions);
        let head = ObjectHead { key: key.to_owned(), size, etag, content_type, modified_at };
        state.objects.insert(key.to_owned(), (head.clone(), bytes));
        head
    }

    /// The bytes of exactly that version.
    fn version(&self, wanted: &ObjectHead) -> Result<(ObjectHead, Bytes), BucketError> {
        match self.lock().objects.get(&wanted.key) {
            None => Err(BucketError::Missing { key: wanted.key.clone() }),
            Some((head, _)) if head.etag != wanted.etag => Err(BucketError::Changed { key: wanted.key.clone() }),
            Some(found) => Ok(found.clone()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Bucket for MemoryBucket {
    async fn sign(&self, terms: PolicyTerms) -> Result<PostPolicy, BucketError> {
        let fields = BTreeMap::from([("key".to_owned(), terms.key)]);
        Ok(PostPolicy { url: "memory://bucket".to_owned(), fields, expires_at: terms.expires_at })
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        Ok(self.lock().objects.get(key).map(|(head, _)| head.clone()))
    }

    async fn read(&self, head: &ObjectHead) -> Result<Body, BucketError> {
        let (_, bytes) = self.version(head)?;
        let chunks: Vec<_> = bytes.chunks(3).map(Bytes::copy_from_slice).map(Ok).collect();
        Ok(Body::Stream(stream::iter(chunks).boxed()))
    }

    async fn put(&self, key: &str, content_type: Option<&str>, bytes: Chunks<'_>) -> Result<Stored, BucketError> {
        let chunks: Vec<Bytes> =
            bytes.try_collect().await.map_err(|source| BucketError::BrokenOff { key: key.to_owned(), source })?;
        let bytes = Bytes::from(chunks.concat());
        let sha256 = Digest::of(&bytes);
        Ok(Stored { head: self.keep(key, content_type.map(str::to_owned), bytes), sha256 })
    }

    async fn copy(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError> {
        let (head, bytes) = self.version(from)?;
        self.keep(to, head.content_type, bytes);
        Ok(None)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        let mut state = self.lock();
        for key in keys {
            state.objects.remove(key);
        }
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError> {
        let state = self.lock();
        let start = after.filter(|after| *after >= prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        let found = state.objects.range::<str, _>((start, Bound::Unbounded));
        let mut objects: Vec<_> = found
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(PAGE + 1)
            .map(|(_, (head, _))| head.clone())
            .collect();
        let more = objects.len() > PAGE;
        objects.truncate(PAGE);
        let next = objects.last().filter(|_| more).map(|head| head.key.clone());
        Ok(Listing { objects, next })
    }

    async fn presign_get(&self, key: &str, _filename: &str, _life: Duration) -> Result<String, BucketError> {
        Ok(format!("memory://bucket/{key}"))
    }

    fn address(&self) -> BucketAddress {
        BucketAddress {
            url: "memory://bucket".to_owned(),
            bucket: "memory".to_owned(),
            region: "nowhere".to_owned(),
            access_key_id: "none".to_owned(),
        }
    }
}
