//! The index: a row per object, in an SQLite file beside the data.
//!
//! A data file is written before the row that names it, and removed after the last row that named it, each time by
//! way of a commit. So a crash leaves at worst a file that no row names. What is asked for while a statement runs is done
//! by the next one, for all who asked.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use longshore_jobs::ledger::LedgerError;
use longshore_jobs::ledger::gather::Gather;
use longshore_jobs::ledger::sqlite::{Sqlite, Unit};
use longshore_jobs::model::{Digest, Timestamp};
use longshore_jobs::outside::ObjectHead;
use serde::Serialize;
use serde_json::json;
use sqlx::SqliteConnection;

const FIND: &str = "select key, file, size, etag, content_type, metadata, sha256, sequencer, modified_at
    from objects
    where key in (select value from json_each($1))";
const INSERT: &str = "insert into objects
    (key, file, size, etag, content_type, metadata, sha256, sequencer, modified_at)
    select value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
        value ->> 8
    from json_each($1)
    where true
    on conflict (key) do nothing
    returning key";
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
    find: Gather<String, Option<Row>>,
    put: Gather<Row, (Row, Option<String>)>,
    copy: Gather<Copy, Copied>,
    delete: Gather<Vec<String>, Vec<String>>,
}

/// A copy to be made: of this version, to that key.
#[derive(Clone, Debug)]
struct Copy {
    from: ObjectHead,
    to: String,
    now: Timestamp,
}

/// Numbers the writes of one opening. Used inside of writes alone, of which there is one at a time: so they grow in the order of
/// commits.
#[derive(Clone)]
struct Sequence {
    opening: u32,
    written: Arc<AtomicU64>,
}

impl Sequence {
    fn next(&self) -> String {
        format!("{:08X}{:012X}", self.opening, self.written.fetch_add(1, Ordering::Relaxed))
    }
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
        Ok(Self::over(db, opening))
    }

    /// Opens an index that another process may have open, without beginning an opening: nothing is put by way of it.
    pub(crate) async fn open_beside(path: &Path) -> Result<Self, LedgerError> {
        let db = Sqlite::open(path, &sqlx::migrate!("src/bucket/local/migrations")).await?;
        Ok(Self::over(db, 0))
    }

    fn over(db: Sqlite, opening: u32) -> Self {
        let sequence = Sequence { opening, written: Arc::default() };
        let (finder, putter, copier, remover) = (db.clone(), db.clone(), db.clone(), db.clone());
        let numbers = sequence.clone();
        Self {
            find: Gather::new(move |keys| find_all(finder.clone(), keys)),
            put: Gather::new(move |rows| put_all(putter.clone(), numbers.clone(), rows)),
            copy: Gather::new(move |copies| copy_all(copier.clone(), sequence.clone(), copies)),
            delete: Gather::new(move |keys| delete_all(remover.clone(), keys)),
            db,
            opening,
        }
    }

    /// The how-manieth opening of the bucket this is.
    pub(crate) fn opening(&self) -> u32 {
        self.opening
    }

    pub(crate) async fn find(&self, key: &str) -> Result<Option<Row>, LedgerError> {
        self.find.ask(key.to_owned()).await
    }

    /// Inserts or replaces. Gives the row as stored, and the data file that nothing names any more.
    pub(crate) async fn put(&self, row: Row) -> Result<(Row, Option<String>), LedgerError> {
        self.put.ask(row).await
    }

    /// Names the data file of `from`, if that is still the same version, by another key as well.
    pub(crate) async fn copy(&self, from: ObjectHead, to: String, now: Timestamp) -> Result<Copied, LedgerError> {
        self.copy.ask(Copy { from, to, now }).await
    }

    /// Removes the rows; gives the data files that nothing names any more.
    pub(crate) async fn delete(&self, keys: &[String]) -> Result<Vec<String>, LedgerError> {
        self.delete.ask(keys.to_vec()).await
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
}

async fn find_all(db: Sqlite, keys: Vec<String>) -> Result<Vec<Option<Row>>, LedgerError> {
    let rows: Vec<Row> = sqlx::query_as(FIND).bind(json!(keys).to_string()).fetch_all(db.reader()).await?;
    Ok(keys.iter().map(|key| rows.iter().find(|row| row.key == *key).cloned()).collect())
}

type Put = (Row, Option<String>);

async fn put_all(db: Sqlite, sequence: Sequence, rows: Vec<Row>) -> Result<Vec<Put>, LedgerError> {
    db.write(Unit::Statements, move |connection| {
        Box::pin(async move {
            let mut rows = rows;
            for row in &mut rows {
                row.sequencer = sequence.next();
            }
            let unused = upsert_all(connection, &rows).await?;
            Ok(rows.into_iter().zip(unused).collect())
        })
    })
    .await
}

