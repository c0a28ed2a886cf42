//! The ledger: the rows that are the truth, and the SQL that moves them.
//!
//! SQL is written once, in the common subset of the engines, and each statement is repeated per engine by `sql!`. Reads go
//! through a pool; writes go through [`Db::write`], which on SQLite puts everything that waits into one transaction: a
//! commit costs an fsync, and a thousand small moves should not pay a thousand of them.
//!
//! On PostgreSQL others write while we do. A statement sees what was committed before it began, and where it meets a row that
//! another has just moved, it waits and looks again at that row, but at no other: what must still hold stands as a condition
//! on the row itself. Transactions touch uploads before blobs, and an org's report before its deltas.

/// Repeats an expression for the engine at hand, with the connection bound to a name.
///
/// `sql!(tx, c => sqlx::query("…").execute(c).await)` inside [`Db::write`], `sql!(db.reader(), c => …)` outside.
#[macro_export]
macro_rules! sql {
    ($connection:expr, $name:ident => $body:expr) => {
        match $connection {
            $crate::ledger::Connection::Sqlite($name) => $body,
            $crate::ledger::Connection::Postgres($name) => $body,
        }
    };
}

pub mod api_keys;
pub mod batches;
pub mod births;
pub mod blobs;
pub mod dead_letters;
mod engine;
pub mod failures;
pub mod files;
pub mod gather;
pub mod idempotency;
pub mod inspect;
pub mod kept;
mod lender;
pub mod lines;
pub mod listings;
pub mod manifests;
pub mod members;
mod moves;
pub mod operators_uploads;
pub mod org_figures;
pub mod orgs;
pub mod page;
pub mod pools;
pub mod postgres;
pub mod prefixes;
mod refs;
pub mod reports;
mod rows;
pub mod schedules;
pub mod search;
pub mod signals;
pub mod sqlite;
mod stalled;
mod steps;
mod stores;
pub mod sweeps;
pub mod timeline;
pub mod totals;
pub mod upload_lists;
pub mod uploads;
pub mod workers;

#[cfg(test)]
mod concurrency_tests;
#[cfg(test)]
mod list_tests;
#[cfg(test)]
mod manifest_tests;
#[cfg(test)]
mod plan_tests;
#[cfg(test)]
mod schema_tests;
#[cfg(test)]
mod silence_tests;

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::error::{DatabaseError, ErrorKind};
use sqlx::migrate::Migrator;
use tokio::sync::Semaphore;

use crate::job::{Pool, with_causes};
use engine::{Engine, Unit};
pub use lender::Lender;
pub use moves::{Moves, Waiter};

/// Something to run a statement on, per engine.
pub enum Connection<S, P> {
    /// SQLite.
    Sqlite(S),
    /// PostgreSQL.
    Postgres(P),
}

impl<S, P> Connection<S, P> {
    /// Which of two texts is for the engine at hand, where one for both cannot be.
    pub const fn text(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }
}

/// Inside a write: everything done here is committed together or not at all.
pub struct Tx<'t>(Connection<&'t mut sqlx::SqliteConnection, &'t mut sqlx::PgConnection>);

impl Tx<'_> {
    /// For `sql!`.
    pub fn on(&mut self) -> Connection<&mut sqlx::SqliteConnection, &mut sqlx::PgConnection> {
        match &mut self.0 {
            Connection::Sqlite(connection) => Connection::Sqlite(connection),
            Connection::Postgres(connection) => Connection::Postgres(connection),
        }
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    engine: Engine,
    moves: Moves,
    gathered: steps::Gathered,
    recounting: Arc<Semaphore>,
    folding: Arc<Semaphore>,
    open_uploads: kept::Kept<Vec<uploads::Open>>,
}

