//! Buckets: where the bytes are. Each implements [`longshore_jobs::outside::Bucket`] and passes its contract tests.

mod attachment;
pub(crate) mod local;
#[cfg_attr(not(test), expect(dead_code, reason = "the choice between the buckets comes next"))]
pub(crate) mod s3;
