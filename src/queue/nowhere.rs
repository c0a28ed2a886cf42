//! A bucket that has nothing and takes nothing: what jobs that touch no object are given.

use std::time::Duration;

use async_trait::async_trait;
use longshore_jobs::model::Digest;
use longshore_jobs::model::policy::{PolicyTerms, PostPolicy};
use longshore_jobs::outside::{Body, Bucket, BucketAddress, BucketError, Chunks, Listing, ObjectHead, Stored};

/// Refuses everything.
pub struct Nowhere;

fn refused(op: &'static str) -> BucketError {
    BucketError::Failed { op, source: "there is no bucket here".into() }
}

#[async_trait]
impl Bucket for Nowhere {
    async fn sign(&self, _terms: PolicyTerms) -> Result<PostPolicy, BucketError> {
        Err(refused("sign"))
    }

    async fn head(&self, _key: &str) -> Result<Option<ObjectHead>, BucketError> {
        Err(refused("head"))
    }

    async fn read(&self, _head: &ObjectHead) -> Result<Body, BucketError> {
        Err(refused("read"))
    }

    async fn put(&self, _key: &str, _content_type: Option<&str>, _bytes: Chunks<'_>) -> Result<Stored, BucketError> {
        Err(refused("put"))
    }

    async fn copy(&self, _from: &ObjectHead, _to: &str) -> Result<Option<Digest>, BucketError> {
        Err(refused("copy"))
    }

    async fn delete(&self, _keys: &[String]) -> Result<(), BucketError> {
        Err(refused("delete"))
    }

    async fn list(&self, _prefix: &str, _after: Option<&str>) -> Result<Listing, BucketError> {
        Err(refused("list"))
    }

    async fn presign_get(&self, _key: &str, _filename: &str, _life: Duration) -> Result<String, BucketError> {
        Err(refused("presign"))
    }

    fn address(&self) -> BucketAddress {
        BucketAddress {
            url: String::new(),
            bucket: "nowhere".to_owned(),
            region: String::new(),
            access_key_id: String::new(),
        }
    }
}
