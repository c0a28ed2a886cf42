//! Form posts: the fields are judged before the file is touched, the file while it streams.
//!
//! Nothing is stored before the last byte of the form is in, `file` is known to be its last field, and size and digest
//! are what the policy wants. Source: "POST Object" in the Amazon S3 API reference.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use longshore_jobs::model::policy::check::{Form, Permit, Refusal, admit};
use multer::{Field, Multipart};

use super::fault::{Fault, escape, xml};
use super::files::{Incoming, Written};
use super::index::Row;
use super::{Label, LocalBucket, StoreError};

/// The most bytes of a form before its file, with all the boundaries and headers of a hundred parts.
const MOST_BEFORE_FILE: u64 = 128 * 1024;
/// The most bytes behind it.
const MOST_BEHIND_FILE: u64 = 64 * 1024;
/// How much of a refused form is still read, so that its sender sees the answer and not a broken connection.
const MOST_DRAINED: usize = 4 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// `POST /{bucket}`.
pub(crate) async fn post(
    State(bucket): State<Arc<LocalBucket>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Fault> {
    if name != bucket.name {
        return Err(Fault::NoSuchBucket);
    }
    let boundary = boundary(request.headers())?;
    let mut body = request.into_body().into_data_stream();
    let received = receive(&bucket, &mut body, boundary).await;
    let (permit, written) = match received {
        Ok(received) => received,
        Err(fault) => {
            drain(body).await;
            return Err(fault);
        }
    };
    let status = permit.success_status;
    let label = Label { key: permit.key, content_type: permit.content_type, metadata: permit.metadata };
    let row = bucket.record_and_tell(written, label).await?;
    Ok(stored(&bucket, &row, status))
}

fn boundary(headers: &HeaderMap) -> Result<String, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    multer::parse_boundary(kind).map_err(|error| Refusal::Malformed(error.to_string()))
}

async fn drain(mut body: BodyDataStream) {
    let reading = async {
        let mut size = 0;
        while let Some(Ok(chunk)) = body.next().await {
            size += chunk.len();
            if size > MOST_DRAINED {
                return;
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIME, reading).await.is_err() {
        tracing::debug!("the sender of a refused form was slow and is cut off");
    }
}

/// Reads the form to its end and puts its file in place, on the disk but not yet in the index.
async fn receive(
    bucket: &LocalBucket,
    body: &mut BodyDataStream,
    boundary: String,
) -> Result<(Permit, Written), Fault> {
    let allowance = Arc::new(AtomicU64::new(MOST_BEFORE_FILE));
    let paced = Paced { body, pause: false, allowance: Arc::clone(&allowance) };
    let mut parts = Multipart::new(paced, boundary);
    let (form, file) = read_fields(&mut parts).await?;
    let permit = admit(&form, &bucket.name, &bucket.signer())?;
    allowance.store(u64::MAX, Ordering::Relaxed);
    let mut incoming = bucket.files.receive();
    let streamed = stream_file(file, &permit, &mut incoming).await;
    allowance.store(MOST_BEHIND_FILE, Ordering::Relaxed);
    let ended = match streamed {
        Ok(()) => expect_end(&mut parts).await.map_err(Fault::from),
        failed => failed,
    };
    if let Err(fault) = ended {
        incoming.abandon().await;
        return Err(fault);
    }
    let judge = permit.clone();
    let finished = incoming.finish(move |size, sha256| judge.check_whole(size, sha256)).await;
    Ok((permit, finished.map_err(StoreError::from)??))
}

/// The fields before `file`, and `file` itself.
async fn read_fields<'a>(parts: &mut Multipart<'a>) -> Result<(Form, Field<'a>), Refusal> {
    let mut form = Form::default();
    while let Some(field) = parts.next_field().await.map_err(broken)? {
        let name = field.name().map(str::to_owned);
        let name = name.ok_or_else(|| Refusal::Malformed("a part has no name".to_owned()))?;
        if name.eq_ignore_ascii_case("file") {
            return Ok((form, field));
        }
        let value = read_value(field, form.room()).await?;
        form.add(&name, value)?;
    }
    Err(Refusal::InvalidArgument("POST requires exactly one file upload per request.".to_owned()))
}

async fn read_value(mut field: Field<'_>, room: usize) -> Result<String, Refusal> {
    let mut value = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(broken)? {
        value.extend_from_slice(&chunk);
        if value.len() > room {
            return Err(Refusal::TooManyFields);
        }
    }
    String::from_utf8(value).map_err(|_| Refusal::InvalidArgument("A field's value is not UTF-8".to_owned()))
}

async fn stream_file(mut file: Field<'_>, permit: &Permit, incoming: &mut Incoming) -> Result<(), Fault> {
    while let Some(chunk) = file.chunk().await.map_err(broken)? {
        incoming.push(&chunk).await.map_err(StoreError::from)?;
        permit.check_growth(incoming.size())?;
    }
    Ok(())
}

async fn expect_end(parts: &mut Multipart<'_>) -> Result<(), Refusal> {
    match parts.next_field().await.map_err(broken)? {
        None => Ok(()),
        Some(_) => Err(Refusal::InvalidArgument("The field 'file' must be the last one".to_owned())),
    }
}

fn broken(error: multer::Error) -> Refusal {
    match error {
        multer::Error::StreamReadFailed(source) if source.is::<TooMuch>() => Refusal::TooManyFields,
        other => Refusal::Malformed(other.to_string()),
    }
}

/// S3's answer to a form: a document for 201, no body for 204.
fn stored(bucket: &LocalBucket, row: &Row, status: u16) -> Response {
    let (location, etag) = (bucket.url_of(&row.key), format!("\"{}\"", row.etag));
    let mut response = if status == 201 {
        let told = [("Location", &location), ("Bucket", &bucket.name), ("Key", &row.key), ("ETag", &etag)];
        let told: String = told.iter().map(|(name, text)| format!("<{name}>{}</{name}>", escape(text))).collect();
        xml(StatusCode::CREATED, &format!("<PostResponse>{told}</PostResponse>"))
    } else {
        StatusCode::from_u16(status).unwrap_or(StatusCode::NO_CONTENT).into_response()
    };
    for (name, text) in [(header::LOCATION, location), (header::ETAG, etag)] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Feeds the form's parser one chunk at a time, and no more than it is allowed to keep.
///
/// The parser would read on for as long as there is something to read, and keep it all: a fast sender, or an endless
/// header, would fill the memory.
struct Paced<'a> {
    body: &'a mut BodyDataStream,
    pause: bool,
    allowance: Arc<AtomicU64>,
}

/// More bytes than a form may have around its file.
#[derive(Debug, thiserror::Error)]
#[error("too many bytes around the file")]
struct TooMuch;

impl Stream for Paced<'_> {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.pause) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let left = self.allowance.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Some(Err(TooMuch.into())));
        }
        let polled = self.body.poll_next_unpin(context);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.allowance.store(left.saturating_sub(chunk.len() as u64), Ordering::Relaxed);
            self.pause = true;
        }
        polled.map_err(Into::into)
    }
}
