//! Reads of one version: one request for what is small, ranges side by side for what is large.
//!
//! Every request carries `If-Match`, and the ETag of every answer is held against it too, for servers that do not know
//! the condition. A server that ignores `Range` is refused: the whole object would come once for each part.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use longshore_jobs::outside::{BucketError, ObjectHead};

use super::S3Bucket;
use super::fault::{during, failed};
use super::objects::{quoted, unquoted};
use super::parts::{self, Cut};

/// How long a server may pause within a body.
const IDLE: Duration = Duration::from_secs(30);
/// How often a part is asked for whose body breaks off, and the pause before the second time.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

/// Chunks in order.
type Stream = BoxStream<'static, Result<Bytes, BucketError>>;

/// One version of an object, and whom to ask for it.
pub(super) struct Version {
    client: Client,
    bucket: String,
    head: ObjectHead,
}

/// A body is not what was asked for.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the body broke off")]
    Off(#[source] aws_sdk_s3::primitives::ByteStreamError),
    #[error("the body paused for {IDLE:?}")]
    Idle,
    #[error("the body ended {0} bytes short")]
    Short(u64),
    #[error("the body is longer than it should be")]
    Long,
}

impl S3Bucket {
    /// An object below two parts comes faster in one request than in ranges (16 MiB with parts of 8 MiB).
    pub(super) async fn stream(&self, head: &ObjectHead) -> Result<Stream, BucketError> {
        let version = Version { client: self.client.clone(), bucket: self.name.clone(), head: head.clone() };
        let size = u64::try_from(head.size).unwrap_or(0);
        if size < 2 * self.part_size as u64 {
            return whole(&version, size).await;
        }
        let cut = Cut { size, part: self.part_size as u64, streams: self.streams };
        parts::read(version, cut, &self.budget).await
    }
}

/// Holds no more than a connection's buffer, so it needs no part of the budget.
async fn whole(version: &Version, size: u64) -> Result<Stream, BucketError> {
    let body = version.open(None).await?.body;
    let chunks = stream::try_unfold((body, size), async |(mut body, left)| match next(&mut body, left).await {
        Ok(Some(chunk)) => {
            let left = left - chunk.len() as u64;
            Ok(Some((chunk, (body, left))))
        }
        Ok(None) => Ok(None),
        Err(broken) => Err(failed("read", broken)),
    });
    Ok(chunks.boxed())
}

/// The next bytes of a body that has `left` more; `None` at its rightful end.
async fn next(body: &mut ByteStream, left: u64) -> Result<Option<Bytes>, Broken> {
    let chunk = tokio::time::timeout(IDLE, body.next()).await.map_err(|_| Broken::Idle)?;
    match chunk.transpose().map_err(Broken::Off)? {
        Some(chunk) if chunk.len() as u64 > left => Err(Broken::Long),
        Some(chunk) => Ok(Some(chunk)),
        None if left > 0 => Err(Broken::Short(left)),
        None => Ok(None),
    }
}

impl Version {
    /// All bytes of a range. The SDK repeats a request that is refused, this one whose body breaks off.
    pub(super) async fn fetch(&self, range: Range<u64>) -> Result<Bytes, BucketError> {
        let mut tries = 1;
        loop {
            let body = self.open(Some(&range)).await?.body;
            match gather(body, range.end - range.start).await {
                Ok(bytes) => return Ok(bytes),
                Err(broken) if tries == TRIES => return Err(failed("read", broken)),
                Err(broken) => tracing::debug!(error = %broken, ?range, "asking for a part once more"),
            }
            tokio::time::sleep(PAUSE * tries).await;
            tries += 1;
        }
    }

    async fn open(&self, range: Option<&Range<u64>>) -> Result<GetObjectOutput, BucketError> {
        let key = &self.head.key;
        let request = self.client.get_object().bucket(&self.bucket).key(key).if_match(quoted(&self.head.etag));
        let request = request.set_range(range.map(|range| format!("bytes={}-{}", range.start, range.end - 1)));
        let answer = request.send().await.map_err(during("read", key))?;
        if answer.e_tag.as_deref().is_some_and(|etag| unquoted(etag) != self.head.etag) {
            return Err(BucketError::Changed { key: key.clone() });
        }
        if let Some(range) = range {
            self.check(range, answer.content_range())?;
        }
        Ok(answer)
    }

    fn check(&self, range: &Range<u64>, told: Option<&str>) -> Result<(), BucketError> {
        let asked = format!("bytes {}-{}/{}", range.start, range.end - 1, self.head.size);
        match told {
            Some(told) if told == asked => Ok(()),
            Some(told) => Err(failed("read", format!("the server sent {told} where {asked} was asked for"))),
            None => Err(failed("read", "the server does not heed ranges")),
        }
    }
}

async fn gather(mut body: ByteStream, length: u64) -> Result<Bytes, Broken> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or(0));
    while let Some(chunk) = next(&mut body, length - bytes.len() as u64).await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}
