//! Reads a multipart form (RFC 7578) and streams its files into the bucket: all of them or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::{HeaderMap, header};
use longshore_jobs::ledger::uploads;
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::model::{Status, Upload, filename};
use longshore_jobs::outside::{BoxError, Bucket, BucketError};
use multer::{Constraints, Field, Multipart, SizeLimit};
use utoipa::ToSchema;

use super::super::Http;
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::super::rows::{self, is_media_type};

/// How many parts a form may have.
const MOST_PARTS: usize = 1000;
/// How many bytes may be read without any of them being a part's content: headers, and what stands before the first part.
const MOST_BETWEEN: usize = 1 << 20;
/// The names under which files come.
const NAMES: [&str; 2] = ["files", "files[]"];

/// The form as clients see it.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only looked at")]
pub struct FilesForm {
    /// The files; their parts may also be named `files[]`. Parts of other names are ignored. A form may have
    /// 1,000 parts.
    #[schema(min_items = 1, value_type = Vec<String>, format = Binary)]
    files: Vec<Bytes>,
}

/// The form's files as rows that have arrived, in order.
pub async fn receive(http: &Http, caller: &Caller, request: Request) -> Result<Vec<Upload>, ApiError> {
    let boundary = boundary_of(request.headers())?;
    let mut staged = Staged { bucket: Arc::clone(&http.ctx.bucket), keys: Vec::new() };
    match stage_all(http, caller, (request.into_body(), boundary), &mut staged).await {
        Ok(rows) if rows.is_empty() => Err(ApiError::MissingFiles),
        Ok(rows) => enter(http, rows, staged).await,
        Err(error) => {
            staged.discard().await;
            Err(error)
        }
    }
}

fn boundary_of(headers: &HeaderMap) -> Result<String, ApiError> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    multer::parse_boundary(sent).map_err(|error| match error {
        multer::Error::NoBoundary => ApiError::BadRequest("The form's `boundary` is missing".to_owned()),
        _ => ApiError::UnsupportedMediaType("multipart/form-data"),
    })
}

/// Writes the rows, after which their objects belong to the pipeline.
async fn enter(http: &Http, rows: Vec<Upload>, staged: Staged) -> Result<Vec<Upload>, ApiError> {
    // From here on a client that goes away must not take the objects with it: the write may be committed all the same.
    let keys = staged.keep();
    if let Err(error) = uploads::insert(&http.ctx.db, rows.clone()).await {
        Staged { bucket: Arc::clone(&http.ctx.bucket), keys }.discard().await;
        return Err(error.into());
    }
    Ok(rows)
}

async fn stage_all(
    http: &Http,
    caller: &Caller,
    (body, boundary): (Body, String),
    staged: &mut Staged,
) -> Result<Vec<Upload>, ApiError> {
    let between = Arc::new(AtomicUsize::new(0));
    let limits = constraints(http);
    let mut form = Multipart::with_constraints(paced(body, Arc::clone(&between)), boundary, limits);
    let (mut rows, mut parts) = (Vec::new(), 0);
    while let Some(field) = form.next_field().await.map_err(refusal)? {
        parts += 1;
        if parts > MOST_PARTS {
            return Err(ApiError::PayloadTooLarge(format!("A form may have {MOST_PARTS} parts at most")));
        }
        if is_file(&field) {
            rows.push(stage(http, caller, (field, &between), staged).await?);
        } else {
            skip(field, &between).await?;
        }
    }
    Ok(rows)
}

fn constraints(http: &Http) -> Constraints {
    let max_size = u64::try_from(http.ctx.limits.max_size).unwrap_or(u64::MAX);
    let other = u64::try_from(http.settings.max_body).unwrap_or(u64::MAX);
    let limit = NAMES.iter().fold(SizeLimit::new().per_field(other), |limit, name| limit.for_field(*name, max_size));
    Constraints::new().size_limit(limit)
}

/// Browsers send an input in which no file was chosen as a file without a name.
fn is_file(field: &Field<'_>) -> bool {
    field.name().is_some_and(|name| NAMES.contains(&name)) && field.file_name() != Some("")
}

async fn skip(mut field: Field<'_>, between: &AtomicUsize) -> Result<(), ApiError> {
    while field.chunk().await.map_err(refusal)?.is_some() {
        between.store(0, Ordering::Relaxed);
    }
    Ok(())
}

