//! Form posts: the fields are judged before the file is touched, the file while it streams.
//!
//! Nothing is stored before the last byte of the form is in, `file` is known to be its last field, and size and digest
//! are what the policy wants. Source: "POST Object" in the Amazon S3 API reference.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use longshore_jobs::model::TraceParent;
use longshore_jobs::model::keys::STAGING;
use longshore_jobs::model::policy::check::{Form, Permit, Refusal, admit};
use multer::{Field, Multipart};
use tokio::time::timeout;
use tracing::Span;
use tracing::field::display;
use uuid::Uuid;

use super::LocalBucket;
use super::fault::{Fault, escape, xml};
use super::files::Incoming;
use super::index::Row;

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
    let caller = request.extensions().get::<TraceParent>().copied();
    let (mut body, mut about) = (request.into_body().into_data_stream(), About::default());
    let received = receive((&bucket, &mut body), boundary, &mut about).await;
    about.show(caller);
    let (permit, incoming) = match received {
        Ok(received) => received,
        Err(fault) => {
            drain(body, bucket.patience.min(DRAIN_TIME)).await;
            about.note(&fault);
            return Err(fault);
        }
    };
    let status = permit.success_status;
    match bucket.land(incoming, permit).await {
        Ok(row) => Ok(stored(&bucket, &row, status)),
        Err(fault) => {
            about.note(&fault);
            Err(fault)
        }
    }
}

/// How much of a key is logged, in characters.
const LONGEST_TOLD: usize = 200;

/// What a form says that it is about. Its signature may be a wrong one: it is for the log, and proves nothing.
#[derive(Default)]
struct About {
    upload: Option<Uuid>,
    batch: Option<Uuid>,
    trace: Option<TraceParent>,
    /// Not whole where it is long.
    key: Option<String>,
}

impl About {
    fn of(form: &Form) -> Self {
        let read = |name| form.get(name).and_then(|text| text.parse().ok());
        Self {
            upload: read("x-amz-meta-upload-id"),
            batch: read("x-amz-meta-batch-id"),
            trace: form.get("x-amz-meta-traceparent").and_then(|text| text.parse().ok()),
            key: form.get("key").map(|key| key.chars().take(LONGEST_TOLD).collect()),
        }
    }

    /// Names what the form is for on all lines about the request, and its trace, or else that of whoever posts it.
    fn show(&self, caller: Option<TraceParent>) {
        if let Some(trace) = self.trace.or(caller) {
            trace.show();
        }
        if let Some(upload) = self.upload {
            Span::current().record("upload", display(upload));
        }
        if let Some(batch) = self.batch {
            Span::current().record("batch", display(batch));
        }
    }

    /// Tells the operator what the client was told. Of what is about nothing that we know, the metrics tell enough.
    fn note(&self, fault: &Fault) {
        let trace = self.trace.map(TraceParent::trace_id).map(display);
        let (code, reason) = (fault.code(), fault.to_string());
        let reason: String = reason.chars().take(LONGEST_TOLD).collect();
        if let Some(upload) = self.upload {
            tracing::info!(%upload, code, reason, trace, "the bucket refused a client's post");
        } else if let Some(key) = self.key.as_deref().filter(|key| key.starts_with(STAGING)) {
            tracing::info!(key, code, reason, trace, "the bucket refused a client's post");
        }
    }
}

fn boundary(headers: &HeaderMap) -> Result<String, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    multer::parse_boundary(kind).map_err(|error| Refusal::Malformed(error.to_string()))
}

async fn drain(mut body: BodyDataStream, patience: Duration) {
    let reading = async {
        let mut size = 0;
        while let Some(Ok(chunk)) = body.next().await {
            size += chunk.len();
            if size > MOST_DRAINED {
                return;
            }
        }
    };
    if timeout(patience, reading).await.is_err() {
        tracing::debug!("the sender of a refused form was slow and is cut off");
    }
}

/// Reads the form to its end. What came as its file is not yet in its place, nor its digest known.
async fn receive(
    (bucket, body): (&LocalBucket, &mut BodyDataStream),
    boundary: String,
    about: &mut About,
) -> Result<(Permit, Incoming), Fault> {
    let (open, allowance) = (AtomicBool::new(false), AtomicU64::new(MOST_BEFORE_FILE));
    let tap = Tap { open, allowance, patience: bucket.patience };
    let mut parts = Multipart::new(Tapped { body, tap: &tap }, boundary);
    // Nobody has shown a signature yet, so the fields have that long all together, however lively they drip.
    let fields = timeout(bucket.patience, read_fields(&tap, &mut parts)).await;
    let (mut form, file) = fields.map_err(|_| Fault::Idle)??;
    *about = About::of(&form);
    form.name_file(file.file_name().unwrap_or_default())?;
    let permit = admit(&form, &bucket.name, &bucket.signer())?;
    tap.allow(u64::MAX);
    let mut incoming = bucket.files.receive();
    let streamed = stream_file((bucket, &tap), file, &permit, &mut incoming).await;
    tap.allow(MOST_BEHIND_FILE);
    let ended = match streamed {
        Ok(()) => expect_end(&tap, &mut parts).await,
        failed => failed,
    };
    match ended {
        Ok(()) => Ok((permit, incoming)),
        Err(fault) => {
            incoming.abandon().await;
            Err(fault)
        }
    }
}

