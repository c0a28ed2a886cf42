//! Objects as a whole: looked at, listed, removed.

use std::time::Duration;

use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{Delete, EncodingType, Object, ObjectIdentifier};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::{BucketError, Listing, ObjectHead};
use percent_encoding::percent_decode_str;

use super::S3Bucket;
use super::fault::{during, failed};

/// The most keys in a page of a listing and in one request to delete, by S3's rules.
const PAGE: usize = 1000;

impl S3Bucket {
    pub(super) async fn head_object(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        let answer = self.client.head_object().bucket(&self.name).key(key).send().await;
        let status = answer.as_ref().err().and_then(SdkError::raw_response).map(|answer| answer.status().as_u16());
        if status == Some(404) {
            return self.confirm_missing(key).await.map(|()| None);
        }
        let found = answer.map_err(during("head", key))?;
        let etag = found.e_tag.ok_or_else(|| failed("head", "the server told no ETag"))?;
        let size = found.content_length.ok_or_else(|| failed("head", "the server told no length"))?;
        Ok(Some(ObjectHead {
            key: key.to_owned(),
            size,
            etag: unquoted(&etag),
            content_type: found.content_type,
            modified_at: found.last_modified.map(time).unwrap_or_default(),
        }))
    }

    /// An answer to HEAD has no body, so nobody can tell whose 404 it is; one to GET says what is missing. Few objects are
    /// asked for that are not there, so the second request is cheap.
    async fn confirm_missing(&self, key: &str) -> Result<(), BucketError> {
        let request = self.client.get_object().bucket(&self.name).key(key).range("bytes=0-0");
        match request.send().await.map_err(during("head", key)) {
            Err(BucketError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(failed("head", "the object was missing, and a moment later it was not")),
        }
    }

    pub(super) async fn list_objects(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        // XML cannot express every key that a client may choose.
        let request = request.encoding_type(EncodingType::Url).set_start_after(after.map(str::to_owned));
        let page = request.max_keys(PAGE as i32).send().await.map_err(during("list", prefix))?;
        let encoded = page.encoding_type == Some(EncodingType::Url);
        let listed = page.contents.unwrap_or_default().into_iter();
        let objects = listed.map(|object| head(object, encoded)).collect::<Result<Vec<_>, _>>()?;
        let more = page.is_truncated.unwrap_or(false);
        let next = objects.last().filter(|_| more).map(|head| head.key.clone());
        Ok(Listing { objects, next })
    }

    /// One by the plain request, which every server knows and which needs no checksum; more in batches, but for those whose
    /// keys cannot stand in XML.
    pub(super) async fn delete_objects(&self, keys: &[String]) -> Result<(), BucketError> {
        if let [key] = keys {
            return self.delete_object(key).await;
        }
        let (plain, odd): (Vec<&String>, Vec<&String>) = keys.iter().partition(|key| key.chars().all(fits_in_xml));
        for batch in plain.chunks(PAGE) {
            self.delete_batch(batch).await?;
        }
        for key in odd {
            self.delete_object(key).await?;
        }
        Ok(())
    }

    async fn delete_object(&self, key: &str) -> Result<(), BucketError> {
        let answer = self.client.delete_object().bucket(&self.name).key(key).send().await;
        match answer.map_err(during("delete", key)) {
            Ok(_) | Err(BucketError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The answer is 200 even where single objects stay.
    async fn delete_batch(&self, keys: &[&String]) -> Result<(), BucketError> {
        let named = keys.iter().map(|key| ObjectIdentifier::builder().key(*key).build());
        let named = named.collect::<Result<Vec<_>, _>>().map_err(|error| failed("delete", error))?;
        let batch = Delete::builder().set_objects(Some(named)).quiet(true).build();
        let batch = batch.map_err(|error| failed("delete", error))?;
        let answer = self.client.delete_objects().bucket(&self.name).delete(batch).send().await;
        let errors = answer.map_err(during("delete", &self.name))?.errors.unwrap_or_default();
        let stayed: Vec<_> = errors.iter().filter(|error| error.code() != Some("NoSuchKey")).collect();
        let Some(first) = stayed.first() else { return Ok(()) };
        if stayed.iter().all(|error| matches!(error.code(), Some("SlowDown" | "ServiceUnavailable"))) {
            return Err(BucketError::Throttled { op: "delete" });
        }
        Err(failed(
            "delete",
            format!(
                "{} of {} objects stay; {}: {} {}",
                stayed.len(),
                keys.len(),
                first.key().unwrap_or_default(),
                first.code().unwrap_or_default(),
                first.message().unwrap_or_default(),
            ),
        ))
    }
}

fn head(object: Object, encoded: bool) -> Result<ObjectHead, BucketError> {
    let key = object.key.unwrap_or_default();
    Ok(ObjectHead {
        key: if encoded { decode(&key)? } else { key },
        size: object.size.unwrap_or(0),
        etag: unquoted(&object.e_tag.unwrap_or_default()),
        content_type: None,
        // Whoever sweeps would take an object without a time for a very old one.
        modified_at: time(object.last_modified.ok_or_else(|| failed("list", "the server told no time of an object"))?),
    })
}

/// Encoded as a form is, so that a plus is a space.
fn decode(key: &str) -> Result<String, BucketError> {
    let spaced = key.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    Ok(decoded.map_err(|error| failed("list", error))?.into_owned())
}

/// Whether XML 1.0 can express it; a line's end would come back as another one.
fn fits_in_xml(letter: char) -> bool {
    matches!(letter, ' '..='\u{fffd}' | '\u{10000}'..)
}

/// As our rows keep it.
pub(super) fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

/// As conditions want it (RFC 9110, section 8.8.3).
pub(super) fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

fn time(time: DateTime) -> Timestamp {
    let millis = time.to_millis().unwrap_or_default();
    Timestamp::default() + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_listing_are_decoded_as_a_form() {
        assert_eq!(decode("a+b%2Bc%25/%C3%BC%01").unwrap(), "a b+c%/ü\u{1}");
        assert!(decode("%FF").is_err());
    }
}
