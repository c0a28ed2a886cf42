//! The engine behind the ledger, whichever it is, and what a write to it consists of.

use futures_util::future::BoxFuture;

use super::lender::Lender;
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use super::{Connection, LedgerError, Tx};

/// One of the two. Cheap to clone.
#[derive(Clone)]
pub(super) enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// How much a write consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// One statement: atomic by itself.
    Statement,
    /// Several: all or none.
    Statements,
    /// One statement that a power cut may undo.
    Hint,
    /// As a hint, but of those who cannot wait for others: the heartbeat.
    Urgent,
}

impl Unit {
    /// Whether its commit waits for the disk.
    pub(super) const fn is_lasting(self) -> bool {
        !matches!(self, Self::Hint | Self::Urgent)
    }
}

impl Engine {
    pub(super) fn reader(&self) -> Connection<&sqlx::SqlitePool, &Lender> {
        match self {
            Self::Sqlite(engine) => Connection::Sqlite(engine.reader()),
            Self::Postgres(engine) => Connection::Postgres(engine.reader()),
        }
    }

    /// How many folds may be under way in a process: where there is one writer, everybody else waits for each of them.
    pub(super) const fn folds_at_once(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(_) => 4,
        }
    }

    pub(super) async fn write<T, F>(&self, unit: Unit, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        match self {
            Self::Sqlite(engine) => engine.write(unit, |connection| body(Tx(Connection::Sqlite(connection)))).await,
            Self::Postgres(engine) => engine.write(unit, |connection| body(Tx(Connection::Postgres(connection)))).await,
        }
    }

    pub(super) async fn read_snapshot<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(Tx<'t>) -> BoxFuture<'t, Result<T, LedgerError>> + Send + 'static,
    {
        match self {
            Self::Sqlite(engine) => engine.read_snapshot(|connection| body(Tx(Connection::Sqlite(connection)))).await,
            Self::Postgres(engine) => {
                engine.read_snapshot(|connection| body(Tx(Connection::Postgres(connection)))).await
            }
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(engine) => engine.close().await,
            Self::Postgres(engine) => engine.close().await,
        }
    }
}
