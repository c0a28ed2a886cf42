//! A stream becomes an object: in one request when it is short, else part by part.
//!
//! Nothing is seen at the key before the last request, so a stream that fails or is dropped leaves what was there before.
//! One part is sent while the next one is gathered: memory is two parts, however long the stream.
//!
//! All puts share a budget of parts. A part takes its permit when it has outgrown what any connection may hold, so small files
//! never wait for it, and gives it back when it is sent. Nobody waits for a permit with one in hand that only he can give
//! back: a part in hand is being sent meanwhile. So the budget cannot lock up.

use std::mem;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use longshore_jobs::job::with_causes;
use longshore_jobs::model::Digest;
use longshore_jobs::outside::{BucketError, Chunks, ObjectHead, Stored};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::S3Bucket;
use super::fault::{during, failed};
use super::objects::unquoted;
use super::parts::Budget;

/// A part of 8 MiB over a line of 50 KB/s. Whether anything moves is watched apart.
const LONGEST: Duration = Duration::from_secs(180);
/// The share of a part that is gathered without a permit: 256 KiB of 8 MiB.
const FREE_SHARE: usize = 32;
/// What S3 itself says of an object without a type differs from server to server; said by us it is the same on all.
const UNTYPED: &str = "application/octet-stream";

impl S3Bucket {
    pub(super) async fn put_stream(
        &self,
        key: &str,
        content_type: Option<&str>,
        bytes: Chunks<'_>,
    ) -> Result<Stored, BucketError> {
        let content_type = content_type.unwrap_or(UNTYPED);
        let mut source = Source::new(key, bytes, self);
        let first = source.part().await?;
        let etag = if source.ended {
            self.put_whole(key, content_type, first).await?
        } else {
            self.put_parts(key, content_type, first, &mut source).await?
        };
        let head = ObjectHead {
            key: key.to_owned(),
            size: source.size,
            etag: unquoted(&etag.ok_or_else(|| failed("put", "the server told no ETag"))?),
            content_type: Some(content_type.to_owned()),
            modified_at: self.clock.now(),
        };
        Ok(Stored { head, sha256: Digest::finish(source.hasher) })
    }

    async fn put_whole(&self, key: &str, content_type: &str, part: Part) -> Result<Option<String>, BucketError> {
        let request = self.client.put_object().bucket(&self.name).key(key).content_type(content_type);
        let request = request.body(ByteStream::from(part.bytes)).customize().config_override(patient());
        Ok(request.send().await.map_err(during("put", key))?.e_tag)
    }

    async fn put_parts(
        &self,
        key: &str,
        content_type: &str,
        first: Part,
        source: &mut Source<'_>,
    ) -> Result<Option<String>, BucketError> {
        let mut upload = Upload::begin(self, key, content_type).await?;
        let sent = upload.send_all(first, source).await;
        if sent.is_err() {
            upload.target.abort().await;
        }
        upload.open = false;
        sent
    }
}

fn patient() -> config::Builder {
    let limits = TimeoutConfig::builder().read_timeout(LONGEST).operation_attempt_timeout(LONGEST).build();
    config::Config::builder().timeout_config(limits)
}

/// The stream cut into parts, and what is known of it so far.
struct Source<'a> {
    key: &'a str,
    chunks: Chunks<'a>,
    part_size: usize,
    budget: &'a Budget,
    /// Came with the last chunk of a part and belongs to the next.
    over: Bytes,
    hasher: Sha256,
    size: i64,
    ended: bool,
}

impl<'a> Source<'a> {
    fn new(key: &'a str, chunks: Chunks<'a>, bucket: &'a S3Bucket) -> Self {
        let (part_size, budget) = (bucket.part_size, &bucket.put_budget);
        Self { key, chunks, part_size, budget, over: Bytes::new(), hasher: Sha256::new(), size: 0, ended: false }
    }