/// Streams one file to a staging key of its own.
async fn stage(
    http: &Http,
    caller: &Caller,
    (field, between): (Field<'_>, &AtomicUsize),
    staged: &mut Staged,
) -> Result<Upload, ApiError> {
    let name = filename::from_form(field.file_name().unwrap_or_default());
    let fresh = rows::fresh(caller, name, http.ctx.now());
    let declared = field.content_type().map(ToString::to_string).filter(|text| is_media_type(text));
    let content_type = declared.or_else(|| fresh.content_type.clone());
    let chunks = field.map(|chunk| {
        between.store(0, Ordering::Relaxed);
        chunk.map_err(BoxError::from)
    });
    staged.keys.push(fresh.object_key.clone());
    let put = http.ctx.bucket.put(&fresh.object_key, content_type.as_deref(), chunks.boxed()).await;
    let stored = put.map_err(put_refusal)?;
    let now = http.ctx.now();
    Ok(Upload {
        status: Status::Arrived,
        content_type,
        size: Some(stored.head.size),
        arrived_size: Some(stored.head.size),
        sha256: Some(stored.sha256),
        landed_at: stored.head.landed_at(),
        etag: Some(stored.head.etag),
        arrived_via: Some(ArrivedVia::Form),
        arrived_at: Some(now),
        updated_at: now,
        resume_at: Some(now + http.ctx.limits.resume_after),
        ..fresh
    })
}

/// Objects in staging that no row knows of yet; removed when this is dropped, as when the client goes away.
struct Staged {
    bucket: Arc<dyn Bucket>,
    keys: Vec<String>,
}

impl Staged {
    fn keep(mut self) -> Vec<String> {
        std::mem::take(&mut self.keys)
    }

    async fn discard(mut self) {
        remove(&self.bucket, std::mem::take(&mut self.keys)).await;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let (bucket, keys) = (Arc::clone(&self.bucket), std::mem::take(&mut self.keys));
        if keys.is_empty() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { remove(&bucket, keys).await });
        }
    }
}

async fn remove(bucket: &Arc<dyn Bucket>, keys: Vec<String>) {
    if !keys.is_empty()
        && let Err(error) = bucket.delete(&keys).await
    {
        tracing::warn!(%error, objects = keys.len(), "the objects of a broken form are left to the sweep");
    }
}

/// More came between two parts than headers can be.
#[derive(Debug, thiserror::Error)]
#[error("more than {MOST_BETWEEN} bytes that are no part's content")]
struct Endless;

/// The body, at most one chunk at a time: the form's reader takes in all that is ready and would hold it in memory. It also
/// looks for the end of headers for ever, so that is cut off.
fn paced(body: Body, between: Arc<AtomicUsize>) -> impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    let mut chunks = body.into_data_stream();
    let mut rest = false;
    stream::poll_fn(move |context| {
        if std::mem::take(&mut rest) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = chunks.poll_next_unpin(context);
        let Poll::Ready(Some(Ok(chunk))) = &polled else {
            return polled.map_err(BoxError::from);
        };
        rest = true;
        if between.fetch_add(chunk.len(), Ordering::Relaxed) > MOST_BETWEEN {
            return Poll::Ready(Some(Err(Endless.into())));
        }
        polled.map_err(BoxError::from)
    })
}

/// A form that cannot be read to its end.
fn refusal(error: multer::Error) -> ApiError {
    match error {
        multer::Error::FieldSizeExceeded { limit, .. } => {
            ApiError::PayloadTooLarge(format!("A part of this form may have {limit} bytes at most"))
        }
        multer::Error::StreamReadFailed(source) if source.is::<Endless>() => {
            ApiError::PayloadTooLarge("The headers of a part are too large".to_owned())
        }
        error => {
            tracing::debug!(%error, "a form could not be read");
            ApiError::BadRequest("The form is broken or incomplete".to_owned())
        }
    }
}

/// What broke off was the form, unless the bucket itself failed.
fn put_refusal(error: BucketError) -> ApiError {
    match error {
        BucketError::BrokenOff { source, .. } => match source.downcast::<multer::Error>() {
            Ok(error) => refusal(*error),
            Err(source) => ApiError::Unavailable(source),
        },
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_form_that_comes_fast_is_not_held_in_memory() {
        let pulled = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&pulled);
        let head = b"--XX\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a\"\r\n\r\n";
        let chunks =
            std::iter::once(Bytes::from_static(head)).chain(std::iter::repeat_n(Bytes::from(vec![0; 64 << 10]), 100));
        let chunks = chunks.map(move |chunk| {
            counting.fetch_add(1, Ordering::Relaxed);
            Ok::<_, BoxError>(chunk)
        });
        let body = Body::from_stream(stream::iter(chunks));

        let mut form = Multipart::new(paced(body, Arc::default()), "XX");
        let mut field = form.next_field().await.unwrap().unwrap();
        assert!(field.chunk().await.unwrap().is_some());

        assert!(pulled.load(Ordering::Relaxed) <= 3, "{pulled:?} chunks for the first");
    }
}
