//! SQLite: a pool of readers, and one writer that commits in groups.
//!
//! SQLite has one writer at a time and pays an fsync per commit (`synchronous = full`: what was answered survives a power
//! cut). So writes are handed to one task, which runs all that wait inside one `begin immediate … commit` and answers them
//! together. Each write stands in a savepoint: one that fails is undone alone.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use super::LedgerError;

/// How many writes may wait before their callers do.
const WAITING: usize = 4096;
/// How many writes share a transaction at most.
const GROUP: usize = 512;
/// How long a transaction stays open for more.
const GROUP_TIME: Duration = Duration::from_millis(10);
const READERS: u32 = 4;

/// A database file with its reader pool and its writer task. Cheap to clone.
#[derive(Clone)]
pub struct Sqlite {
    readers: SqlitePool,
    writes: mpsc::Sender<Write>,
}

/// How much a write consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One statement: atomic by itself.
    Statement,
    /// Several: they get a savepoint.
    Statements,
}

struct Write {
    unit: Unit,
    body: Body,
}

type Body = Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Reply> + Send>;

/// What a write's body ends in: undone or not, and how to tell its caller once the group is committed.
struct Reply {
    failed: bool,
    tell: Box<dyn FnOnce(Result<(), String>) + Send>,
}

impl Sqlite {
    /// Opens the file, made if it is not there, and applies the migrations that it lacks.
    pub async fn open(path: &Path, migrations: &Migrator) -> Result<Self, LedgerError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(10))
            .foreign_keys(true)
            .statement_cache_capacity(256)
            .pragma("cache_size", "-32768")
            .pragma("wal_autocheckpoint", "4000")
            .disable_statement_logging();
        let mut writer = options.connect().await?;
        migrations.run(&mut writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .connect_with(options.create_if_missing(false).pragma("query_only", "on"))
            .await?;
        let (writes, waiting) = mpsc::channel(WAITING);
        tokio::spawn(commit_in_groups(writer, waiting));
        Ok(Self { readers, writes })
    }

    /// The pool to read from.
    #[must_use]
    pub fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    /// Runs `body` with whatever else waits in one transaction; returns after the commit.
    pub async fn write<T, F>(&self, unit: Unit, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let body: Body = Box::new(move |connection| run_body(body, answer, connection));
        let stopped = || LedgerError::Uncommitted("the ledger is closed".to_owned());
        self.writes.send(Write { unit, body }).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    /// Waits for the writes under way and closes the readers.
    pub async fn close(&self) {
        let flushed = self.write(Unit::Statement, |_| async { Ok(()) }.boxed()).await;
        if let Err(error) = flushed {
            tracing::warn!(%error, "the ledger was closed twice or had failed before");
        }
        self.readers.close().await;
    }
}

fn run_body<'c, T, F>(
    body: F,
    answer: oneshot::Sender<Result<T, LedgerError>>,
    connection: &'c mut SqliteConnection,
) -> BoxFuture<'c, Reply>
where
    T: Send + 'static,
    F: FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>>,
{
    let future = body(connection);
    async move {
        let result = AssertUnwindSafe(future)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(LedgerError::Uncommitted("its body panicked".to_owned())));
        let failed = result.is_err();
        let tell = Box::new(move |committed: Result<(), String>| {
            let outcome = match committed {
                Ok(()) => result,
                Err(error) => result.and(Err(LedgerError::Uncommitted(error))),
            };
            // A caller that no longer waits has been told all the same: by the row.
            drop(answer.send(outcome));
        });
        Reply { failed, tell }
    }
    .boxed()
}

async fn commit_in_groups(mut connection: SqliteConnection, mut waiting: mpsc::Receiver<Write>) {
    while let Some(first) = waiting.recv().await {
        let mut replies = Vec::new();
        let committed = commit_group(&mut connection, first, &mut waiting, &mut replies).await;
        if let Err(error) = &committed {
            tracing::error!(%error, writes = replies.len(), "a group of writes was not committed");
            if let Err(error) = connection.execute("rollback").await {
                tracing::debug!(%error, "there was nothing to roll back");
            }
        }
        let committed = committed.map_err(|error| error.to_string());
        for reply in replies {
            (reply.tell)(committed.clone());
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "the ledger's writer did not close cleanly");
    }
}

async fn commit_group(
    connection: &mut SqliteConnection,
    first: Write,
    waiting: &mut mpsc::Receiver<Write>,
    replies: &mut Vec<Reply>,
) -> Result<(), sqlx::Error> {
    connection.execute("begin immediate").await?;
    let opened = Instant::now();
    let mut next = Some(first);
    while let Some(write) = next {
        replies.push(run_write(connection, write).await?);
        let full = replies.len() >= GROUP || opened.elapsed() >= GROUP_TIME;
        next = if full { None } else { waiting.try_recv().ok() };
    }
    connection.execute("commit").await?;
    Ok(())
}

async fn run_write(connection: &mut SqliteConnection, write: Write) -> Result<Reply, sqlx::Error> {
    if write.unit == Unit::Statement {
        return Ok((write.body)(connection).await);
    }
    connection.execute("savepoint write").await?;
    let reply = (write.body)(connection).await;
    if reply.failed {
        connection.execute("rollback to write").await?;
    }
    connection.execute("release write").await?;
    Ok(reply)
}
