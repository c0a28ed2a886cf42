//! `/api/files`: what the org has, and a form that takes in more.

mod entry;
mod form;
pub mod report;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, StatusCode, header};
use longshore_jobs::job::{Lane, NewJob};
use longshore_jobs::ledger::{blobs, files, reports, uploads};
use longshore_jobs::model::file::File;
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::{Status, Upload};
use longshore_jobs::verify_upload::VerifyUpload;
use tokio::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::entry::{FileEntry, FileList, FilesAnswer};
use self::report::ReportAnswer;
use super::Http;
use super::answer::{DELETED, GOT, POSTED};
use super::asked::{Id, Query};
use super::auth::Caller;
use super::errors::ApiError;
use super::folds::fold_soon;
use super::openapi::{params, refusals};
use super::paging::{MOST_PER_PAGE, Paging};
use super::waiting::{self, Goal};

/// How long a presigned GET is good for.
const CONTENT_LIFE: Duration = Duration::from_secs(300);

/// Everything below `/api/files`.
pub fn routes() -> OpenApiRouter<Arc<Http>> {
    OpenApiRouter::default()
        .routes(routes!(create, list))
        .routes(routes!(report))
        .routes(routes!(show, remove))
        .routes(routes!(content))
}

/// Post files in a form.
///
/// All of them are taken in, or none. The answer waits until they are stored, up to 30 seconds; an entry that is not yet `done` then
/// is found later under its id. Scope `upload`.
#[utoipa::path(post, path = "/api/files", tag = "Files", operation_id = "postFiles",
    request_body(content = form::FilesForm, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "One entry for each file, in order, also for bytes that the org had already", body = FilesAnswer),
        refusals::Form))]
async fn create(State(http): State<Arc<Http>>, caller: Caller, request: Request) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let posted = form::receive(&http, &caller, request).await?;
    show_uploads(&posted);
    let jobs = posted.iter().map(|upload| verification(&http, upload)).collect();
    let watches: Vec<_> = posted.into_iter().map(|upload| waiting::watch(&http.ctx.db, upload)).collect();
    put_on(&http, jobs).await;
    let deadline = Instant::now() + http.settings.files_wait;
    let mut entries = Vec::with_capacity(watches.len());
    for watch in watches {
        let left = deadline.saturating_duration_since(Instant::now());
        let upload = watch.until(left, Goal::End).await?;
        note_rejection(&upload);
        entries.push(FileEntry::from(upload));
    }
    Ok((StatusCode::CREATED, Json(FilesAnswer { message: POSTED, files: entries })).into_response())
}

/// How many of a form's uploads its line in the log names.
const NAMED: usize = 10;

fn show_uploads(posted: &[Upload]) {
    let ids: Vec<String> = posted.iter().take(NAMED).map(|upload| upload.id.to_string()).collect();
    tracing::Span::current().record("upload", ids.join(","));
}

fn verification(http: &Http, upload: &Upload) -> NewJob {
    NewJob::of(&VerifyUpload { upload: upload.id }, Lane::Interactive, http.ctx.now())
}

/// Puts the jobs on. The rows stand: what the queue does not take is left to be resumed.
async fn put_on(http: &Http, jobs: Vec<NewJob>) {
    let uploads = jobs.len();
    if let Err(error) = http.ctx.queue.push(jobs).await {
        tracing::warn!(%error, uploads, "posted files are left to be resumed");
    }
}

/// Its size and hash are those that we stored, so a rejection means that the bucket has lost or changed the object. Its entry
/// says so by its status; the others of the form stand.
fn note_rejection(upload: &Upload) {
    if let (Status::Rejected, Some(reason)) = (upload.status, upload.reason) {
        tracing::error!(upload = %upload.id, %reason, "a posted file was rejected: the bucket has not what it took");
    }
}