impl Db {
    /// Opens the SQLite ledger in a file, made if it is not there, and brings its schema to head.
    pub async fn open_sqlite(path: &Path) -> Result<Self, LedgerError> {
        let engine = sqlite::Sqlite::open(path, &known(sqlx::migrate!("../migrations/sqlite"))).await?;
        Ok(Self::over(Engine::Sqlite(engine), Moves::default()))
    }

    /// Opens the PostgreSQL ledger at `postgres://…` and brings its schema to head; others may do so at the same time. It
    /// holds at most so many connections (but at least three), and two more on which processes signal each other. What the URL says as
    /// `options=-c search_path=…` holds for all of it.
    pub async fn open_postgres(url: &str, connections: u32) -> Result<Self, LedgerError> {
        let engine =
            postgres::Postgres::open(url, connections, known(sqlx::migrate!("../migrations/postgres"))).await?;
        let moves = Moves::told_by(engine.signals());
        Ok(Self::over(Engine::Postgres(engine), moves))
    }

    fn over(engine: Engine, moves: Moves) -> Self {
        let recounting = Arc::new(Semaphore::new(1));
        let folding = Arc::new(Semaphore::new(engine.folds_at_once()));
        let gathered = steps::Gathered::start(&engine);
        Self { gathered, engine, moves, recounting, folding, open_uploads: kept::Kept::scraped_as("uploads") }
    }

    /// For `sql!`, to read outside of a write.
    #[must_use]
    pub fn reader(&self) -> Connection<&sqlx::SqlitePool, &Lender> {
        self.engine.reader()
    }

    /// Runs `body` in a transaction: committed when it returns `Ok`, undone when it returns an error or panics. It shares
    /// the engine with others, so it does nothing slow and never calls `write` itself.
    pub async fn write<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        self.engine.write(Unit::Statements, body).await
    }

    /// As [`Db::write`] for a body of one statement, which needs no savepoint or transaction of its own.
    pub async fn write_one<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        self.engine.write(Unit::Statement, body).await
    }

    /// As [`Db::write_one`], and again where others who write at the same time are in the way: the counts of a batch, which
    /// triggers move, may be locked in another order by a connection that shares them.
    pub(crate) async fn write_one_again<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Clone + Send + 'static,
    {
        gather::past_clashes(|| self.write_one(body.clone())).await
    }

    /// As [`Db::write_one_again`] for a body of several statements.
    pub(crate) async fn write_again<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Clone + Send + 'static,
    {
        gather::past_clashes(|| self.write(body.clone())).await
    }

    /// As [`Db::write_one`] for what may be lost in a power cut, as the queue may: its commit need not wait for the disk.
    pub async fn write_hint<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        self.engine.write(Unit::Hint, body).await
    }

    /// As [`Db::write_hint`] for the heartbeat, which must not wait until others give a connection back.
    pub async fn write_urgent<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        self.engine.write(Unit::Urgent, body).await
    }

    /// Runs `body`, which only reads, so that all of it sees one moment. It may take minutes.
    pub(crate) async fn read_snapshot<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        self.engine.read_snapshot(body).await
    }

    /// What many ask for together.
    pub(crate) fn gathered(&self) -> &steps::Gathered {
        &self.gathered
    }

    /// The last count of open uploads.
    fn open_uploads(&self) -> &kept::Kept<Vec<uploads::Open>> {
        &self.open_uploads
    }

    /// Of which there are as many as folds may be under way.
    fn folding(&self) -> &Semaphore {
        &self.folding
    }

    /// Of which there is one for all recounts.
    fn recounting(&self) -> &Semaphore {
        &self.recounting
    }

    /// Who waits for which upload to move.
    #[must_use]
    pub fn moves(&self) -> &Moves {
        &self.moves
    }

    /// The line to other processes on the same ledger; `None` where there can be none.
    fn signals(&self) -> Option<&signals::Signals> {
        match &self.engine {
            Engine::Sqlite(_) => None,
            Engine::Postgres(engine) => Some(engine.signals()),
        }
    }

    /// Tells other processes on this ledger that there may be something to claim from a pool.
    pub fn ring(&self, pool: Pool) {
        if let Some(signals) = self.signals() {
            signals.tell_ring(pool);
        }
    }

    /// Calls `heard` whenever another process [rings](Db::ring), and for every pool when a ring may have been missed.
    pub fn on_ring(&self, heard: impl Fn(Pool) + Send + Sync + 'static) {
        if let Some(signals) = self.signals() {
            signals.on_ring(heard);
        }
    }

    /// Whether the ledger answers.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        let query = "select cast(1 as bigint)";
        let one: i64 = sql!(self.reader(), c => sqlx::query_scalar(query).fetch_one(c).await)?;
        debug_assert_eq!(one, 1);
        Ok(())
    }

    /// Finishes what is being written and closes the files or connections.
    pub async fn close(&self) {
        self.engine.close().await;
    }
}

