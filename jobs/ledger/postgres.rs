//! PostgreSQL, 14 or later: a pool of connections on which reads and writes take turns, and many processes beside us.
//!
//! A statement by itself commits by itself; several stand in a transaction. Both wait for the disk, as the server is set up
//! to (`synchronous_commit`). Hints do not: they have connections of their own, on which that is off, so a crash of the server
//! may undo what the last half second did to the queue.
//!
//! Others write at the same time. Statements that touch many rows name them in one order, so that two of them rarely wait
//! for each other in a ring; where they do, the server ends one with an error that [`LedgerError::is_clash`] knows.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};

use super::LedgerError;
use super::engine::Unit;
use super::gather::guarded;
use super::signals::Signals;

/// How long to wait for a free connection, or for the server when it has to be reached anew.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// A connection that rested longer than this is asked whether it still stands before it is used: the server may have been
/// started anew.
const RESTED: Duration = Duration::from_secs(1);
/// What a session may not exceed. A statement takes milliseconds; one that takes this long is lost, and so is its caller.
const LIMITS: [(&str, &str); 3] =
    [("statement_timeout", "30s"), ("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "30s")];

/// All that we join is a short list and a long table, by id. A planner whose statistics are from before the rows came would
/// rather read the table from end to end. What has no index is read so all the same.
const PLANS: [(&str, &str); 3] = [("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("enable_seqscan", "off")];

/// A database with its pool and its line to other processes. Cheap to clone.
#[derive(Clone)]
pub struct Postgres {
    pool: PgPool,
    hints: PgPool,
    signals: Signals,
}

/// On connections for hints.
const HURRIED: (&str, &str) = ("synchronous_commit", "off");

impl Postgres {
    /// Connects, applies the migrations that are missing while others wait for it, and opens the pool. The tables are in the
    /// first schema of the URL's `search_path`.
    pub async fn open(url: &str, connections: u32, migrations: &Migrator) -> Result<Self, LedgerError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("longshore").disable_statement_logging();
        let schema = migrate(&options, migrations).await?;
        let session = options.clone().options(LIMITS).options(PLANS);
        let for_hints = (connections / 4).max(1);
        let pool = pool_of(connections.saturating_sub(for_hints).max(1)).connect_with(session.clone()).await?;
        let hints = pool_of(for_hints).connect_with(session.options([HURRIED])).await?;
        let signals = Signals::start(options.options([HURRIED]), &schema);
        Ok(Self { pool, hints, signals })
    }

    /// To read from.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The line to other processes.
    #[must_use]
    pub const fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Runs `body` as one unit: committed when this returns `Ok`, else undone.
    pub async fn write<T, F>(&self, unit: Unit, body: F) -> Result<T, LedgerError>
    where
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send,
    {
        if unit != Unit::Statements {
            let pool = if unit.is_lasting() { &self.pool } else { &self.hints };
            let mut connection = pool.acquire().await?;
            return guarded(body(&mut connection)).await;
        }
        let mut transaction = self.pool.begin().await?;
        let written = guarded(body(&mut transaction)).await;
        if written.is_ok() {
            transaction.commit().await?;
        } else {
            // What the body said matters more than how its end went: without a rollback the connection is given up.
            drop(transaction.rollback().await);
        }
        written
    }

    /// Waits for the writes under way and disconnects.
    pub async fn close(&self) {
        self.signals.close().await;
        self.hints.close().await;
        self.pool.close().await;
    }
}

fn pool_of(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(PATIENCE)
        .test_before_acquire(false)
        .before_acquire(|connection, resting| {
            async move {
                if resting.idle_for > RESTED {
                    connection.ping().await?;
                }
                Ok(true)
            }
            .boxed()
        })
}

/// Brings the schema to head on a connection of its own, which may take its time; says which schema it is.
async fn migrate(options: &PgConnectOptions, migrations: &Migrator) -> Result<String, LedgerError> {
    let mut connection = options.connect().await?;
    migrations.run(&mut connection).await?;
    // A number: names may be longer than a channel's may be.
    let query = "select cast(oid as text) from pg_namespace where nspname = current_schema()";
    let schema = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(schema)
}
