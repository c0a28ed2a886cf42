//! The ledger: the rows that are the truth, and the SQL that moves them.
//!
//! SQL is written once, in the common subset of the engines, and each statement is repeated per engine by `sql!`. Reads go
//! through a pool; writes go through [`Db::write`], which on SQLite puts everything that waits into one transaction: a
//! commit costs an fsync, and a thousand small moves should not pay a thousand of them.

/// Repeats an expression for the engine at hand, with the connection bound to a name.
///
/// `sql!(tx, c => sqlx::query("…").execute(c).await)` inside [`Db::write`], `sql!(db.reader(), c => …)` outside.
#[macro_export]
macro_rules! sql {
    ($connection:expr, $name:ident => $body:expr) => {
        match $connection {
            $crate::ledger::Connection::Sqlite($name) => $body,
        }
    };
}

pub mod api_keys;
pub mod blobs;
pub mod dead_letters;
pub mod files;
pub mod gather;
mod moves;
pub mod orgs;
pub mod pools;
pub mod reports;
pub mod schedules;
pub mod sqlite;
mod steps;
mod stores;
pub mod uploads;

use std::path::Path;

use futures_util::future::BoxFuture;

pub use moves::{Moves, Waiter};

/// Something to run a statement on, per engine.
pub enum Connection<S> {
    /// SQLite.
    Sqlite(S),
}

/// Inside a write: everything done here is committed together or not at all.
pub struct Tx<'t>(Connection<&'t mut sqlx::SqliteConnection>);

impl Tx<'_> {
    /// For `sql!`.
    pub fn on(&mut self) -> Connection<&mut sqlx::SqliteConnection> {
        match &mut self.0 {
            Connection::Sqlite(connection) => Connection::Sqlite(connection),
        }
    }
}

/// The database. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    engine: sqlite::Sqlite,
    moves: Moves,
    gathered: steps::Gathered,
}

impl Db {
    /// Opens the SQLite ledger in a file, made if it is not there, and brings its schema to head.
    pub async fn open_sqlite(path: &Path) -> Result<Self, LedgerError> {
        let engine = sqlite::Sqlite::open(path, &sqlx::migrate!("../migrations/sqlite")).await?;
        Ok(Self { gathered: steps::Gathered::start(&engine), engine, moves: Moves::default() })
    }

    /// For `sql!`, to read outside of a write.
    #[must_use]
    pub fn reader(&self) -> Connection<&sqlx::SqlitePool> {
        Connection::Sqlite(self.engine.reader())
    }

    /// Runs `body` in a transaction: committed when it returns `Ok`, undone when it returns an error or panics. It shares
    /// the engine with others, so it does nothing slow and never calls `write` itself.
    pub async fn write<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        self.engine.write(sqlite::Unit::Statements, |connection| body(Tx(Connection::Sqlite(connection)))).await
    }

    /// As [`Db::write`] for a body of one statement, which needs no savepoint of its own.
    pub async fn write_one<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        self.engine.write(sqlite::Unit::Statement, |connection| body(Tx(Connection::Sqlite(connection)))).await
    }

    /// As [`Db::write_one`] for what may be lost in a power cut, as the queue may: its commit does not wait for the disk.
    pub async fn write_hint<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        self.engine.write(sqlite::Unit::Hint, |connection| body(Tx(Connection::Sqlite(connection)))).await
    }

    /// What many ask for together.
    pub(crate) fn gathered(&self) -> &steps::Gathered {
        &self.gathered
    }

    /// Who waits for which upload to move.
    #[must_use]
    pub fn moves(&self) -> &Moves {
        &self.moves
    }

    /// Whether the ledger answers.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        let one: i64 = sql!(self.reader(), c => sqlx::query_scalar("select 1").fetch_one(c).await)?;
        debug_assert_eq!(one, 1);
        Ok(())
    }

    /// Finishes what is being written and closes the files.
    pub async fn close(&self) {
        self.engine.close().await;
    }
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
}

impl LedgerError {
    /// Whether a constraint forbids the write, so that no second try can succeed.
    #[must_use]
    pub fn is_breach(&self) -> bool {
        matches!(self, Self::Engine(sqlx::Error::Database(error))
            if error.is_unique_violation() || error.is_foreign_key_violation() || error.is_check_violation())
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
}
