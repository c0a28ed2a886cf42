//! A bucket in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use longshore_jobs::model::policy::{PolicyTerms, PostPolicy};
use longshore_jobs::model::{Digest, Timestamp};
use longshore_jobs::outside::{self, BucketAddress, BucketError, Chunks, Listing, ObjectHead, Stored};
use uuid::Uuid;

/// Objects by their keys.
#[derive(Default)]
pub struct Shelf {
    pub objects: Mutex<BTreeMap<String, (ObjectHead, Bytes)>>,
    /// Whether every request fails.
    pub away: AtomicBool,
}

impl Shelf {
    /// Where objects lie.
    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn lay(&self, key: &str, bytes: Bytes) -> ObjectHead {
        let head = ObjectHead {
            key: key.to_owned(),
            size: i64::try_from(bytes.len()).unwrap(),
            etag: Uuid::new_v4().to_string(),
            content_type: None,
            modified_at: Timestamp::from_millis(0),
        };
        self.objects.lock().unwrap().insert(key.to_owned(), (head.clone(), bytes));
        head
    }

    fn answers(&self, op: &'static str) -> Result<(), BucketError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(BucketError::Failed { op, source: "secret internals of the bucket".into() });
        }
        Ok(())
    }

    fn version(&self, head: &ObjectHead) -> Result<Bytes, BucketError> {
        match self.objects.lock().unwrap().get(&head.key) {
            None => Err(BucketError::Missing { key: head.key.clone() }),
            Some((now, _)) if now.etag != head.etag => Err(BucketError::Changed { key: head.key.clone() }),
            Some((_, bytes)) => Ok(bytes.clone()),
        }
    }
}

#[async_trait]
impl outside::Bucket for Shelf {
    async fn sign(&self, terms: PolicyTerms) -> Result<PostPolicy, BucketError> {
        self.answers("sign")?;
        let fields =
            BTreeMap::from([("key".to_owned(), terms.place.key()), ("policy".to_owned(), "signed".to_owned())]);
        Ok(PostPolicy { url: self.address().url, fields, expires_at: terms.expires_at })
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        self.answers("head")?;
        Ok(self.objects.lock().unwrap().get(key).map(|(head, _)| head.clone()))
    }

    async fn read(&self, head: &ObjectHead) -> Result<outside::Body, BucketError> {
        let bytes = self.version(head)?;
        Ok(outside::Body::Stream(futures_util::stream::iter([Ok(bytes)]).boxed()))
    }

    async fn put(&self, key: &str, _: Option<&str>, mut bytes: Chunks<'_>) -> Result<Stored, BucketError> {
        self.answers("put")?;
        let mut whole = BytesMut::new();
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|source| BucketError::BrokenOff { key: key.to_owned(), source })?;
            whole.extend_from_slice(&chunk);
        }
        let sha256 = Digest::of(&whole);
        Ok(Stored { head: self.lay(key, whole.freeze()), sha256 })
    }

    async fn copy(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError> {
        let bytes = self.version(from)?;
        self.lay(to, bytes.clone());
        Ok(Some(Digest::of(&bytes)))
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        self.answers("delete")?;
        self.objects.lock().unwrap().retain(|key, _| !keys.contains(key));
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError> {
        self.answers("list")?;
        let objects = self.objects.lock().unwrap();
        let heads = objects.values().map(|(head, _)| head);
        let behind = |head: &&ObjectHead| head.key.starts_with(prefix) && after.is_none_or(|after| *head.key > *after);
        Ok(Listing { objects: heads.filter(behind).cloned().collect(), next: None })
    }

    async fn presign_get(&self, key: &str, _: &str, life: Duration) -> Result<String, BucketError> {
        self.answers("presign")?;
        Ok(format!("https://bucket.test/{key}?expires={}", life.as_secs()))
    }

    fn address(&self) -> BucketAddress {
        BucketAddress {
            url: "https://bucket.test/uploads".to_owned(),
            bucket: "uploads".to_owned(),
            region: "eu-north-1".to_owned(),
            access_key_id: "AKIATEST".to_owned(),
        }
    }
}