/// The fields before `file`, and `file` itself.
async fn read_fields<'a>(tap: &Tap, parts: &mut Multipart<'a>) -> Result<(Form, Field<'a>), Fault> {
    let mut form = Form::default();
    while let Some(field) = tap.feed(parts.next_field()).await? {
        let name = field.name().map(str::to_owned);
        let name = name.ok_or_else(|| Refusal::Malformed("a part has no name".to_owned()))?;
        if name.eq_ignore_ascii_case("file") {
            return Ok((form, field));
        }
        let value = read_value(tap, field, form.room()).await?;
        form.add(&name, value)?;
    }
    Err(Refusal::InvalidArgument("POST requires exactly one file upload per request.".to_owned()).into())
}

async fn read_value(tap: &Tap, mut field: Field<'_>, room: usize) -> Result<String, Fault> {
    let mut value = Vec::new();
    while let Some(chunk) = tap.feed(field.chunk()).await? {
        value.extend_from_slice(&chunk);
        if value.len() > room {
            return Err(Refusal::TooManyFields.into());
        }
    }
    let refusal = |_| Refusal::InvalidArgument("A field's value is not UTF-8".to_owned());
    String::from_utf8(value).map_err(|error| refusal(error).into())
}

async fn stream_file(
    (bucket, tap): (&LocalBucket, &Tap),
    mut file: Field<'_>,
    permit: &Permit,
    incoming: &mut Incoming,
) -> Result<(), Fault> {
    let unwritten = bucket.unwritten(&permit.key);
    while let Some(chunk) = tap.feed(file.chunk()).await? {
        incoming.push(&chunk).await.map_err(&unwritten)?;
        permit.check_growth(incoming.size())?;
    }
    Ok(())
}

async fn expect_end(tap: &Tap, parts: &mut Multipart<'_>) -> Result<(), Fault> {
    match tap.feed(parts.next_field()).await? {
        None => Ok(()),
        Some(_) => Err(Refusal::InvalidArgument("The field 'file' must be the last one".to_owned()).into()),
    }
}

fn broken(error: multer::Error) -> Fault {
    match error {
        multer::Error::StreamReadFailed(source) if source.is::<TooMuch>() => Refusal::TooManyFields.into(),
        multer::Error::StreamReadFailed(source) if has_fallen_silent(&*source) => Fault::Idle,
        other => Refusal::Malformed(other.to_string()).into(),
    }
}

/// Whoever hands us the body may have less patience than we.
fn has_fallen_silent(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::TimedOut))
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

/// Stands between the body and the form's parser, which by itself would read and keep all that a fast sender has sent.
///
/// It lets one chunk through when the parser can go no further on what it has, and in all no more than is allowed.
struct Tap {
    open: AtomicBool,
    allowance: AtomicU64,
    /// How long the sender may pause.
    patience: Duration,
}

impl Tap {
    fn allow(&self, bytes: u64) {
        self.allowance.store(bytes, Ordering::Relaxed);
    }

    /// Drives a step of the parser, which opens the tap only when it is stuck.
    async fn feed<T>(&self, step: impl Future<Output = multer::Result<T>>) -> Result<T, Fault> {
        let mut step = pin!(step);
        let fed = poll_fn(|context| {
            loop {
                for open in [false, true] {
                    self.open.store(open, Ordering::Relaxed);
                    if let Poll::Ready(done) = step.as_mut().poll(context) {
                        return Poll::Ready(done);
                    }
                }
                if self.open.load(Ordering::Relaxed) {
                    return Poll::Pending;
                }
            }
        });
        let fed = timeout(self.patience, fed).await.map_err(|_| Fault::Idle)?;
        fed.map_err(broken)
    }
}

/// The body as the parser sees it.
struct Tapped<'a> {
    body: &'a mut BodyDataStream,
    tap: &'a Tap,
}

/// More bytes than a form may have around its file.
#[derive(Debug, thiserror::Error)]
#[error("too many bytes around the file")]
struct TooMuch;

impl Stream for Tapped<'_> {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.tap.open.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let left = self.tap.allowance.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Some(Err(TooMuch.into())));
        }
        let chunk = ready!(self.body.poll_next_unpin(context));
        self.tap.open.store(false, Ordering::Relaxed);
        let Some(Ok(bytes)) = chunk else { return Poll::Ready(chunk.map(|chunk| chunk.map_err(Into::into))) };
        self.tap.allow(left.saturating_sub(bytes.len() as u64));
        Poll::Ready(Some(Ok(bytes)))
    }
}
