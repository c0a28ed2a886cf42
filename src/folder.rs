//! The data folder: one serving process at a time, and a note for others where that one is reached.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const LOCK: &str = "longshore.lock";
const SERVING: &str = "serving.json";

/// A data folder that is ours until this is dropped, or the process ends however it may.
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

/// Who serves from a data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Serving {
    /// Its public address.
    pub(crate) url: String,
    /// Its process.
    pub(crate) pid: u32,
}

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// Another process serves from it.
    #[error("the data folder {} is in use{}", path.display(), by.as_ref().map(|by| format!(" by process {} at {}", by.pid, by.url)).unwrap_or_default())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who, as far as it said.
        by: Option<Serving>,
    },
    /// The file system refused.
    #[error("the data folder {} cannot be used", path.display())]
    Refused {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl DataFolder {
    /// Makes the folder (mode 0700) if it is not there and takes it for this process.
    pub(crate) fn claim(path: &Path) -> Result<Self, FolderError> {
        let refused = |source| FolderError::Refused { path: path.to_owned(), source };
        make(path).map_err(refused)?;
        let lock = open_lock(path).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FolderError::InUse { path: path.to_owned(), by: read_serving(path) });
            }
            Err(TryLockError::Error(error)) => return Err(refused(error)),
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        folder.clear_serving().map_err(refused)?;
        Ok(folder)
    }

    /// Tells others where this process is reached.
    pub(crate) fn announce(&self, url: &str) -> io::Result<()> {
        let serving = Serving { url: url.to_owned(), pid: std::process::id() };
        let text = serde_json::to_string(&serving).map_err(io::Error::other)?;
        let draft = self.path.join("serving.json.new");
        fs::write(&draft, text)?;
        fs::rename(draft, self.path.join(SERVING))
    }

    fn clear_serving(&self) -> io::Result<()> {
        match fs::remove_file(self.path.join(SERVING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        if let Err(error) = self.clear_serving() {
            tracing::warn!(%error, "the note in the data folder could not be removed");
        }
    }
}

/// Who serves from the folder now; `None` when nobody does.
pub(crate) fn serving(path: &Path) -> io::Result<Option<Serving>> {
    if !path.join(LOCK).exists() {
        return Ok(None);
    }
    match open_lock(path)?.try_lock() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(read_serving(path)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes the folder, readable by its owner alone.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path.join(LOCK))
}

fn read_serving(path: &Path) -> Option<Serving> {
    serde_json::from_slice(&fs::read(path.join(SERVING)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_and_told_where_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        assert_eq!(serving(&path).unwrap(), None);

        let first = DataFolder::claim(&path).unwrap();
        first.announce("http://127.0.0.1:7").unwrap();

        let Err(FolderError::InUse { by: Some(by), .. }) = DataFolder::claim(&path) else { panic!("claimed twice") };
        assert_eq!((by.url.as_str(), by.pid), ("http://127.0.0.1:7", std::process::id()));
        assert_eq!(serving(&path).unwrap(), Some(by));

        drop(first);
        assert_eq!(serving(&path).unwrap(), None);
        DataFolder::claim(&path).unwrap();
    }
}
