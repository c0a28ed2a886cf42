//! URLs that choose the engines, and what may stand beside what.

use std::fmt;
use std::path::{Path, PathBuf};

use longshore_jobs::ledger::postgres::in_schema;
use url::Url;

use super::Secret;
use super::mistakes::Wrong;

/// Where the ledger is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DatabaseEngine {
    /// A file, `sqlite://data/longshore.db`; `sqlite:///var/…` for an absolute path.
    Sqlite(PathBuf),
    /// A server, `postgres://user:password@host/database`.
    Postgres(Secret),
}

/// Where the queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QueueEngine {
    /// The table `jobs` of the ledger.
    Database,
    /// A server, `redis://host:6379/0`; `rediss://` for TLS.
    Redis(Secret),
}

/// Where the objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BucketEngine {
    /// A folder, `file://data/bucket`, served by this program.
    Folder(PathBuf),
    /// A bucket of that name, `s3://name`.
    S3(String),
}

/// Where notices of new objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InboxEngine {
    /// The local bucket, in the same process.
    Local,
    /// A queue, `sqs+https://sqs.eu-west-1.amazonaws.com/111122223333/notices`. Kept without the `sqs+`.
    Sqs(Url),
    /// Whoever knows the secret posts them to this service.
    Webhook,
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
        server(text, &["postgres", "postgresql"])
            .map(Self::Postgres)
            .ok_or_else(|| unknown("write sqlite://data/longshore.db or postgres://user:password@host/database"))
    }

    /// The same server with everything in a schema, whose name is a plain word. Files have none.
    pub(crate) fn in_schema(&self, schema: &str) -> Self {
        let Self::Postgres(url) = self else { return self.clone() };
        Self::Postgres(Secret(in_schema(url.reveal(), schema)))
    }

    /// The file; `None` when it is a server.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }
}

impl QueueEngine {
    /// Empty is in the database.
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Ok(Self::Database);
        }
        server(text, &["redis", "rediss"])
            .filter(|url| names_redis_database(url.reveal()))
            .map(Self::Redis)
            .ok_or_else(|| unknown("leave it empty to keep the queue in the database, or write redis://host:6379/0"))
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
        let name =
            text.strip_prefix("s3://").map(|name| name.trim_end_matches('/')).filter(|name| is_bucket_name(name));
        name.map(|name| Self::S3(name.to_owned())).ok_or_else(|| unknown("write file://data/bucket or s3://name"))
    }

    /// The folder; `None` when it is elsewhere.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::S3(_) => None,
        }
    }
}

impl InboxEngine {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "local:" => Ok(Self::Local),
            "webhook:" => Ok(Self::Webhook),
            "none:" => Ok(Self::None),
            _ => queue_url(text)
                .map(Self::Sqs)
                .ok_or_else(|| unknown("write local:, sqs+https://HOST/ACCOUNT/QUEUE, webhook: or none:")),
        }
    }

    /// What speaks against notices from here about objects there; `None` when nothing does.
    pub(super) fn misfit(&self, bucket: &BucketEngine) -> Option<Wrong> {
        let hint = "write sqs+https://HOST/ACCOUNT/QUEUE, webhook: or none:";
        match (self, bucket) {
            (Self::Local, BucketEngine::S3(_)) => Some(Wrong::new("has no notices of a bucket on S3 to give", hint)),
            (Self::Sqs(_) | Self::Webhook, BucketEngine::Folder(_)) => {
                Some(Wrong::new("has no notices of the local bucket to give", "write local: or none:"))
            }
            _ => None,
        }
    }
}

/// The path behind the scheme; `None` when the scheme is another, no path follows, or it carries parameters.
fn file_path(text: &str, scheme: &str) -> Option<PathBuf> {
    let path = text.strip_prefix(scheme)?;
    (!path.is_empty() && !path.contains('?')).then(|| path.into())
}

/// A URL of a server, which may carry a password.
fn server(text: &str, schemes: &[&str]) -> Option<Secret> {
    let url = Url::parse(text).ok()?;
    (schemes.contains(&url.scheme()) && url.has_host()).then(|| Secret(text.to_owned()))
}

