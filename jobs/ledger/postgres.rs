//! PostgreSQL, 14 or later: a pool of connections on which reads and writes take turns, and many processes beside us.
//!
//! A statement by itself commits by itself; several stand in a transaction. Both wait for the disk, as the server is set up
//! to (`synchronous_commit`). Hints do not: they have connections of their own, on which that is off, so a crash of the server
//! may undo what the last half second did to the queue. The heartbeat has one that it shares with nobody: a lease must not
//! run out because claims and pushes hold all others.
//!
//! Others write at the same time. Statements that touch many rows name them in one order, so that two of them rarely wait
//! for each other in a ring; where they do, the server ends one with an error that [`LedgerError::is_clash`] knows.
//!
//! Connections are sessions of ours for as long as they stand: they listen, hold the lock of the migrations, and are set up
//! by start-up options. A pooler in between that shares one session among many in turn cannot serve them.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::sleep;

use super::LedgerError;
use super::engine::Unit;
use super::gather::guarded;
use super::lender::{Lender, Patience, in_time};
use super::signals::Signals;

/// What a session may not exceed. A statement takes milliseconds; one that takes this long is lost, and so is its caller.
const LIMITS: [(&str, &str); 3] =
    [("statement_timeout", "30s"), ("lock_timeout", "10s"), ("idle_in_transaction_session_timeout", "30s")];
