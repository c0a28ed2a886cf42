//! Any bucket, with each request to it counted and timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use longshore_jobs::model::Digest;
use longshore_jobs::model::policy::{PolicyTerms, PostPolicy};
use longshore_jobs::outside::{Body, Bucket, BucketAddress, BucketError, Chunks, Listing, ObjectHead, Stored};

/// What is asked of a bucket over the network; signing asks nobody.
pub const OPS: [&str; 6] = ["head", "read", "put", "copy", "delete", "list"];

/// A bucket whose requests show in `longshore_s3_requests_total` and `longshore_s3_request_duration_seconds`. A folder counts
/// too, so that its dashboards are those of S3.
pub struct Metered(Arc<dyn Bucket>);

impl Metered {
    /// This one.
    #[must_use]
    pub const fn new(bucket: Arc<dyn Bucket>) -> Self {
        Self(bucket)
    }
}

/// The status that S3 has for such an outcome. What failed in any other way, or never got an answer, is a 500.
const fn code(error: &BucketError) -> &'static str {
    match error {
        BucketError::Missing { .. } => "404",
        BucketError::Changed { .. } => "412",
        BucketError::Throttled { .. } => "503",
        // Whoever fed the stream broke off, and the bucket had no part in it.
        BucketError::BrokenOff { .. } => "400",
        BucketError::Failed { .. } => "500",
    }
}

async fn metered<T>(op: &'static str, request: impl Future<Output = Result<T, BucketError>>) -> Result<T, BucketError> {
    metered_as(op, request, |_| "200").await
}

async fn metered_as<T>(
    op: &'static str,
    request: impl Future<Output = Result<T, BucketError>>,
    good: fn(&T) -> &'static str,
) -> Result<T, BucketError> {
    let started = Instant::now();
    let answer = request.await;
    let code = answer.as_ref().map_or_else(code, good);
    metrics::counter!("longshore_s3_requests_total", "op" => op, "code" => code).increment(1);
    metrics::histogram!("longshore_s3_request_duration_seconds", "op" => op).record(started.elapsed().as_secs_f64());
    answer
}

#[async_trait]
impl Bucket for Metered {
    async fn sign(&self, terms: PolicyTerms) -> Result<PostPolicy, BucketError> {
        self.0.sign(terms).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        metered_as("head", self.0.head(key), |found| if found.is_some() { "200" } else { "404" }).await
    }

    /// Timed until the first byte may come.
    async fn read(&self, head: &ObjectHead) -> Result<Body, BucketError> {
        metered("read", self.0.read(head)).await
    }

    async fn put(&self, key: &str, content_type: Option<&str>, bytes: Chunks<'_>) -> Result<Stored, BucketError> {
        metered("put", self.0.put(key, content_type, bytes)).await
    }

    async fn copy(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError> {
        metered("copy", self.0.copy(from, to)).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        metered("delete", self.0.delete(keys)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError> {
        metered("list", self.0.list(prefix, after)).await
    }

    async fn presign_get(&self, key: &str, filename: &str, life: Duration) -> Result<String, BucketError> {
        self.0.presign_get(key, filename, life).await
    }

    fn address(&self) -> BucketAddress {
        self.0.address()
    }
}
