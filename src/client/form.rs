//! The form post by which bytes reach a bucket (Amazon S3 API reference, "POST Object").
//!
//! The body is put together by hand: fields first, `file` last, and its exact length said up front, because S3 takes no
//! chunked forms. Small files come whole from memory, so that a body is one buffer; larger ones are streamed from the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Body, Client, RequestBuilder, Response, Url};
use tokio::io::AsyncReadExt as _;

use super::api::PolicyForm;
use super::transport::{ATTEMPTS, ApiError, LocalFault, Transport, backoff, travelling};

const CHUNK: usize = 512 * 1024;
/// Time for an answer even when no bytes have to travel.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes to post.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// In memory.
    Whole(Bytes),
    /// On the disk, `size` bytes of it.
    File {
        /// Where.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
}

impl Content {
    /// Bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }
}

/// What has gone out, told to whoever shows progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// A try begins: what was sent before does not count.
    Again,
    /// So many bytes more.
    More(u64),
}

/// Posts the form. `Ok` once the bucket has the object.
pub(crate) async fn post(
    transport: &Transport,
    form: &PolicyForm,
    content: &Content,
    sent: impl Fn(Sent) + Clone + Send + Sync + 'static,
) -> Result<(), ApiError> {
    let url: Url = form
        .url
        .parse()
        .map_err(|_| ApiError::Strange { url: form.url.clone(), what: "the policy's URL is none".to_owned() })?;
    let envelope = Envelope::around(form);
    let limit = PATIENCE + travelling(content.size());
    let mut attempt = 1;
    loop {
        let answer = transport.send(&url, |client| {
            sent(Sent::Again);
            Ok(envelope.request(client, &url, content, sent.clone())?.timeout(limit))
        });
        let answer = answer.await.map_err(of_this_form)?;
        if answer.status().is_success() {
            return Ok(());
        }
        match refusal(answer).await {
            error if is_silence(&error) && attempt < ATTEMPTS => tokio::time::sleep(backoff(attempt)).await,
            error => return Err(error),
        }
        attempt += 1;
    }
}

/// A server that answers others may still not get these bytes in time; one that takes no connection answers nobody.
fn of_this_form(error: ApiError) -> ApiError {
    match error {
        ApiError::Unreachable { url, source } if source.is_timeout() && !source.is_connect() => {
            ApiError::TooSlow { url }
        }
        error => error,
    }
}

/// Whether the bucket gave up because nothing came for a while, which says nothing about the form.
fn is_silence(error: &ApiError) -> bool {
    matches!(error, ApiError::FormRefused { status: 400, code, .. } if code == "RequestTimeout")
}

/// What stands before and behind the file's bytes.
struct Envelope {
    boundary: String,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Envelope {
    fn around(form: &PolicyForm) -> Self {
        let boundary = format!("longshore-{:032x}", rand::random::<u128>());
        let mut head = String::with_capacity(2048);
        for (name, value) in &form.fields {
            head.push_str(&format!(
                "--{boundary}\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        head.push_str(&format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"file\"\r\n\
             content-type: application/octet-stream\r\n\r\n"
        ));
        let tail = format!("\r\n--{boundary}--\r\n");
        Self { boundary, head: head.into_bytes(), tail: tail.into_bytes() }
    }

    fn request(
        &self,
        client: &Client,
        url: &Url,
        content: &Content,
        sent: impl Fn(Sent) + Send + Sync + 'static,
    ) -> Result<RequestBuilder, ApiError> {
        let length = (self.head.len() + self.tail.len()) as u64 + content.size();
        let request = client
            .post(url.clone())
            .header(CONTENT_TYPE, format!("multipart/form-data; boundary={}", self.boundary))
            .header(CONTENT_LENGTH, length);
        Ok(request.body(match content {
            Content::Whole(bytes) => Body::from([&self.head[..], bytes, &self.tail[..]].concat()),
            Content::File { path, size } => self.streamed(path, *size, sent)?,
        }))
    }

    fn streamed(&self, path: &Path, size: u64, sent: impl Fn(Sent) + Send + Sync + 'static) -> Result<Body, ApiError> {
        let file = fs::File::open(path).map_err(|source| ApiError::Unreadable { path: path.to_owned(), source })?;
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(CHUNK);
        let path = path.to_owned();
        let fault =
            move |error: io::Error| LocalFault { path: path.clone(), kind: error.kind(), what: error.to_string() };
        let middle = chunks(file, size).map_err(fault).inspect_ok(move |chunk| sent(Sent::More(chunk.len() as u64)));
        let head = stream::iter([Ok(Bytes::from(self.head.clone()))]);
        let tail = stream::iter([Ok(Bytes::from(self.tail.clone()))]);
        Ok(Body::wrap_stream(head.chain(middle).chain(tail)))
    }
}

/// `size` bytes of the file, or an error where it ends before: the length has been promised.
fn chunks(file: tokio::fs::File, size: u64) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((file, size), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = BytesMut::with_capacity(usize::try_from(left).unwrap_or(CHUNK).min(CHUNK));
        let read = (&mut file).take(left).read_buf(&mut chunk).await? as u64;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was sent"));
        }
        Ok(Some((chunk.freeze(), (file, left - read))))
    })
}

async fn refusal(answer: Response) -> ApiError {
    let status = answer.status().as_u16();
    let body = answer.text().await.unwrap_or_default();
    let element = |name: &str| {
        let (_, behind) = body.split_once(&format!("<{name}>"))?;
        Some(behind.split_once("</")?.0.to_owned())
    };
    let message = element("Message").unwrap_or_else(|| "no reason given".to_owned());
    ApiError::FormRefused { status, code: element("Code").unwrap_or_default(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_form_that_is_not_taken_in_time_is_the_matter_of_one_file() {
        crate::client::choose_cryptography();
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let asked = Client::builder().no_proxy().tls_certs_only([]).build().unwrap().post(&url);
        let source = asked.timeout(Duration::from_millis(1)).send().await.unwrap_err();

        let error = of_this_form(ApiError::Unreachable { url, source });

        assert!(matches!(error, ApiError::TooSlow { .. }) && !error.is_about_everything(), "{error:?}");
    }
}
