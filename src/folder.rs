//! The data folder: one serving process at a time, and a note for others where that one is reached. What lies elsewhere, a
//! ledger or a bucket, has a lock of its own.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const LOCK: &str = "longshore.lock";
/// The lock of a bucket's folder.
pub(crate) const BUCKET_LOCK: &str = "longshore-bucket.lock";
/// What a refusal calls it.
const THE_FOLDER: &str = "the data folder";
const SERVING: &str = "serving.json";

/// A data folder that is ours until this is dropped, or the process ends however it may.
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: Lock,
}

/// A lock file that is ours until this is dropped or released, or the process ends however it may.
#[derive(Debug)]
pub(crate) struct Lock(File);

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
    /// Another process has what lies there open.
    #[error("{what} {} is in use by another process", path.display())]
    Taken {
        /// What, with its article.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{what} {} cannot be used", path.display())]
    Refused {
        /// What, with its article.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl DataFolder {
    /// Makes the folder (mode 0700) if it is not there and takes it for this process.
    pub(crate) fn claim(path: &Path) -> Result<Self, FolderError> {
        let refused = |source| FolderError::Refused { what: THE_FOLDER, path: path.to_owned(), source };
        make(path).map_err(refused)?;
        let lock = Lock::take((THE_FOLDER, path), &path.join(LOCK)).map_err(|error| match error {
            FolderError::Taken { path, .. } => FolderError::InUse { by: read_serving(&path), path },
            error => error,
        })?;
        let folder = Self { path: path.to_owned(), _lock: lock };
        folder.clear_serving().map_err(refused)?;
        Ok(folder)
    }

    /// Tells others where this process is reached.
    pub(crate) fn announce(&self, url: &str) -> Result<(), FolderError> {
        let refused = |source| FolderError::Refused { what: THE_FOLDER, path: self.path.clone(), source };
        self.note(url).map_err(refused)
    }

    fn note(&self, url: &str) -> io::Result<()> {
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

impl Lock {
    /// Takes the lock that stands for something, or says that somebody else has it.
    pub(crate) fn take((what, path): (&'static str, &Path), lock: &Path) -> Result<Self, FolderError> {
        let refused = |source| FolderError::Refused { what, path: path.to_owned(), source };
        let lock = open_lock(lock).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self(lock)),
            Err(TryLockError::WouldBlock) => Err(FolderError::Taken { what, path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(refused(error)),
        }
    }

    /// Takes the lock that lies beside a file, wherever links to it lead.
    pub(crate) fn beside(what: &'static str, path: &Path) -> Result<Self, FolderError> {
        let mut lock = path.canonicalize().unwrap_or_else(|_| path.to_owned()).into_os_string();
        lock.push(".lock");
        Self::take((what, path), Path::new(&lock))
    }

    /// Lets others have it although this lives on.
    pub(crate) fn release(&self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a lock could not be released");
        }
    }
}

/// Who serves from the folder now; `None` when nobody does.
pub(crate) fn serving(path: &Path) -> io::Result<Option<Serving>> {
    if !path.join(LOCK).exists() {
        return Ok(None);
    }
    match open_lock(&path.join(LOCK))?.try_lock() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(read_serving(path)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether some longshore keeps its data or a bucket in this folder, be it ours or another's.
pub(crate) fn is_kept_by_longshore(path: &Path) -> bool {
    [LOCK, BUCKET_LOCK].iter().any(|lock| path.join(lock).is_file())
}

/// Makes the folder, readable by its owner alone.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
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

    #[cfg(unix)]
    #[test]
    fn what_lies_elsewhere_belongs_to_one_process_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("ledger.db"), folder.path().join("link.db"));
        fs::write(&path, "").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();

        let first = Lock::beside("the ledger", &path).unwrap();
        let refused = Lock::beside("the ledger", &link).unwrap_err();
        assert_eq!(refused.to_string(), format!("the ledger {} is in use by another process", link.display()));

        first.release();
        Lock::beside("the ledger", &link).unwrap();
    }
}
