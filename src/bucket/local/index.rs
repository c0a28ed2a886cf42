//! The index: a row per object, in an SQLite file beside the data.
//!
//! A data file is written before the row that names it, and removed after the last row that named it, each time by
//! way of a commit. So a crash leaves at worst a file that no row names. Rows are written by one writer in groups;
//! each write here has one statement that changes anything, so none needs a savepoint.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longshore_jobs::ledger::LedgerError;
use longshore_jobs::ledger::sqlite::{Sqlite, Unit};
use longshore_jobs::model::{Digest, Timestamp};
use longshore_jobs::outside::ObjectHead;
use sqlx::SqliteConnection;

const FIND: &str = "select key, file, size, etag, content_type, metadata, sha256, sequencer, modified_at
    from objects
    where key = $1";
const INSERT: &str = "insert into objects
    (key, file, size, etag, content_type, metadata, sha256, sequencer, modified_at)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    on conflict (key) do nothing";
const REPLACE: &str = "update objects
    set file = $2, size = $3, etag = $4, content_type = $5, metadata = $6, sha256 = $7, sequencer = $8, modified_at = $9
    where key = $1";

/// An object.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Row {
    pub(crate) key: String,
    /// The data file's name.
    pub(crate) file: String,
    pub(crate) size: i64,
    pub(crate) etag: String,
    pub(crate) content_type: Option<String>,
    /// What came as `x-amz-meta-…`, a JSON object of strings.
    pub(crate) metadata: String,
    pub(crate) sha256: Digest,
    /// Grows with every write, also across restarts; set by the index.
    pub(crate) sequencer: String,
    pub(crate) modified_at: Timestamp,
}

impl Row {
    pub(crate) fn head(&self) -> ObjectHead {
        ObjectHead {
            key: self.key.clone(),
            size: self.size,
            etag: self.etag.clone(),
            content_type: self.content_type.clone(),
            modified_at: self.modified_at,
        }
    }
}

/// What became of a copy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Copied {
    Done { sha256: Digest, unused: Option<String> },
    Missing,
    Changed,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Index {
    db: Sqlite,
    opening: u32,
    written: Arc<AtomicU64>,
}

impl Index {
    pub(crate) async fn open(path: &Path) -> Result<Self, LedgerError> {
        let db = Sqlite::open(path, &sqlx::migrate!("src/bucket/local/migrations")).await?;
        let opening = db
            .write(Unit::Statement, |connection| {
                Box::pin(async move {
                    let query = "update openings set number = number + 1 returning number";
                    Ok(sqlx::query_scalar(query).fetch_one(connection).await?)
                })
            })
            .await?;
        Ok(Self { db, opening, written: Arc::default() })
    }

    /// The how-manieth opening of the bucket this is.
    pub(crate) fn opening(&self) -> u32 {
        self.opening
    }

    pub(crate) async fn find(&self, key: &str) -> Result<Option<Row>, LedgerError> {
        Ok(sqlx::query_as(FIND).bind(key).fetch_optional(self.db.reader()).await?)
    }

    /// Inserts or replaces. Gives the row as stored, and the data file that nothing names any more.
    pub(crate) async fn put(&self, mut row: Row) -> Result<(Row, Option<String>), LedgerError> {
        let index = self.clone();
        self.db
            .write(Unit::Statement, move |connection| {
                Box::pin(async move {
                    row.sequencer = index.next_sequencer();
                    let unused = upsert(connection, &row).await?;
                    Ok((row, unused))
                })
            })
            .await
    }

    /// Names the data file of `from`, if that is still the same version, by another key as well.
    pub(crate) async fn copy(&self, from: ObjectHead, to: String, now: Timestamp) -> Result<Copied, LedgerError> {
        let index = self.clone();
        self.db
            .write(Unit::Statement, move |connection| {
                Box::pin(async move {
                    let found: Option<Row> =
                        sqlx::query_as(FIND).bind(&from.key).fetch_optional(&mut *connection).await?;
                    let Some(found) = found else { return Ok(Copied::Missing) };
                    if found.etag != from.etag {
                        return Ok(Copied::Changed);
                    }
                    let row = Row { key: to, sequencer: index.next_sequencer(), modified_at: now, ..found };
                    let unused = upsert(connection, &row).await?;
                    Ok(Copied::Done { sha256: row.sha256, unused })
                })
            })
            .await
    }

    /// Removes the rows; gives the data files that nothing names any more.
    pub(crate) async fn delete(&self, keys: &[String]) -> Result<Vec<String>, LedgerError> {
        let keys = serde_json::json!(keys).to_string();
        self.db
            .write(Unit::Statement, move |connection| {
                Box::pin(async move {
                    let query = "delete from objects where key in (select value from json_each($1)) returning file";
                    let files: Vec<String> = sqlx::query_scalar(query).bind(keys).fetch_all(&mut *connection).await?;
                    Ok(unnamed(connection, &files).await?)
                })
            })
            .await
    }

    /// The rows whose keys start with `prefix` and sort behind `after`, in the order of their bytes.
    pub(crate) async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Row>, LedgerError> {
        let query = "select key, file, size, etag, content_type, metadata, sha256, sequencer, modified_at
            from objects
            where key >= $1 and key > $2
            order by key
            limit $3";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<Row> =
            sqlx::query_as(query).bind(prefix).bind(after).bind(limit).fetch_all(self.db.reader()).await?;
        Ok(rows.into_iter().take_while(|row| row.key.starts_with(prefix)).collect())
    }

    /// Those of the data files that no row names.
    pub(crate) async fn unnamed(&self, files: &[String]) -> Result<Vec<String>, LedgerError> {
        let mut connection = self.db.reader().acquire().await?;
        Ok(unnamed(&mut connection, files).await?)
    }

    pub(crate) async fn close(&self) {
        self.db.close().await;
    }

    /// Taken inside of writes alone, of which there is one at a time: so it grows in the order of commits.
    fn next_sequencer(&self) -> String {
        format!("{:08X}{:012X}", self.opening, self.written.fetch_add(1, Ordering::Relaxed))
    }
}

/// Nearly every key is new, so that is tried first: one statement.
async fn upsert(connection: &mut SqliteConnection, row: &Row) -> Result<Option<String>, sqlx::Error> {
    if write_row(connection, INSERT, row).await? == 1 {
        return Ok(None);
    }
    let query = "select file from objects where key = $1";
    let old: String = sqlx::query_scalar(query).bind(&row.key).fetch_one(&mut *connection).await?;
    write_row(connection, REPLACE, row).await?;
    Ok(unnamed(connection, &[old]).await?.pop())
}

async fn write_row(connection: &mut SqliteConnection, query: &'static str, row: &Row) -> Result<u64, sqlx::Error> {
    let query = sqlx::query(query)
        .bind(&row.key)
        .bind(&row.file)
        .bind(row.size)
        .bind(&row.etag)
        .bind(&row.content_type)
        .bind(&row.metadata)
        .bind(row.sha256)
        .bind(&row.sequencer)
        .bind(row.modified_at);
    Ok(query.execute(connection).await?.rows_affected())
}

async fn unnamed(connection: &mut SqliteConnection, files: &[String]) -> Result<Vec<String>, sqlx::Error> {
    let query = "select distinct value
        from json_each($1)
        where not exists (select 1 from objects where file = value)";
    sqlx::query_scalar(query).bind(serde_json::json!(files).to_string()).fetch_all(connection).await
}