async fn copy_all(db: Sqlite, sequence: Sequence, copies: Vec<Copy>) -> Result<Vec<Copied>, LedgerError> {
    db.write(Unit::Statements, move |connection| {
        Box::pin(async move {
            let keys: Vec<&str> = copies.iter().map(|copy| copy.from.key.as_str()).collect();
            let found: Vec<Row> =
                sqlx::query_as(FIND).bind(json!(keys).to_string()).fetch_all(&mut *connection).await?;
            let judged: Vec<Judged> = copies.into_iter().map(|copy| judge(copy, &found, &sequence)).collect();
            let rows: Vec<Row> = judged.iter().filter_map(|copy| copy.as_ref().ok().cloned()).collect();
            let mut unused = upsert_all(connection, &rows).await?.into_iter();
            Ok(judged
                .into_iter()
                .map(|copy| match copy {
                    Ok(row) => Copied::Done { sha256: row.sha256, unused: unused.next().flatten() },
                    Err(refused) => refused,
                })
                .collect())
        })
    })
    .await
}

/// The row that a copy makes, or why it makes none.
type Judged = Result<Row, Copied>;

fn judge(copy: Copy, found: &[Row], sequence: &Sequence) -> Judged {
    let row = found.iter().find(|row| row.key == copy.from.key).ok_or(Copied::Missing)?;
    if row.etag != copy.from.etag {
        return Err(Copied::Changed);
    }
    Ok(Row { key: copy.to, sequencer: sequence.next(), modified_at: copy.now, ..row.clone() })
}

async fn delete_all(db: Sqlite, asked: Vec<Vec<String>>) -> Result<Vec<Vec<String>>, LedgerError> {
    db.write(Unit::Statements, move |connection| {
        Box::pin(async move {
            let keys = json!(asked.iter().flatten().collect::<Vec<_>>()).to_string();
            let query = "delete from objects where key in (select value from json_each($1)) returning file";
            let files: Vec<String> = sqlx::query_scalar(query).bind(keys).fetch_all(&mut *connection).await?;
            // Whose keys they were does not matter: somebody removes them.
            let mut unnamed = vec![unnamed(connection, &files).await?];
            unnamed.resize(asked.len(), Vec::new());
            Ok(unnamed)
        })
    })
    .await
}

/// Nearly every key is new, so that is tried first, for all rows with one statement. Gives, for each row, the data file that
/// nothing names any more.
async fn upsert_all(connection: &mut SqliteConnection, rows: &[Row]) -> Result<Vec<Option<String>>, sqlx::Error> {
    let list = json!(rows.iter().map(Listed::of).collect::<Vec<_>>()).to_string();
    let inserted: Vec<String> = sqlx::query_scalar(INSERT).bind(list).fetch_all(&mut *connection).await?;
    let mut inserted: HashSet<String> = inserted.into_iter().collect();
    let mut unused = Vec::with_capacity(rows.len());
    for row in rows {
        // Of two rows with one key, the first is new and the second replaces it.
        let new = inserted.remove(&row.key);
        unused.push(if new { None } else { replace(connection, row).await? });
    }
    Ok(unused)
}

/// A row as it travels in a list.
#[derive(Serialize)]
struct Listed<'r>(&'r str, &'r str, i64, &'r str, Option<&'r str>, &'r str, String, &'r str, i64);

impl<'r> Listed<'r> {
    fn of(row: &'r Row) -> Self {
        let (sha256, modified_at) = (row.sha256.to_string(), row.modified_at.as_millis());
        let content_type = row.content_type.as_deref();
        let Row { key, file, size, etag, metadata, sequencer, .. } = row;
        Self(key, file, *size, etag, content_type, metadata, sha256, sequencer, modified_at)
    }
}

async fn replace(connection: &mut SqliteConnection, row: &Row) -> Result<Option<String>, sqlx::Error> {
    let query = "select file from objects where key = $1";
    let old: String = sqlx::query_scalar(query).bind(&row.key).fetch_one(&mut *connection).await?;
    sqlx::query(REPLACE)
        .bind(&row.key)
        .bind(&row.file)
        .bind(row.size)
        .bind(&row.etag)
        .bind(&row.content_type)
        .bind(&row.metadata)
        .bind(row.sha256)
        .bind(&row.sequencer)
        .bind(row.modified_at)
        .execute(&mut *connection)
        .await?;
    Ok(unnamed(connection, &[old]).await?.pop())
}

async fn unnamed(connection: &mut SqliteConnection, files: &[String]) -> Result<Vec<String>, sqlx::Error> {
    let query = "select distinct value
        from json_each($1)
        where not exists (select 1 from objects where file = value)";
    sqlx::query_scalar(query).bind(serde_json::json!(files).to_string()).fetch_all(connection).await
}
