//! SQLite: a pool of readers, and one writer that commits in groups.
//!
//! SQLite has one writer at a time and pays an fsync per commit (`synchronous = full`: what was answered survives a power
//! cut). So writes are handed to one task, which runs all that wait inside one `begin immediate … commit` and answers them
//! together. A write of several statements stands in a savepoint: one that fails is undone alone.
//!
//! A group of hints alone is committed without the fsync: a power cut may undo it, together with all that came after it, but
//! the next write that is no hint makes it last. The kill of a process undoes nothing.

use std::collections::VecDeque;
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
pub use super::engine::Unit;

/// How many writes may wait before their callers do.
const WAITING: usize = 4096;
/// How many writes share a transaction at most.
const GROUP: usize = 512;
/// How long a transaction stays open for more.
const GROUP_TIME: Duration = Duration::from_millis(10);
const READERS: u32 = 4;
/// After so many groups of hints alone, commits stop to wait for the disk. Changing the mode is a statement too, so where
/// hints and others take turns it stays.
const HINTS_IN_A_ROW: u32 = 4;

/// A database file with its reader pool and its writer task. Cheap to clone.
#[derive(Clone)]
pub struct Sqlite {
    readers: SqlitePool,
    writes: mpsc::Sender<Write>,
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
            // A claim returns hundreds of rows; at the default of 50 the two threads wait for each other.
            .row_buffer_size(1024)
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

    /// Runs `body`, all of whose reads are of one moment.
    pub async fn read_snapshot<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, LedgerError>>,
    {
        let mut snapshot = self.readers.begin().await?;
        let read = body(&mut snapshot).await;
        snapshot.rollback().await?;
        read
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

async fn commit_in_groups(connection: SqliteConnection, waiting: mpsc::Receiver<Write>) {
    let mut writer = Writer { connection, waiting, next: VecDeque::new(), lasting: true, hints_in_a_row: 0 };
    while writer.wait().await {
        let mut replies = Vec::new();
        let committed = writer.commit_group(&mut replies).await;
        if let Err(error) = &committed {
            tracing::error!(%error, writes = replies.len(), "a group of writes was not committed");
            if let Err(error) = writer.connection.execute("rollback").await {
                tracing::debug!(%error, "there was nothing to roll back");
            }
        }
        let committed = committed.map_err(|error| error.to_string());
        for reply in replies {
            (reply.tell)(committed.clone());
        }
    }
    if let Err(error) = writer.connection.close().await {
        tracing::warn!(%error, "the ledger's writer did not close cleanly");
    }
}

struct Writer {
    connection: SqliteConnection,
    waiting: mpsc::Receiver<Write>,
    /// Taken from those that wait, to be run in this order.
    next: VecDeque<Write>,
    /// Whether commits wait for the disk as the connection is set now.
    lasting: bool,
    /// How many groups in a row had nothing that is to last.
    hints_in_a_row: u32,
}

impl Writer {
    /// Waits for a write; `false` when none will come any more.
    async fn wait(&mut self) -> bool {
        if self.next.is_empty() {
            let Some(first) = self.waiting.recv().await else { return false };
            self.next.push_back(first);
        }
        while self.next.len() < GROUP
            && let Ok(write) = self.waiting.try_recv()
        {
            self.next.push_back(write);
        }
        true
    }

    /// Commits what waits: lasting as soon as one of it is to last, since how a commit is made is set before its transaction.
    async fn commit_group(&mut self, replies: &mut Vec<Reply>) -> Result<(), sqlx::Error> {
        let lasting = self.next.iter().any(|write| write.unit.is_lasting());
        self.hints_in_a_row = if lasting { 0 } else { self.hints_in_a_row.saturating_add(1) };
        self.set_lasting(lasting || self.hints_in_a_row < HINTS_IN_A_ROW).await?;
        control(&mut self.connection, "begin immediate").await?;
        let opened = Instant::now();
        while let Some(write) = self.fitting() {
            replies.push(run_write(&mut self.connection, write).await?);
            if replies.len() >= GROUP || opened.elapsed() >= GROUP_TIME {
                break;
            }
        }
        control(&mut self.connection, "commit").await
    }

    /// The next write of this group; `None` when there is none, or it has to last and the group does not.
    fn fitting(&mut self) -> Option<Write> {
        let write = self.next.pop_front().or_else(|| self.waiting.try_recv().ok())?;
        if self.lasting || !write.unit.is_lasting() {
            return Some(write);
        }
        self.next.push_front(write);
        None
    }

    async fn set_lasting(&mut self, lasting: bool) -> Result<(), sqlx::Error> {
        if self.lasting != lasting {
            let pragma = if lasting { "pragma synchronous = full" } else { "pragma synchronous = normal" };
            self.connection.execute(pragma).await?;
            self.lasting = lasting;
        }
        Ok(())
    }
}

/// A statement that is run very often: prepared once.
async fn control(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), sqlx::Error> {
    sqlx::query(statement).execute(connection).await.map(drop)
}

async fn run_write(connection: &mut SqliteConnection, write: Write) -> Result<Reply, sqlx::Error> {
    if write.unit != Unit::Statements {
        return Ok((write.body)(connection).await);
    }
    control(connection, "savepoint write").await?;
    let reply = (write.body)(connection).await;
    if reply.failed {
        control(connection, "rollback to write").await?;
    }
    control(connection, "release write").await?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    static NONE: Migrator = Migrator::DEFAULT;

    async fn synchronous(ledger: &Sqlite, unit: Unit) -> i64 {
        ledger.write(unit, |connection| Box::pin(read_synchronous(connection))).await.unwrap()
    }

    async fn read_synchronous(connection: &mut SqliteConnection) -> Result<i64, LedgerError> {
        Ok(sqlx::query_scalar("pragma synchronous").fetch_one(connection).await?)
    }

    #[tokio::test]
    async fn a_group_of_hints_alone_does_not_wait_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Sqlite::open(&folder.path().join("ledger.db"), &NONE).await.unwrap();

        assert_eq!(synchronous(&ledger, Unit::Statement).await, 2);
        for group in 1..=6 {
            let expected = if group < HINTS_IN_A_ROW { 2 } else { 1 };
            assert_eq!(synchronous(&ledger, Unit::Hint).await, expected, "hint {group}");
        }
        assert_eq!(synchronous(&ledger, Unit::Statements).await, 2);
    }

    #[tokio::test]
    async fn a_write_that_has_to_last_is_not_committed_with_hints() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Sqlite::open(&folder.path().join("ledger.db"), &NONE).await.unwrap();

        let all = (0..200).map(|index| {
            let unit = if index % 3 == 0 { Unit::Statement } else { Unit::Hint };
            let ledger = &ledger;
            async move { (unit, synchronous(ledger, unit).await) }
        });
        for (unit, level) in futures_util::future::join_all(all).await {
            assert!(unit == Unit::Hint || level == 2);
        }
    }
}
