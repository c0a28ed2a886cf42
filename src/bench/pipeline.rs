//! The whole pipeline as a client sees it: ask for a policy, post the form, wait until the upload is done.
//!
//! Against a service that runs elsewhere, with whatever engines it has, the client is all that this process does; else it starts
//! one in this process, as `files` does. Nothing touches a disk on the client's side, and every upload has bytes of its own,
//! so that none is a duplicate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use longshore_jobs::model::{Digest, Status};
use longshore_jobs::outside::BoxError;
use tokio::task::JoinSet;

use super::figures::{Value, percentile};
use super::{Figures, OwnServer};
use crate::client::Api;
use crate::client::api::{NewUpload, PolicyForm, Upload};
use crate::client::form::Content;
use crate::config::Config;

/// How long one request waits for a policy or for the end.
const WAIT: Duration = Duration::from_secs(20);
/// How long one upload may take.
const LONGEST: Duration = Duration::from_secs(300);

/// What to upload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uploads {
    /// How many.
    pub(crate) count: u64,
    /// Bytes of each.
    pub(crate) size: usize,
    /// How many at once.
    pub(crate) concurrency: usize,
}

/// Uploads to the service of `api`, or without one to a server of the bench's own.
pub(crate) async fn pipeline(config: &Config, api: Option<Api>, uploads: Uploads) -> Result<Figures, BoxError> {
    let Some(api) = api else {
        let server = OwnServer::start(config).await?;
        let figures = measure(&server.api, uploads).await;
        server.end().await?;
        return figures;
    };
    measure(&api, uploads).await
}

async fn measure(api: &Api, uploads: Uploads) -> Result<Figures, BoxError> {
    // Connections and code paths are warm before anything counts.
    upload_all(api, Uploads { count: uploads.concurrency as u64, ..uploads }).await?;
    let started = Instant::now();
    let mut delays = upload_all(api, uploads).await?;
    let took = started.elapsed();
    delays.sort_unstable();

    let mut figures = Figures::default();
    figures.set("bytes of an upload", uploads.size);
    figures.set("uploads at once", uploads.concurrency);
    let what = format!("uploads verified and stored, {} uploads", uploads.count);
    figures.add("uploaded", what, Value::rate(uploads.count, took)).aim("1000");
    figures.add("done_p50", "form sent to done p50", Value::delay(percentile(&delays, 0.5)));
    figures.add("done_p99", "form sent to done p99", Value::delay(percentile(&delays, 0.99)));
    Ok(figures)
}

/// Returns how long each took from the answer to its form until it was done.
async fn upload_all(api: &Api, uploads: Uploads) -> Result<Vec<Duration>, BoxError> {
    let (left, mut clients) = (Arc::new(AtomicU64::new(uploads.count)), JoinSet::new());
    for _ in 0..uploads.concurrency {
        clients.spawn(upload_some(api.clone(), Arc::clone(&left), uploads.size));
    }
    let mut delays = Vec::new();
    while let Some(client) = clients.join_next().await {
        delays.extend(client??);
    }
    Ok(delays)
}

/// One client: upload after upload, until none is left to begin.
async fn upload_some(api: Api, left: Arc<AtomicU64>, size: usize) -> Result<Vec<Duration>, BoxError> {
    let mut delays = Vec::new();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        delays.push(tokio::time::timeout(LONGEST, upload(&api, size)).await.map_err(|_| "an upload did not end")??);
    }
    Ok(delays)
}

async fn upload(api: &Api, size: usize) -> Result<Duration, BoxError> {
    let mut bytes = vec![0; size];
    rand::fill(&mut bytes[..]);
    let form = signed(api, &bytes).await?;
    api.post_form(&form.1, &Content::Whole(Bytes::from(bytes))).await?;
    let sent = Instant::now();
    finish(api, form.0).await?;
    Ok(sent.elapsed())
}

/// A new upload, with the form that its bytes are posted by.
pub(super) async fn signed(api: &Api, bytes: &[u8]) -> Result<(Upload, PolicyForm), BoxError> {
    let (sha256, name) = (Digest::of(bytes), format!("{:032x}.bin", rand::random::<u128>()));
    let (size, content_type) = (bytes.len() as u64, Some("application/octet-stream"));
    let new = NewUpload { filename: &name, size, content_type, sha256, target: None, client_ref: &name };
    loop {
        let (mut upload, _) = api.create_upload(&new, Some(WAIT)).await?;
        if let Some(form) = upload.upload.take() {
            return Ok((upload, form));
        }
        // The same `ref` asks for the same upload, so asking again is how to wait for its policy.
        if upload.status != Status::Requested {
            return Err(format!("an upload without a policy is {}", upload.status).into());
        }
    }
}

/// Waits until it is done.
pub(super) async fn finish(api: &Api, mut upload: Upload) -> Result<(), BoxError> {
    loop {
        upload = api.upload(upload.id, Some(WAIT)).await?;
        match upload.status {
            Status::Done => return Ok(()),
            Status::Issued | Status::Arrived | Status::Verified => {}
            other => return Err(format!("an upload ended {other}").into()),
        }
    }
}
