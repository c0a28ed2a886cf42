//! One batch of mode `each`: asked for by one call, delivered file by file, waited for as a whole.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream;
use longshore_jobs::model::{Digest, Status};
use longshore_jobs::outside::BoxError;
use uuid::Uuid;

use super::Run;
use super::content::Ready;
use super::each::one_by_one;
use super::flights::Flights;
use super::journey::{BETWEEN, Journey, NOTICE, SIGNING, WAIT, settling};
use super::outcome::Stop;
use crate::client::api::Upload;
use crate::client::batches::Batch;
use crate::client::transport::ApiError;

/// Takes the files of one batch in.
pub(super) async fn take(run: Arc<Run>, files: Vec<Ready>) -> Result<(), BoxError> {
    let bytes = files.iter().map(|file| file.size).sum();
    let batch = match ask(&run, &files).await {
        Ok(batch) => batch,
        Err(error) if is_about_lines(&error) => return one_by_one(&run, stream::iter(files)).await,
        Err(error) => return Err(error.into()),
    };
    let (posted, without) = deliver(&run, &batch, files).await?;
    one_by_one(&run, stream::iter(without)).await?;
    await_ends(&run, batch.id, (posted, bytes)).await
}

/// Asks until every line has its upload and policy, or that takes too long: what has none then is asked for by itself.
async fn ask(run: &Run, files: &[Ready]) -> Result<Batch, ApiError> {
    let mut lines = Vec::new();
    for file in files {
        let client_ref = file.client_ref(run.target.as_ref());
        let wish = file.wish(run.target.as_ref(), &client_ref);
        serde_json::to_writer(&mut lines, &wish).expect("an upload is texts and numbers");
        lines.push(b'\n');
    }
    let key = key(run.id, &lines);
    let mut batch = run.api.create_batch(lines.into(), &key).await?;
    let (deadline, mut pause) = (Instant::now() + SIGNING, Duration::from_millis(10));
    while !batch.ready && Instant::now() < deadline {
        tokio::time::sleep(pause).await;
        pause = BETWEEN.min(pause * 2);
        batch = run.api.batch(batch.id, None).await?;
    }
    Ok(batch)
}

/// The same for a second try within this run and for nothing else: a later run must not be answered with uploads of this one that
/// have failed since. There the refs see to it that nothing is doubled.
fn key(run: Uuid, lines: &[u8]) -> String {
    Digest::of([run.as_bytes(), lines].concat().as_slice()).to_hex()
}

/// Whether the server would not have these lines, or knows no batches: each file is then told by itself what is wrong with it.
fn is_about_lines(error: &ApiError) -> bool {
    matches!(error, ApiError::Refused { status: 404 | 405 | 413 | 415 | 422, .. })
}

type Posted = HashMap<Uuid, Journey>;

/// Posts what is wanted. Returns the files whose ends are to be waited for, and those that have no upload.
async fn deliver(run: &Arc<Run>, batch: &Batch, files: Vec<Ready>) -> Result<(Posted, Vec<Ready>), BoxError> {
    let mut files: HashMap<_, _> = files.into_iter().map(|file| (file.client_ref(run.target.as_ref()), file)).collect();
    let (mut flights, mut posted, mut after) = (Flights::of(run), Posted::new(), None);
    loop {
        let page = run.api.batch_uploads(batch.id, after.as_deref()).await?;
        for upload in page.uploads {
            let Some(file) = upload.client_ref.as_ref().and_then(|known| files.remove(known)) else { continue };
            let journey = Journey::within(run, file, &upload, upload.batch_id == Some(batch.id));
            posted.extend(flights.launch(fly(journey, upload)).await?.into_iter().flatten());
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    posted.extend(flights.land().await?.into_iter().flatten());
    Ok((posted, files.into_values().collect()))
}

/// Brings one file to the bucket; `None` when nothing is left to wait for.
async fn fly(mut journey: Journey, upload: Upload) -> Result<Option<(Uuid, Journey)>, ApiError> {
    match journey.deliver(upload).await {
        Ok(upload) if !upload.status.is_final() => Ok(Some((upload.id, journey))),
        Ok(upload) => journey.end(Ok(upload)).await.map(|()| None),
        Err(stop @ Stop::File(_)) => journey.end(Err(stop)).await.map(|()| None),
        Err(Stop::Run(error)) => Err(error),
    }
}

/// Waits for the batch as a whole, and tells the ends as they are seen. What the batch cannot answer for goes on by itself: uploads
/// of earlier calls, expired ones, whatever still stands when the batch is over.
async fn await_ends(run: &Arc<Run>, batch: Uuid, (mut posted, bytes): (Posted, u64)) -> Result<(), BoxError> {
    let (deadline, mut wait) = (Instant::now() + settling(bytes), NOTICE);
    while !posted.is_empty() {
        let asked = Instant::now();
        let is_over = run.api.batch(batch, Some(wait)).await?.is_over();
        let open = tell_ends(run, batch, &mut posted).await?;
        if is_over || Instant::now() >= deadline {
            return go_on(run, posted, open).await;
        }
        if wait == NOTICE {
            call_back(run, &open).await?;
            wait = WAIT;
        }
        tokio::time::sleep(BETWEEN.saturating_sub(asked.elapsed())).await;
    }
    Ok(())
}

/// Returns the uploads that are still waited for.
async fn tell_ends(run: &Run, batch: Uuid, posted: &mut Posted) -> Result<Vec<Upload>, ApiError> {
    let (mut open, mut after) = (Vec::new(), None);
    loop {
        let page = run.api.batch_uploads(batch, after.as_deref()).await?;
        for upload in page.uploads {
            let has_ended = upload.attention || (upload.status.is_final() && upload.status != Status::Expired);
            if !has_ended {
                open.push(upload);
            } else if let Some(journey) = posted.remove(&upload.id) {
                journey.go_on(upload).await?;
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    open.retain(|upload| posted.contains_key(&upload.id));
    Ok(open)
}

async fn go_on(run: &Arc<Run>, mut posted: Posted, open: Vec<Upload>) -> Result<(), BoxError> {
    let mut flights = Flights::of(run);
    for upload in open {
        if let Some(journey) = posted.remove(&upload.id) {
            flights.launch(journey.go_on(upload)).await?;
        }
    }
    flights.land().await?;
    Ok(())
}

/// Tells that the bytes are there where nobody seems to have heard of it.
async fn call_back(run: &Arc<Run>, open: &[Upload]) -> Result<(), BoxError> {
    let mut flights = Flights::of(run);
    for id in open.iter().filter(|upload| upload.status == Status::Issued).map(|upload| upload.id) {
        let api = run.api.clone();
        flights.launch(async move { api.callback(id).await }).await?;
    }
    flights.land().await?;
    Ok(())
}
