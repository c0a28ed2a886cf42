//! Files: stored with their blob, their upload and the report's delta in one transaction.

use uuid::Uuid;

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

/// Which part of the list.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Oldest first instead of newest first.
    pub ascending: bool,
    /// Behind this id in the list's order; `None` from the start.
    pub after: Option<Uuid>,
    /// At most so many.
    pub limit: i64,
    /// Leaves out so many.
    pub offset: i64,
}

/// Counting stops here: a client that reads this as the count of a list asks for more than a page can show.
pub const COUNT_CAP: i64 = 100_000;

macro_rules! filtered {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " from files
        where org_id = $1
          and ($2 is null or sha256 = $2)
          and ($3 is null or filename = $3)
          and ($4 is null or content_type = $4)
          and ($5 is null or target_kind = $5)
          and ($6 is null or target_number = $6)",
            $after
        )
    };
}

/// A page of an org's files.
pub async fn list(db: &Db, org: Uuid, filter: &Filter, page: Page) -> Result<Vec<File>, LedgerError> {
    let query = if page.ascending {
        filtered!("select *", " and ($7 is null or id > $7) order by id limit $8 offset $9")
    } else {
        filtered!("select *", " and ($7 is null or id < $7) order by id desc limit $8 offset $9")
    };
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(org)
        .bind(filter.sha256)
        .bind(filter.filename.as_deref())
        .bind(filter.content_type.as_deref())
        .bind(filter.target)
        .bind(filter.number.as_deref())
        .bind(page.after)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(c)
        .await)?)
}

/// How many files the filter lets through, up to [`COUNT_CAP`] + 1.
pub async fn count(db: &Db, org: Uuid, filter: &Filter) -> Result<i64, LedgerError> {
    let query = filtered!("select count(*) from (select 1", " limit $7) capped");
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query)
        .bind(org)
        .bind(filter.sha256)
        .bind(filter.filename.as_deref())
        .bind(filter.content_type.as_deref())
        .bind(filter.target)
        .bind(filter.number.as_deref())
        .bind(COUNT_CAP + 1)
        .fetch_one(c)
        .await)?)
}