/// Migrations of a release. A ledger may have later ones: a newer release runs beside this one and has brought it further, to
/// where this one can still live with it.
fn known(mut migrations: Migrator) -> Migrator {
    migrations.set_ignore_missing(true);
    migrations
}

/// A text that somebody else has written, an error for one, as PostgreSQL can keep it: without U+0000.
#[must_use]
pub fn keepable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The ledger could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The engine refused or could not be reached.
    #[error("the ledger failed")]
    Engine(#[from] sqlx::Error),
    /// The schema could not be brought to head.
    #[error("the ledger's schema could not be brought up to date")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// The writer has stopped, or the write was undone along with the transaction that it shared.
    #[error("the write was not committed: {0}")]
    Uncommitted(String),
    /// Something unique stands for another row.
    #[error("what must be unique is taken")]
    Taken,
    /// The request's idempotency key stands for something that was made before.
    #[error("the idempotency key is taken")]
    Repeated,
}

impl LedgerError {
    /// Whether a constraint forbids the write, so that no second try can succeed.
    #[must_use]
    pub fn is_breach(&self) -> bool {
        matches!(self, Self::Engine(sqlx::Error::Database(error))
            if error.is_unique_violation() || error.is_foreign_key_violation() || error.is_check_violation())
    }

    /// Whether the write was undone only because others wrote at the same time (`serialization_failure`, `deadlock_detected`),
    /// so that it may well succeed the next time.
    #[must_use]
    pub fn is_clash(&self) -> bool {
        matches!(self, Self::Engine(sqlx::Error::Database(error))
            if matches!(error.code().as_deref(), Some("40001" | "40P01")))
    }

    /// Whether a unique constraint forbids the write.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        match self {
            Self::Taken => true,
            Self::Engine(sqlx::Error::Database(error)) => error.is_unique_violation(),
            _ => false,
        }
    }

    /// Whether the engine is to blame and not what it was asked: it is away, or too busy to answer in time.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        use sqlx::Error::{Database, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};
        match self {
            Self::Engine(Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed) => true,
            Self::Engine(Database(error)) => error.kind() == ErrorKind::Other && !blames_what_was_asked(&**error),
            _ => false,
        }
    }

    /// An outage in the same words, for another who asked together with the first.
    fn retold(&self) -> Self {
        Self::Engine(match self {
            Self::Engine(sqlx::Error::PoolTimedOut) => sqlx::Error::PoolTimedOut,
            Self::Engine(sqlx::Error::PoolClosed) => sqlx::Error::PoolClosed,
            Self::Engine(sqlx::Error::Io(error)) => io::Error::new(error.kind(), error.to_string()).into(),
            other => io::Error::other(with_causes(other)).into(),
        })
    }
}

/// PostgreSQL's classes of errors that a row can cause: data, constraints, others who write. SQLite's numbers have none of them.
fn blames_what_was_asked(error: &dyn DatabaseError) -> bool {
    error
        .code()
        .is_some_and(|code| code.len() == 5 && ["21", "22", "23", "40"].iter().any(|class| code.starts_with(class)))
}
