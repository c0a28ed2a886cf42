//! Copies of one version, made within the server.

use std::time::Duration;

use aws_sdk_s3::config;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CopyObjectResult};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_jobs::model::Digest;
use longshore_jobs::model::sigv4::encode_path;
use longshore_jobs::model::upload::MAX_SIZE;
use longshore_jobs::outside::{BucketError, ObjectHead};

use super::S3Bucket;
use super::fault::{during, failed};
use super::objects::quoted;

/// Some servers answer only when all bytes are moved: 5 GB at 3 MB/s.
const LONGEST: Duration = Duration::from_secs(30 * 60);

impl S3Bucket {
    pub(super) async fn copy_version(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError> {
        if from.size > MAX_SIZE {
            let why = format!("{} has {} bytes, and one copy carries at most {MAX_SIZE}", from.key, from.size);
            return Err(failed("copy", why));
        }
        let patient = TimeoutConfig::builder().read_timeout(LONGEST).operation_attempt_timeout(LONGEST).build();
        let request = self.client.copy_object().bucket(&self.name).key(to);
        let request = request.copy_source(source(&self.name, &from.key)).copy_source_if_match(quoted(&from.etag));
        let request = request.checksum_algorithm(ChecksumAlgorithm::Sha256).customize();
        let answer = request.config_override(config::Config::builder().timeout_config(patient)).send().await;
        let copied = answer.map_err(during("copy", &from.key))?.copy_object_result;
        // A 200 is sent before the copy is made; only a result means that it was.
        let copied = copied.filter(|copied| copied.e_tag.is_some());
        copied.map(|copied| digest(&copied)).ok_or_else(|| failed("copy", "the server's 200 holds no result"))
    }
}

/// The header is a path, so every letter that is none of a path's is encoded, `+` and `%` too.
fn source(bucket: &str, key: &str) -> String {
    format!("{bucket}/{}", encode_path(key))
}

/// The digest of all bytes in one; that of a multipart copy would be one over the digests of its parts.
fn digest(copied: &CopyObjectResult) -> Option<Digest> {
    if copied.checksum_type.as_ref().is_some_and(|kind| *kind != ChecksumType::FullObject) {
        return None;
    }
    let bytes = STANDARD.decode(copied.checksum_sha256.as_deref()?).ok()?;
    hex::encode(bytes).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_in_a_copys_source() {
        for (key, expected) in [
            ("staging/o/u/r", "b/staging/o/u/r"),
            ("a b", "b/a%20b"),
            ("a+b%20", "b/a%2Bb%2520"),
            ("ü/🎉?#&", "b/%C3%BC/%F0%9F%8E%89%3F%23%26"),
            ("../x//", "b/../x//"),
        ] {
            assert_eq!(source("b", key), expected);
        }
    }

    #[test]
    fn only_the_digest_of_the_whole_counts() {
        let result = |value: &str, kind: Option<ChecksumType>| {
            digest(&CopyObjectResult::builder().checksum_sha256(value).set_checksum_type(kind).build())
        };
        let whole = Digest::of(b"whole").to_base64();

        assert_eq!(result(&whole, Some(ChecksumType::FullObject)), Some(Digest::of(b"whole")));
        assert_eq!(result(&whole, None), Some(Digest::of(b"whole")));
        assert_eq!(result(&whole, Some(ChecksumType::Composite)), None);
        assert_eq!(result(&format!("{whole}-2"), None), None);
        assert_eq!(digest(&CopyObjectResult::builder().build()), None);
    }
}
