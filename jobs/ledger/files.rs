//! Files: stored with their blob, their upload and the report's delta in one transaction.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::page::{COUNT_CAP, Page, condition, select_count, select_page};
use super::stores::Store;
use super::uploads::moved;
use super::{Db, LedgerError, Tx};
use crate::model::file::File;
use crate::model::report::Delta;
use crate::model::target::TargetKind;
use crate::model::{Digest, Status, Timestamp, Upload};

/// How storing a verified upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The object that was copied is the org's blob now.
    Adopted,
    /// The org had the bytes: the copy, if one was made, belongs to nobody.
    Joined,
    /// Somebody was faster; nothing was written.
    Lost,
    /// The org's blob is being removed; nothing was written. Try again when it is gone.
    Leaving,
}

/// verified → done: the file entry, its blob and the report's delta, all or none.
///
/// `copy` is the key of a copy that may become the blob. Without one the org must have the blob already: where it has not,
/// the answer is [`Stored::Leaving`].
pub async fn store(db: &Db, upload: Upload, copy: Option<String>, now: Timestamp) -> Result<Stored, LedgerError> {
    if upload.verified_sha256.is_none() || upload.arrived_size.is_none() {
        // It was not verified as it was seen, so the row is not to be moved.
        return Ok(Stored::Lost);
    }
    let id = upload.id;
    let stored = db.gathered().store.ask(Store { upload, copy, now }).await?;
    moved(db, id, Status::Done, u64::from(matches!(stored, Stored::Adopted | Stored::Joined)));
    Ok(stored)
}

pub(super) fn entry_of(upload: &Upload, (sha256, size): (Digest, i64), blob_id: Uuid, deduplicated: bool) -> File {
    File {
        id: upload.file_id,
        org_id: upload.org_id,
        user_id: upload.user_id,
        upload_id: upload.id,
        blob_id,
        filename: upload.filename.clone(),
        size,
        sha256,
        content_type: upload.content_type.clone(),
        target_kind: upload.target_kind,
        target_number: upload.target_number.clone(),
        deduplicated,
        created_at: upload.created_at,
    }
}

pub(super) async fn append_delta(tx: &mut Tx<'_>, org: Uuid, delta: Delta, now: Timestamp) -> Result<(), LedgerError> {
    let query = "insert into report_deltas (org_id, files, bytes, unique_files, unique_bytes, created_at)
        values ($1, $2, $3, $4, $5, $6)";
    sql!(tx.on(), c => sqlx::query(query)
        .bind(org)
        .bind(delta.files)
        .bind(delta.bytes)
        .bind(delta.unique_files)
        .bind(delta.unique_bytes)
        .bind(now)
        .execute(c).await.map(drop))?;
    Ok(())
}

/// Deletes a file entry. Its upload stays as it ended, without its ref; the blob stays until it is collected. `false` when
/// there is no such entry any more.
pub async fn delete(db: &Db, id: Uuid, now: Timestamp) -> Result<bool, LedgerError> {
    db.write(move |mut tx| {
        Box::pin(async move {
            let query = "delete from files where id = $1 returning *";
            let gone: Option<File> = sql!(tx.on(), c => sqlx::query_as(query).bind(id).fetch_optional(c).await)?;
            let Some(file) = gone else {
                return Ok(false);
            };
            free_ref(&mut tx, file.upload_id, now).await?;
            let last = leave_blob(&mut tx, file.blob_id, now).await? == 0;
            append_delta(&mut tx, file.org_id, Delta::deleted(file.size, last), now).await?;
            Ok(true)
        })
    })
    .await
}

async fn free_ref(tx: &mut Tx<'_>, upload: Uuid, now: Timestamp) -> Result<(), LedgerError> {
    let query = "update uploads set file_deleted_at = $2, updated_at = $2 where id = $1";
    sql!(tx.on(), c => sqlx::query(query).bind(upload).bind(now).execute(c).await.map(drop))?;
    Ok(())
}

/// How many files still refer to the blob.
async fn leave_blob(tx: &mut Tx<'_>, blob: Uuid, now: Timestamp) -> Result<i64, LedgerError> {
    let query = "update blobs
        set refs = refs - 1, unreferenced_at = case when refs = 1 then $2 end
        where id = $1
        returning refs";
    Ok(sql!(tx.on(), c => sqlx::query_scalar(query).bind(blob).bind(now).fetch_one(c).await)?)
}

/// The file entry; `None` when there is none of that id.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<File>, LedgerError> {
    let query = "select * from files where id = $1";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(id).fetch_optional(c).await)?)
}

/// Which files of an org to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only with these bytes.
    pub sha256: Option<Digest>,
    /// Only of exactly this name.
    pub filename: Option<String>,
    /// Only of this media type.
    pub content_type: Option<String>,
    /// Only for this kind of target.
    pub target: Option<TargetKind>,
    /// Only for this number.
    pub number: Option<String>,
}

impl Filter {
    /// The org is `$1`, and the filters follow in their order. The digest is looked up at the blob, of which an org has one.
    pub(super) fn text(&self) -> String {
        let number = condition(
            self.target.is_some(),
            "target_number = $6",
            "id in (
                select f.id from files f
                where f.org_id = $1 and f.target_kind in ('order', 'style') and f.target_number = $6)",
        );
        [
            "from files where org_id = $1",
            condition(
                self.sha256.is_some(),
                "blob_id = (select id from blobs where org_id = $1 and sha256 = $2)",
                "$2 is null",
            ),
            condition(self.filename.is_some(), "filename = $3", "$3 is null"),
            condition(self.content_type.is_some(), "content_type = $4", "$4 is null"),
            condition(self.target.is_some(), "target_kind = $5", "$5 is null"),
            condition(self.number.is_some(), number, "$6 is null"),
        ]
        .join(" and ")
    }
}

/// Binds the org and the filters to a query of [`Filter::text`].
macro_rules! filtered {
    ($query:expr, $org:expr, $filter:expr) => {
        $query
            .bind($org)
            .bind($filter.sha256)
            .bind($filter.filename.as_deref())
            .bind($filter.content_type.as_deref())
            .bind($filter.target)
            .bind($filter.number.as_deref())
    };
}

/// A page of an org's files.
pub async fn list(db: &Db, org: Uuid, filter: &Filter, page: Page) -> Result<Vec<File>, LedgerError> {
    let query = AssertSqlSafe(select_page(&filter.text(), page, 7));
    Ok(sql!(db.reader(), c => filtered!(sqlx::query_as(query), org, filter)
        .bind(page.after)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(c)
        .await)?)
}

/// How many files the filter lets through, up to [`COUNT_CAP`] + 1.
pub async fn count(db: &Db, org: Uuid, filter: &Filter) -> Result<i64, LedgerError> {
    let query = AssertSqlSafe(select_count(&filter.text(), 7));
    Ok(sql!(db.reader(), c => filtered!(sqlx::query_scalar(query), org, filter)
        .bind(COUNT_CAP + 1)
        .fetch_one(c)
        .await)?)
}
