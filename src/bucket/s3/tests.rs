//! The bucket on S3 from outside: its contract and its forms on MiniStack, its nerves on a server that misbehaves.

mod judges;
mod ministack;
mod missing;
mod puts;
mod reads;
mod server;
mod signing;

use aws_sdk_s3::config::Credentials;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use longshore_jobs::model::Timestamp;
use longshore_jobs::testkit::given;

use super::*;
use server::{Act, Asked, ETAG, Server};

const PART: usize = 1000;

/// Credentials of the test's own, in a region that nobody has to look up.
fn options(bucket: &str, credentials: Credentials) -> Options {
    let credentials = Some(SharedCredentialsProvider::new(credentials));
    Options { region: Some("us-east-1".to_owned()), credentials, ..Options::new(bucket) }
}

fn credentials() -> Credentials {
    Credentials::new("test", "test", None, None, "test")
}

/// A bucket on a server of the test's own, with parts of [`PART`] bytes.
async fn on(server: &Server, parts: usize) -> S3Bucket {
    let endpoint = Some(server.url.clone());
    let options = Options { endpoint, path_style: true, part_size: PART, ..options("b", credentials()) };
    S3Bucket::open(Options { read_budget: parts * PART, put_budget: parts * PART, ..options }).await.unwrap()
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn version(size: usize) -> ObjectHead {
    let (key, etag) = ("k".to_owned(), ETAG.to_owned());
    ObjectHead { key, etag, size: size as i64, content_type: None, modified_at: Timestamp::default() }
}

async fn whole(body: Body) -> Result<Vec<u8>, BucketError> {
    let Body::Stream(mut chunks) = body else { panic!("S3 has no files") };
    let mut whole = Vec::new();
    while let Some(chunk) = chunks.next().await {
        whole.extend_from_slice(&chunk?);
    }
    Ok(whole)
}

fn chunks(parts: impl IntoIterator<Item = Vec<u8>, IntoIter: Send + 'static>) -> Chunks<'static> {
    stream::iter(parts.into_iter().map(|part| Ok(Bytes::from(part)))).boxed()
}