/// Look at one file.
///
/// Scope `read`.
#[utoipa::path(get, path = "/api/files/{id}", tag = "Files", operation_id = "getFile", params(params::Id),
    responses((status = 200, description = "The file", body = FilesAnswer), refusals::OneFile))]
async fn show(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Json<FilesAnswer>, ApiError> {
    caller.needs(Scope::Read)?;
    let id = id.0.ok_or(ApiError::FileNotFound)?;
    let entry = find(&http, &caller, id).await?;
    Ok(Json(FilesAnswer { message: GOT, files: vec![entry] }))
}

/// The file, or what is to become it.
async fn find(http: &Http, caller: &Caller, id: Uuid) -> Result<FileEntry, ApiError> {
    if let Some(file) = own(http, caller, id).await? {
        return Ok(file.into());
    }
    let upload = on_its_way(http, caller, id).await?;
    if upload.status != Status::Done {
        return Ok(upload.into());
    }
    // It was stored between the two looks, or was deleted long ago.
    Ok(own(http, caller, id).await?.ok_or(ApiError::FileNotFound)?.into())
}

/// The caller's own file of that id; `None` when there is none of that id.
async fn own(http: &Http, caller: &Caller, id: Uuid) -> Result<Option<File>, ApiError> {
    let file = files::find(&http.ctx.db, id).await?;
    if let Some(file) = &file {
        belongs(caller, file.org_id)?;
    }
    Ok(file)
}

fn belongs(caller: &Caller, org: Uuid) -> Result<(), ApiError> {
    if org == caller.org() {
        return Ok(());
    }
    Err(ApiError::Authorization("User has not been authorized to request this file".to_owned()))
}

/// The upload that is to become the file, once its bytes are there.
async fn on_its_way(http: &Http, caller: &Caller, id: Uuid) -> Result<Upload, ApiError> {
    let upload = uploads::find_by_file(&http.ctx.db, id).await?.ok_or(ApiError::FileNotFound)?;
    belongs(caller, upload.org_id)?;
    match upload.status {
        Status::Arrived | Status::Verified | Status::Done | Status::Rejected => Ok(upload),
        Status::Requested | Status::Issued | Status::Expired | Status::Cancelled => Err(ApiError::FileNotFound),
    }
}

/// Delete a file.
///
/// Its bytes go a while after the last file that shares them. One that has arrived and is not looked at yet is taken back, as by
/// its upload. Scope `upload`.
#[utoipa::path(delete, path = "/api/files/{id}", tag = "Files", operation_id = "deleteFile", params(params::Id),
    responses((status = 200, description = "The entry as it was", body = FilesAnswer), refusals::Removal))]
async fn remove(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Json<FilesAnswer>, ApiError> {
    caller.needs(Scope::Upload)?;
    let id = id.0.ok_or(ApiError::FileNotFound)?;
    let entry = match own(&http, &caller, id).await? {
        Some(file) => delete(&http, file).await?,
        None => take_back(&http, &caller, id).await?,
    };
    Ok(Json(FilesAnswer { message: DELETED, files: vec![entry] }))
}

/// The entry that was deleted; 404 where somebody was faster.
async fn delete(http: &Http, file: File) -> Result<FileEntry, ApiError> {
    if !files::delete(&http.ctx.db, file.id, http.ctx.now()).await? {
        return Err(ApiError::FileNotFound);
    }
    fold_soon(http, file.org_id).await;
    Ok(file.into())
}

/// Takes back what is not a file yet.
async fn take_back(http: &Http, caller: &Caller, id: Uuid) -> Result<FileEntry, ApiError> {
    let upload = on_its_way(http, caller, id).await?;
    if upload.status == Status::Done {
        // It was stored between the two looks, or was deleted long ago.
        let file = own(http, caller, id).await?.ok_or(ApiError::FileNotFound)?;
        return delete(http, file).await;
    }
    if upload.status != Status::Arrived || !uploads::cancel(&http.ctx.db, upload.id, http.ctx.now()).await? {
        let refusal = "Only a stored file can be deleted; look at its `status`, and try again when it is `done`";
        return Err(ApiError::Conflict(refusal.to_owned()));
    }
    remove_staged(http, &upload).await;
    Ok(Upload { status: Status::Cancelled, ..upload }.into())
}

/// Removes the object of an upload that was taken back, if the bucket lets us: else the sweep does.
pub async fn remove_staged(http: &Http, upload: &Upload) {
    if let Err(error) = http.ctx.bucket.delete(std::slice::from_ref(&upload.object_key)).await {
        tracing::warn!(%error, upload = %upload.id, "a cancelled upload's object is left to the sweep");
    }
}

/// Get the bytes of a file.
///
/// Scope `read`.
#[utoipa::path(get, path = "/api/files/{id}/content", tag = "Files", operation_id = "getFileContent", params(params::Id),
    responses(
        (status = 302, description = "The bytes are at `Location` for the next five minutes",
            headers(("Location" = String, description = "A presigned GET of the bucket"))),
        refusals::OneFile))]