/// All that we join is a short list and a long table, by id. A planner whose statistics are from before the rows came would
/// rather read the table from end to end. What has no index is read so all the same, at a price so high that the server
/// would compile even what reads ten rows: 70 ms for nothing.
const PLANS: [(&str, &str); 4] =
    [("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("enable_seqscan", "off"), ("jit", "off")];
/// On connections for hints.
const HURRIED: (&str, &str) = ("synchronous_commit", "off");
/// On the connection of the heartbeat. A beat that hangs has to leave time for another before a lease runs out.
const URGENT: (&str, &str) = ("statement_timeout", "4s");
/// A little longer than that.
const URGENT_ANSWER: Duration = Duration::from_secs(5);

/// To count tens of millions of files may take longer than a statement of ours may take.
const SNAPSHOT: &str = "begin isolation level repeatable read, read only; set local statement_timeout = '10min'";
/// Time for one such statement, and for small ones beside it.
const SNAPSHOT_ANSWER: Duration = Duration::from_secs(11 * 60);

/// How long the migrations may take, and with them the wait for another process that applies them.
const MIGRATING: Duration = Duration::from_secs(3600);
/// How often a process that waits for its turn at the migrations looks whether it has come.
const NEXT_TURN: Duration = Duration::from_millis(100);

/// A database with its connections and its line to other processes. Cheap to clone.
#[derive(Clone)]
pub struct Postgres {
    lasting: Lender,
    hints: Lender,
    urgent: Lender,
    signals: Signals,
}

impl Postgres {
    /// Connects and applies the migrations that are missing while others wait for it. The tables are in the first schema of
    /// the URL's `search_path`. At least three connections may be made.
    pub async fn open(url: &str, connections: u32, migrations: Migrator) -> Result<Self, LedgerError> {
        Self::open_with(url, connections, migrations, Patience::default()).await
    }

    /// As [`Postgres::open`], with a patience of one's own.
    pub(super) async fn open_with(
        url: &str,
        connections: u32,
        migrations: Migrator,
        patience: Patience,
    ) -> Result<Self, LedgerError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("longshore").disable_statement_logging();
        let schema = migrate(&options, migrations, patience).await?;
        let session = options.clone().options(LIMITS).options(PLANS);
        let hurried = session.clone().options([HURRIED]);
        let for_hints = (connections / 3).max(1);
        let urgently = Patience { answer: URGENT_ANSWER.min(patience.answer), ..patience };
        Ok(Self {
            lasting: Lender::new(connections.saturating_sub(for_hints + 1).max(1), session, patience),
            hints: Lender::new(for_hints, hurried.clone(), patience),
            urgent: Lender::new(1, hurried.options([URGENT]), urgently),
            signals: Signals::start(options.options([HURRIED]), &schema, patience),
        })
    }

    /// To read from.
    #[must_use]
    pub const fn reader(&self) -> &Lender {
        &self.lasting
    }

    /// The line to other processes.
    #[must_use]
    pub const fn signals(&self) -> &Signals {
        &self.signals
    }

    /// Runs `body` as one unit: committed when this returns `Ok`, else undone. When it fails for want of an answer, it may
    /// have been committed all the same.
    pub async fn write<T, F>(&self, unit: Unit, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send + 'static,
    {
        let lender = match unit {
            Unit::Statements => {
                return self.lasting.run(|connection| Box::pin(in_transaction(connection, body))).await;
            }
            Unit::Statement => &self.lasting,
            Unit::Hint => &self.hints,
            Unit::Urgent => &self.urgent,
        };
        lender.run(|connection| Box::pin(guarded(body(connection)))).await
    }

    /// Runs `body`, all of whose reads are of one moment, and which may take minutes.
    pub async fn read_snapshot<T, F>(&self, body: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send + 'static,
    {
        let begins_within = self.lasting.answers_within();
        let slowly = self.lasting.answering_within(SNAPSHOT_ANSWER);
        slowly.run(move |connection| Box::pin(in_snapshot(connection, begins_within, body))).await
    }

    /// Waits for the writes under way and disconnects.
    pub async fn close(&self) {
        self.signals.close().await;
        tokio::join!(self.urgent.close(), self.hints.close(), self.lasting.close());
    }
}

async fn in_transaction<T, F>(connection: &mut PgConnection, body: F) -> Result<T, LedgerError>
where
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send,
{
    let mut transaction = connection.begin().await?;
    let written = guarded(body(&mut transaction)).await;
    if written.is_ok() {
        transaction.commit().await?;
    } else {
        // What the body said matters more than how its end went: without a rollback the connection is given up.
        drop(transaction.rollback().await);
    }
    written
}

async fn in_snapshot<T, F>(connection: &mut PgConnection, begins_within: Duration, body: F) -> Result<T, LedgerError>
where
    F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, LedgerError>> + Send,
{
    let mut snapshot = in_time(begins_within, connection.begin_with(SNAPSHOT)).await?;
    let read = guarded(body(&mut snapshot)).await;
    snapshot.rollback().await?;
    read
}

/// The URL of the same database with everything in a schema, whose name is a plain word.
#[must_use]
pub fn in_schema(url: &str, schema: &str) -> String {
    let sign = if url.contains('?') { '&' } else { '?' };
    format!("{url}{sign}options=-c%20search_path%3D{schema}")
}

/// Brings the schema to head on a connection of its own, which may take its time; says which schema it is.
async fn migrate(
    options: &PgConnectOptions,
    mut migrations: Migrator,
    patience: Patience,
) -> Result<String, LedgerError> {
    let mut connection = in_time(patience.connect, options.connect()).await?;
    migrations.set_locking(false);
    in_time(MIGRATING, async {
        take_turn(&mut connection, patience).await?;
        Ok::<_, LedgerError>(migrations.run(&mut connection).await?)
    })
    .await?;
    // A number: names may be longer than a channel's may be.
    let query = "select cast(oid as text) from pg_namespace where nspname = current_schema()";
    let schema = in_time(patience.answer, sqlx::query_scalar(query).fetch_one(&mut connection)).await?;
    // With it the turn ends.
    in_time(patience.connect, connection.close()).await?;
    Ok(schema)
}

/// Waits until no other process applies migrations to this schema. It asks again and again: a statement that waits for a lock
/// is a transaction that stands, and `create index concurrently` waits for those, so that both would wait for ever.
async fn take_turn(connection: &mut PgConnection, patience: Patience) -> Result<(), sqlx::Error> {
    let query = "select pg_try_advisory_lock(hashtextextended('longshore ' || cast(current_schema() as text), 0))";
    loop {
        let asked = sqlx::query_scalar::<_, Option<bool>>(query).fetch_one(&mut *connection);
        // Without a schema there is nothing to lock; to make the first table in it fails in words of its own.
        if in_time(patience.answer, asked).await?.unwrap_or(true) {
            return Ok(());
        }
        sleep(NEXT_TURN).await;
    }
}
