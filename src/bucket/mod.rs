//! Buckets: where the bytes are. Each implements [`longshore_jobs::outside::Bucket`] and passes its contract tests.

pub(crate) mod local;
