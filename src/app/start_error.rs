//! Why a process cannot start, and whether it might a moment later.

use std::net::SocketAddr;

use longshore_jobs::ledger::LedgerError;
use metrics_exporter_prometheus::BuildError;

use crate::bucket::{local, s3};
use crate::folder::FolderError;
use crate::inbox::InboxError;
use crate::queue::engine::EngineError;

/// The process cannot start. URLs are without user and password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The data folder is in use or cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The ledger does not open.
    #[error("open the ledger {ledger}")]
    Ledger {
        /// Where it is.
        ledger: String,
        /// What was said there.
        #[source]
        source: LedgerError,
    },
    /// The bucket is not the one of the processes that share the ledger.
    #[error(
        "the ledger {ledger} is shared with other processes, and the bucket {bucket} cannot be: it is a folder of this \
         machine's, and an upload that is not in it would be rejected as missing"
    )]
    BucketApart {
        /// The folder.
        bucket: String,
        /// Where the ledger is.
        ledger: String,
    },
    /// The address is taken or not ours.
    #[error("listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The bucket does not open.
    #[error("open the bucket")]
    Bucket(#[from] local::OpenError),
    /// The bucket on S3 cannot be used.
    #[error("open the bucket")]
    S3(#[from] s3::OpenError),
    /// The inbox does not open.
    #[error("open the inbox")]
    Inbox(#[from] InboxError),
    /// The queue does not open.
    #[error("open the queue {queue}")]
    Queue {
        /// Where it is.
        queue: String,
        /// What was said there.
        #[source]
        source: EngineError,
    },
    /// The queue in a file does not let go of what its last owner held.
    #[error("take over the queue")]
    TakeOver(#[source] EngineError),
    /// The metrics recorder is there already.
    #[error("start the metrics")]
    Metrics(#[from] BuildError),
    /// The public URL cannot carry the bucket's path.
    #[error("the public URL {0} cannot be extended")]
    Url(String),
}

impl StartError {
    /// Whether the same start may succeed in a moment: a server is away or still starting. What a server has understood and
    /// refused, a password for instance, stays refused.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Ledger { source: LedgerError::Engine(error), .. } => sql_may_pass(error),
            Self::Ledger { source: LedgerError::Schema(error), .. } => {
                matches!(error, sqlx::migrate::MigrateError::Execute(error) if sql_may_pass(error))
            }
            Self::Queue { source, .. } => redis_may_pass(source),
            Self::S3(error) => error.may_pass(),
            _ => false,
        }
    }
}

fn sql_may_pass(error: &sqlx::Error) -> bool {
    /// `too_many_connections`, `admin_shutdown`, `crash_shutdown`, `cannot_connect_now` of PostgreSQL.
    const AWAY: [&str; 4] = ["53300", "57P01", "57P02", "57P03"];
    match error {
        sqlx::Error::Database(said) => said.code().is_some_and(|code| AWAY.contains(&&*code)),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
        _ => false,
    }
}

fn redis_may_pass(error: &EngineError) -> bool {
    let said = error.source.downcast_ref::<redis::RedisError>();
    said.is_some_and(|said| {
        said.is_io_error()
            || said.is_timeout()
            || said.is_connection_dropped()
            || said.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::BusyLoading)
    })
}