async fn content(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Response, ApiError> {
    caller.needs(Scope::Read)?;
    let id = id.0.ok_or(ApiError::FileNotFound)?;
    let Some(file) = own(&http, &caller, id).await? else {
        on_its_way(&http, &caller, id).await?;
        return Err(ApiError::FileNotFound);
    };
    let blob = blobs::by_id(&http.ctx.db, file.blob_id).await?.ok_or(ApiError::FileNotFound)?;
    let url = http.ctx.bucket.presign_get(&blob.object_key, &file.filename, CONTENT_LIFE).await?;
    let location = HeaderValue::from_str(&url).map_err(|error| ApiError::Internal(error.into()))?;
    Ok((StatusCode::FOUND, [(header::LOCATION, location)]).into_response())
}

/// How many files the org has, and how large they are.
///
/// Scope `report` or `read`.
#[utoipa::path(get, path = "/api/files/report", tag = "Files", operation_id = "getReport",
    responses((status = 200, description = "The org's report", body = ReportAnswer)))]
async fn report(State(http): State<Arc<Http>>, caller: Caller) -> Result<Json<ReportAnswer>, ApiError> {
    caller.needs_one_of(&[Scope::Report, Scope::Read])?;
    let report = reports::find(&http.ctx.db, caller.org()).await?;
    Ok(Json(ReportAnswer { message: GOT, files: [report.into()] }))
}

/// List the org's files.
///
/// Newest first unless `sort` says otherwise. To walk through all of them, send each answer's `next` as `after`: what is added in
/// between neither repeats nor hides an entry. Scope `read`.
#[utoipa::path(get, path = "/api/files", tag = "Files", operation_id = "listFiles",
    params(params::Page, params::Files, params::ForTarget),
    responses((status = 200, description = "A part of the files", body = FileList), refusals::List))]
async fn list(State(http): State<Arc<Http>>, caller: Caller, query: Query) -> Result<Json<FileList>, ApiError> {
    caller.needs(Scope::Read)?;
    let (filter, paging) = (filter_of(&query)?, Paging::read(&query, MOST_PER_PAGE)?);
    let mut rows = files::list(&http.ctx.db, caller.org(), &filter, paging.part()).await?;
    let next = paging.cut(&mut rows, |file| file.id);
    let count = files::count(&http.ctx.db, caller.org(), &filter).await?;
    let files = rows.into_iter().map(FileEntry::from).collect();
    Ok(Json(FileList { message: GOT, files, part: paging.tell(next, count) }))
}

fn filter_of(query: &Query) -> Result<files::Filter, ApiError> {
    Ok(files::Filter {
        sha256: query.parsed("hash")?,
        filename: query.text("filename")?,
        content_type: query.text("type")?,
        target: query.parsed("target")?,
        number: query.text("number")?,
    })
}
