//! `PUT /api/batches/{id}/manifest`: what the files of a batch have to hash to, in `sha256sum`'s own lines.
//!
//! The body streams: lines are written some hundreds at a time under a generation that nobody reads, and hold all at once when
//! the last one has been found good. A bad one leaves the former manifest as it was.

use std::collections::HashSet;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::StreamExt as _;
use http::StatusCode;
use longshore_jobs::job::with_causes;
use longshore_jobs::ledger::Db;
use longshore_jobs::ledger::manifests::{self, Held, Named};
use longshore_jobs::model::batch::Mode;
use longshore_jobs::model::manifest::{BadLine, Line, MOST_BYTES, MOST_LINES, Reader};
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::{Batch, Timestamp, path};
use uuid::Uuid;

use super::super::Http;
use super::super::answer::PUT;
use super::super::asked::Id;
use super::super::auth::Caller;
use super::super::errors::ApiError;
use super::super::openapi::{params, refusals};
use super::entry::BatchesAnswer;
use super::{answer, own};

/// How many lines are written together.
const TOGETHER: usize = 1_000;

impl From<BadLine> for ApiError {
    fn from(BadLine { number, fault }: BadLine) -> Self {
        Self::UnprocessableLine { line: number, fault }
    }
}

/// Say what a batch's files have to hash to.
///
/// Lines as `sha256sum` writes them, at most 1,000,000 and 64 MiB; for mode `prefix` at most as many as the batch takes files. They
/// replace the former ones whole, and one bad line refuses all. A file with other bytes is rejected with `digest_mismatch`, one that
/// has not come when the batch is closed with `object_missing`. Scope `upload`.
#[utoipa::path(put, path = "/api/batches/{id}/manifest", tag = "Batches", operation_id = "putBatchManifest", params(params::Id),
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, description = "The batch, with what the manifest promises among its tasks", body = BatchesAnswer),
        refusals::Manifest))]
pub async fn replace(
    State(http): State<Arc<Http>>,
    caller: Caller,
    id: Id,
    request: Request,
) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let batch = own(&http, &caller, &id).await?;
    if batch.closed_at.is_some() {
        return Err(closed());
    }
    if batch.mode == Mode::Each && batch.resume_at.is_some() {
        let fault = "The uploads of this batch are still being made; send the manifest once it is `ready`";
        return Err(ApiError::Conflict(fault.to_owned()));
    }
    // A task of its own sees the end of a body that breaks off, and removes what it has brought.
    let (db, now) = (http.ctx.db.clone(), http.ctx.now());
    let taking = tokio::spawn(take(db, batch, request.into_body(), now));
    taking.await.map_err(|error| ApiError::Internal(error.into()))??;
    answer((&http, &caller), StatusCode::OK, PUT, own(&http, &caller, &id).await?).await
}

async fn take(db: Db, batch: Batch, body: Body, now: Timestamp) -> Result<(), ApiError> {
    let generation = manifests::new_generation(now);
    let taken = take_as(&db, &batch, (generation, now), body).await;
    // Of a refused one nothing stays, and of the one before it no more. Those that are being sent are nobody else's to remove.
    let useless = if taken.is_err() { Some(generation) } else { batch.manifest };
    if let Some(useless) = useless
        && let Err(error) = manifests::remove(&db, batch.id, Some(useless)).await
    {
        tracing::warn!(error = with_causes(&error), batch = %batch.id, "lines of a manifest that does not hold are left");
    }
    taken
}

async fn take_as(db: &Db, batch: &Batch, (generation, now): (i64, Timestamp), body: Body) -> Result<(), ApiError> {
    let mut intake = Intake::new(db.clone(), batch, generation).await?;
    let (mut reader, mut chunks, mut bytes) = (Reader::default(), body.into_data_stream(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk: Bytes = chunk.map_err(|_| ApiError::BadRequest("The body broke off".to_owned()))?;
        bytes += chunk.len();
        if bytes > MOST_BYTES {
            return Err(ApiError::PayloadTooLarge(format!("A manifest may have {MOST_BYTES} bytes at most")));
        }
        intake.add(reader.read(&chunk)?).await?;
    }
    intake.add(reader.finish()?.into_iter().collect()).await?;
    let lines = intake.finish().await?;
    match manifests::hold(db, (batch, generation), lines, now).await? {
        Held::Yes => Ok(()),
        Held::Closed => Err(closed()),
        Held::Overtaken => Err(ApiError::Conflict("Another manifest was sent at the same time, and holds".to_owned())),
        Held::Stored(path) => Err(ApiError::Conflict(format!("`{path}` is stored already, with other bytes"))),
    }
}

fn closed() -> ApiError {
    ApiError::Conflict("The batch is closed and takes no manifest any more".to_owned())
}

/// Judges lines and writes them.
struct Intake {
    db: Db,
    place: (Uuid, i64),
    /// The names that lines may have; `None` where any good path will do.
    names: Option<Named>,
    most: usize,
    waiting: Vec<Line>,
    lines: usize,
}

impl Intake {
    async fn new(db: Db, batch: &Batch, generation: i64) -> Result<Self, ApiError> {
        let names = match batch.mode {
            Mode::Each => Some(manifests::named(&db, batch.id).await?),
            Mode::Prefix => None,
        };
        let most = batch.max_files.and_then(|most| usize::try_from(most).ok()).unwrap_or(MOST_LINES);
        Ok(Self { db, place: (batch.id, generation), names, most, waiting: Vec::new(), lines: 0 })
    }

    async fn add(&mut self, lines: Vec<Line>) -> Result<(), ApiError> {
        for line in lines {
            self.judge(&line)?;
            self.lines += 1;
            self.waiting.push(line);
            if self.waiting.len() >= TOGETHER {
                self.write().await?;
            }
        }
        Ok(())
    }

    fn judge(&self, line: &Line) -> Result<(), BadLine> {
        let bad = |fault: String| Err(BadLine::new(line.number, fault));
        if self.lines >= self.most {
            return bad(format!("is one too many, {} files are the most", self.most));
        }
        match &self.names {
            Some(names) if names.unstored.contains(&line.path) => {
                bad("names an upload of an earlier call, which is not stored yet".to_owned())
            }
            Some(names) if !names.files.contains(&line.path) => bad("names no upload of the batch".to_owned()),
            Some(_) => Ok(()),
            None => path::fault(&line.path).map_or(Ok(()), |fault| bad(format!("the file's path {fault}"))),
        }
    }

    async fn write(&mut self) -> Result<(), ApiError> {
        let lines = std::mem::take(&mut self.waiting);
        let mut seen: HashSet<&str> = HashSet::new();
        let twice = lines.iter().find(|line| !seen.insert(&line.path)).map(|line| line.number);
        let known = manifests::add(&self.db, self.place, &lines).await?;
        let again = lines.iter().find(|line| known.contains(&line.path)).map(|line| line.number);
        match twice.or(again) {
            Some(number) => Err(BadLine::new(number, "names a file that an earlier line has named").into()),
            None => Ok(()),
        }
    }

    async fn finish(mut self) -> Result<i64, ApiError> {
        if !self.waiting.is_empty() {
            self.write().await?;
        }
        Ok(i64::try_from(self.lines).unwrap_or(i64::MAX))
    }
}