    /// The next part, full but for the last one of the stream.
    async fn part(&mut self) -> Result<Part, BucketError> {
        let (mut part, mut room) = (BytesMut::new(), None);
        let over = mem::take(&mut self.over);
        self.take(&mut part, over);
        while part.len() < self.part_size {
            if room.is_none() && part.len() > self.part_size / FREE_SHARE {
                room = Some(self.budget.wait().await);
                part.reserve(self.part_size - part.len());
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => {
                    self.hasher.update(&chunk);
                    self.size += i64::try_from(chunk.len()).unwrap_or(i64::MAX);
                    self.take(&mut part, chunk);
                }
                Some(Err(source)) => return Err(BucketError::BrokenOff { key: self.key.to_owned(), source }),
                None => {
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(Part { bytes: part.freeze(), _room: room })
    }

    fn take(&mut self, part: &mut BytesMut, mut chunk: Bytes) {
        self.over = chunk.split_off(chunk.len().min(self.part_size - part.len()));
        part.extend_from_slice(&chunk);
    }
}

/// A part in hand.
#[derive(Default)]
struct Part {
    bytes: Bytes,
    /// `None` for one that is small enough for every connection to have one, or came in one chunk.
    _room: Option<OwnedSemaphorePermit>,
}

/// A multipart upload that is aborted when it is dropped open.
struct Upload {
    target: Target,
    open: bool,
}

#[derive(Clone)]
struct Target {
    client: Client,
    bucket: String,
    key: String,
    id: String,
}

impl Upload {
    async fn begin(bucket: &S3Bucket, key: &str, content_type: &str) -> Result<Self, BucketError> {
        let request = bucket.client.create_multipart_upload().bucket(&bucket.name).key(key);
        let begun = request.content_type(content_type).send().await.map_err(during("put", key))?;
        let id = begun.upload_id.ok_or_else(|| failed("put", "the server told no id of the upload"))?;
        let (client, bucket, key) = (bucket.client.clone(), bucket.name.clone(), key.to_owned());
        Ok(Self { target: Target { client, bucket, key, id }, open: true })
    }

    async fn send_all(&self, first: Part, source: &mut Source<'_>) -> Result<Option<String>, BucketError> {
        let (mut sent, mut part) = (Vec::new(), first);
        while !part.bytes.is_empty() {
            let sending = self.target.send(sent.len() + 1, part);
            let gathering = async { if source.ended { Ok(Part::default()) } else { source.part().await } };
            let (done, next) = tokio::try_join!(sending, gathering)?;
            sent.push(done);
            part = next;
        }
        self.target.complete(sent).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // Without a runtime the process is at its end, and the bucket's lifecycle rule has to do it.
        if let Ok(runtime) = Handle::try_current() {
            let target = self.target.clone();
            runtime.spawn(async move { target.abort().await });
        }
    }
}

impl Target {
    async fn send(&self, number: usize, part: Part) -> Result<CompletedPart, BucketError> {
        let number = i32::try_from(number).map_err(|error| failed("put", error))?;
        let request = self.client.upload_part().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
        let request = request.part_number(number).body(ByteStream::from(part.bytes)).customize();
        let sent = request.config_override(patient()).send().await.map_err(during("put", &self.key))?;
        // What the SDK sent along when it was told to; else `None`.
        let completed = CompletedPart::builder().part_number(number).set_checksum_crc32(sent.checksum_crc32);
        Ok(completed.set_e_tag(sent.e_tag).build())
    }

    async fn complete(&self, parts: Vec<CompletedPart>) -> Result<Option<String>, BucketError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = self.client.complete_multipart_upload().bucket(&self.bucket).key(&self.key);
        let request = request.upload_id(&self.id).multipart_upload(parts).customize();
        Ok(request.config_override(patient()).send().await.map_err(during("put", &self.key))?.e_tag)
    }

    async fn abort(&self) {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(&self.key).upload_id(&self.id);
        if let Err(error) = request.send().await.map_err(during("put", &self.key)) {
            tracing::warn!(key = self.key, error = %with_causes(&error), "a broken upload's parts stay behind");
        }
    }
}
