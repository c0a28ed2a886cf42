//! Buckets: where the bytes are. Each implements [`longshore_jobs::outside::Bucket`] and passes its contract tests.

mod attachment;
pub(crate) mod local;
pub(crate) mod metered;
pub(crate) mod s3;