/// Whether the path is a database's number, or nothing.
fn names_redis_database(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let path = url.path().trim_start_matches('/');
    path.is_empty() || path.parse::<u16>().is_ok()
}

/// The address of the queue without our prefix.
fn queue_url(text: &str) -> Option<Url> {
    let url = Url::parse(text.strip_prefix("sqs+")?).ok()?;
    let names_queue = url.path_segments().is_some_and(|segments| segments.filter(|part| !part.is_empty()).count() >= 2);
    let names_somebody = !url.username().is_empty() || url.password().is_some();
    (matches!(url.scheme(), "http" | "https") && names_queue && !names_somebody).then_some(url)
}

/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>, with the looser rules that other
/// servers and old buckets have.
fn is_bucket_name(name: &str) -> bool {
    (3..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

fn unknown(hint: &str) -> Wrong {
    Wrong::new("is not a URL that can be used here", hint)
}

/// Without user and password.
impl fmt::Display for DatabaseEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => f.write_str(&super::layers::masked("database_url", url.reveal())),
        }
    }
}

/// Without user and password.
impl fmt::Display for QueueEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database => f.write_str("in the database"),
            Self::Redis(url) => f.write_str(&super::layers::masked("queue_url", url.reveal())),
        }
    }
}

impl fmt::Display for BucketEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::S3(name) => write!(f, "s3://{name}"),
        }
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
    fn servers_are_named_by_urls_of_their_own_schemes() {
        let postgres = "postgres://me:pw@db:5432/longshore?sslmode=require";
        let database = DatabaseEngine::parse(postgres, Path::new("d")).unwrap();
        assert_eq!(database, DatabaseEngine::Postgres(Secret(postgres.to_owned())));
        assert_eq!(database.to_string(), "postgres://(hidden)@db:5432/longshore?sslmode=require");
        assert_eq!(QueueEngine::parse("redis://:pw@h:1/0").unwrap().to_string(), "redis://(hidden)@h:1/0");
        assert_eq!(QueueEngine::parse("rediss://h:1/0"), Ok(QueueEngine::Redis(Secret("rediss://h:1/0".to_owned()))));
        assert_eq!(
            BucketEngine::parse("s3://acme-uploads", Path::new("d")),
            Ok(BucketEngine::S3("acme-uploads".into()))
        );
        let InboxEngine::Sqs(queue) = InboxEngine::parse("sqs+https://sqs.eu-west-1.amazonaws.com/1/q").unwrap() else {
            panic!("it is a queue")
        };
        assert_eq!(queue.as_str(), "https://sqs.eu-west-1.amazonaws.com/1/q");
    }

    #[test]
    fn what_is_no_engine_is_refused() {
        assert!(DatabaseEngine::parse("sqlite://x?mode=memory", Path::new("d")).is_err());
        assert!(DatabaseEngine::parse("mysql://h/d", Path::new("d")).is_err());
        for text in ["postgres://h/d", "redis://h/notanumber", "redis://h/0/1"] {
            assert!(QueueEngine::parse(text).is_err(), "{text}");
        }
        for text in ["ftp://b", "s3://", "s3://a/b", "s3://a b c"] {
            assert!(BucketEngine::parse(text, Path::new("d")).is_err(), "{text}");
        }
        for text in [
            "sqs+https://host/",
            "sqs+ftp://host/1/q",
            "sqs+https://me:pw@host/1/q",
            "sqs+https://:pw@host/1/q",
            "webhook",
            "",
        ] {
            assert!(InboxEngine::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn notices_come_from_where_the_objects_are() {
        let (folder, s3) = (BucketEngine::Folder("b".into()), BucketEngine::S3("b".to_owned()));
        assert!(InboxEngine::Local.misfit(&s3).is_some() && InboxEngine::Local.misfit(&folder).is_none());
        assert!(InboxEngine::Webhook.misfit(&folder).is_some() && InboxEngine::Webhook.misfit(&s3).is_none());
        assert!(InboxEngine::None.misfit(&folder).is_none() && InboxEngine::None.misfit(&s3).is_none());
    }
}
