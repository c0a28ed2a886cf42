//! Objects as they are: a row of the index counts only together with its data file, whole.
//!
//! A file that somebody removed or cut, or that a restore did not bring back, is lost: its object is answered for as S3 does for
//! a key that has none, so that whoever has the bytes heals it and the sweep finds what nobody does. A disk that fails, or is not
//! there, is a failure and not a loss: what is final must not come of it.

use std::fs::File;
use std::io;

use tokio::task::spawn_blocking;

use super::files::Files;
use super::index::Row;
use super::{LocalBucket, StoreError};

/// What came of looking for the data file that a row names.
enum Looked<T> {
    /// It is there.
    Whole(Row, T),
    /// The row names another file by now, or is gone.
    Moved(Option<Row>),
    /// The row still names it, and it is not there, or not whole.
    Lost(Row),
}

/// What came of opening a version.
pub(super) enum Opened {
    Whole(File),
    /// The object is another version by now, or is gone.
    Changed,
    /// There is no object any more: its bytes are lost.
    Lost,
}

impl LocalBucket {
    /// The object at a key, if its data file is whole. One that is lost is logged, for a person has to know.
    pub(super) async fn look(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let found = self.index.find(key).await?;
        self.settle(found).await
    }

    async fn settle(&self, mut found: Option<Row>) -> Result<Option<Row>, StoreError> {
        while let Some(row) = found {
            match self.at_file(row, Files::stat).await? {
                Looked::Whole(row, ()) => return Ok(Some(row)),
                Looked::Moved(now) => found = now,
                Looked::Lost(row) => {
                    self.note_lost(&row);
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }

    /// Opens the data file of a version.
    pub(super) async fn open_version(&self, mut row: Row) -> Result<Opened, StoreError> {
        let etag = row.etag.clone();
        loop {
            row = match self.at_file(row, Files::open_whole).await? {
                Looked::Whole(_, file) => return Ok(Opened::Whole(file)),
                // The same bytes were posted once more: the same version, in a file of its own.
                Looked::Moved(Some(now)) if now.etag == etag => now,
                Looked::Moved(_) => return Ok(Opened::Changed),
                Looked::Lost(row) => {
                    self.note_lost(&row);
                    return Ok(Opened::Lost);
                }
            }
        }
    }

    /// Those of the rows whose data file is whole. That costs a `stat` for each: 3 to 7 ms for a page of a thousand on a busy machine
    /// of two cores, and on a disk that has to seek, a seek for each whose folder is not in memory. Only sweeps and the poller of
    /// prefixes list.
    pub(super) async fn all_whole(&self, rows: Vec<Row>) -> Result<Vec<Row>, StoreError> {
        let (files, asked) = (self.files.clone(), rows.clone());
        let stats = spawn_blocking(move || asked.iter().map(|row| files.stat(row)).collect::<Vec<_>>()).await?;
        let mut whole = Vec::with_capacity(rows.len());
        for (row, stat) in rows.into_iter().zip(stats) {
            match stat {
                Ok(Some(())) => whole.push(row),
                // Perhaps it was replaced since the rows were read.
                _ => whole.extend(self.settle(Some(row)).await?),
            }
        }
        Ok(whole)
    }

    async fn at_file<T: Send + 'static>(
        &self,
        row: Row,
        step: fn(&Files, &Row) -> io::Result<Option<T>>,
    ) -> Result<Looked<T>, StoreError> {
        let (files, asked) = (self.files.clone(), row.clone());
        let found = spawn_blocking(move || step(&files, &asked)).await?;
        let found = found.map_err(|source| self.unread(&row, source))?;
        if let Some(found) = found {
            return Ok(Looked::Whole(row, found));
        }
        match self.index.find(&row.key).await? {
            Some(now) if now.file == row.file => Ok(Looked::Lost(row)),
            now => Ok(Looked::Moved(now)),
        }
    }

    pub(super) fn unread(&self, row: &Row, source: io::Error) -> StoreError {
        StoreError::Object { op: "read", key: row.key.clone(), path: self.files.path(&row.file), source }
    }

    /// For whoever writes an object; it has no file with a name yet.
    pub(super) fn unwritten(&self, key: &str) -> impl Fn(io::Error) -> StoreError + use<> {
        let (key, path) = (key.to_owned(), self.files.dir().to_owned());
        move |source| StoreError::Object { op: "write", key: key.clone(), path: path.clone(), source }
    }

    fn note_lost(&self, row: &Row) {
        let path = self.files.path(&row.file);
        let path = path.display();
        tracing::error!(key = row.key, %path, size = row.size, "the bytes of an object are lost: its file is not there, or not whole");
    }
}
