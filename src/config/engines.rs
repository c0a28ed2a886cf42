//! URLs that choose the engines. Those of other engines are known by name, so that the refusal can say what is the matter.

use std::fmt;
use std::path::{Path, PathBuf};

use super::mistakes::Wrong;

/// Where the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseEngine {
    /// A file, `sqlite://data/longshore.db`; `sqlite:///var/…` for an absolute path.
    Sqlite(PathBuf),
}

/// Where the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueEngine {
    /// The table `jobs` of the ledger.
    Database,
}

/// Where the objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BucketEngine {
    /// A folder, `file://data/bucket`, served by this program.
    Folder(PathBuf),
}

/// Where notices of new objects come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InboxEngine {
    /// The local bucket, in the same process.
    Local,
    /// Nowhere: callbacks and the poller have to do.
    None,
}

impl DatabaseEngine {
    /// Empty is a file in the data folder.
    pub(super) fn parse(text: &str, data_dir: &Path) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Ok(Self::Sqlite(data_dir.join("longshore.db")));
        }
        if let Some(path) = file_path(text, "sqlite://") {
            return Ok(Self::Sqlite(path));
        }
        Err(refusal(text, &["postgres", "postgresql"], "write sqlite://data/longshore.db"))
    }
}

impl QueueEngine {
    /// Empty is in the database.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Ok(Self::Database);
        }
        Err(refusal(text, &["redis", "rediss"], "leave it empty to keep the queue in the database"))
    }
}

impl BucketEngine {
    /// Empty is a folder in the data folder.
    pub(super) fn parse(text: &str, data_dir: &Path) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Ok(Self::Folder(data_dir.join("bucket")));
        }
        if let Some(path) = file_path(text, "file://") {
            return Ok(Self::Folder(path));
        }
        Err(refusal(text, &["s3"], "write file://data/bucket"))
    }
}

impl InboxEngine {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "local:" => Ok(Self::Local),
            "none:" => Ok(Self::None),
            _ => Err(refusal(text, &["sqs+https", "sqs+http", "webhook"], "write local: or none:")),
        }
    }
}

/// The path behind the scheme; `None` when the scheme is another, no path follows, or it carries parameters.
fn file_path(text: &str, scheme: &str) -> Option<PathBuf> {
    let path = text.strip_prefix(scheme)?;
    (!path.is_empty() && !path.contains('?')).then(|| path.into())
}

fn refusal(text: &str, planned: &[&str], hint: &str) -> Wrong {
    let scheme = text.split(':').next().unwrap_or_default();
    if planned.contains(&scheme) {
        return Wrong::new(format!("names an engine ({scheme}) that is not built into this version yet"), hint);
    }
    Wrong::new("is not a URL that can be used here", hint)
}

impl fmt::Display for DatabaseEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Sqlite(path) = self;
        write!(f, "sqlite://{}", path.display())
    }
}

impl fmt::Display for BucketEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Folder(path) = self;
        write!(f, "file://{}", path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_may_be_relative_or_absolute() {
        let parse = |text| DatabaseEngine::parse(text, Path::new("d"));
        assert_eq!(parse(""), Ok(DatabaseEngine::Sqlite("d/longshore.db".into())));
        assert_eq!(parse("sqlite://x/y.db"), Ok(DatabaseEngine::Sqlite("x/y.db".into())));
        assert_eq!(parse("sqlite:///var/y.db"), Ok(DatabaseEngine::Sqlite("/var/y.db".into())));
    }

    #[test]
    fn engines_to_come_are_refused_as_such_and_others_as_unknown() {
        let not_yet = |wrong: Wrong| format!("{wrong:?}").contains("not built into this version yet");
        assert!(not_yet(DatabaseEngine::parse("postgres://h/d", Path::new("d")).unwrap_err()));
        assert!(not_yet(QueueEngine::parse("redis://h").unwrap_err()));
        assert!(not_yet(BucketEngine::parse("s3://b", Path::new("d")).unwrap_err()));
        assert!(not_yet(InboxEngine::parse("sqs+https://h/q").unwrap_err()));
        assert!(!not_yet(BucketEngine::parse("ftp://b", Path::new("d")).unwrap_err()));
        assert!(!not_yet(DatabaseEngine::parse("sqlite://x?mode=memory", Path::new("d")).unwrap_err()));
    }
}
