//! Connections to PostgreSQL that are lent for a limited time: a server that says nothing any more keeps nobody.
//!
//! A connection can die without a word: a failover or a router that forgets it leaves a socket which takes whatever is
//! written and never answers. The driver waits for ever then, be it for an answer or for the ping by which a connection
//! comes back to the pool, and a `statement_timeout` is counted by the very server that is gone. So each loan has a limit of
//! ours. What does not answer within it is thrown away, and with it the place that it held in the pool.

use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection as _, Describe, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr};
use tokio::time::timeout;

/// How long we wait for a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a free connection, or for the server when it has to be reached anew.
    pub(super) connect: Duration,
    /// For what was asked: a little longer than the server itself allows it to take.
    pub(super) answer: Duration,
    /// For a word on the line of signals, before it is asked whether it still stands.
    pub(super) silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(5), answer: seconds(35), silence: seconds(10) }
    }
}

/// A connection that rested longer than this is asked whether it still stands before it is used: the server may have been
/// started anew.
const RESTED: Duration = Duration::from_secs(1);

/// A pool whose connections are lent for a limited time. Cheap to clone. A read is run on it as on the pool itself.
#[derive(Clone, Debug)]
pub struct Lender {
    pool: PgPool,
    patience: Patience,
}

impl Lender {
    /// Connections are made when they are first needed.
    pub(super) fn new(connections: u32, options: PgConnectOptions, patience: Patience) -> Self {
        // The rest of the time is for another connection in place of one that does not answer.
        let ping = patience.connect * 2 / 5;
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(patience.connect)
            .test_before_acquire(false)
            .before_acquire(move |connection, resting| {
                async move {
                    if resting.idle_for > RESTED {
                        in_time(ping, connection.ping()).await?;
                    }
                    Ok(true)
                }
                .boxed()
            })
            .connect_lazy_with(options);
        Self { pool, patience }
    }

    /// How long an answer may take.
    pub(super) const fn answers_within(&self) -> Duration {
        self.patience.answer
    }

    /// The same connections for what may take so long to answer.
    pub(super) fn answering_within(&self, answer: Duration) -> Self {
        let patience = Patience { answer, ..self.patience };
        Self { patience, ..self.clone() }
    }

    /// A connection to whoever sees to the limit himself.
    pub(super) async fn lend(&self) -> Result<Lent, sqlx::Error> {
        Ok(Lent { connection: Some(self.pool.acquire().await?), return_within: self.patience.connect })
    }

    /// Does something on a connection, within the limit.
    pub(super) async fn run<T, E, F>(&self, work: F) -> Result<T, E>
    where
        E: From<sqlx::Error>,
        F: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, E>>,
    {
        let mut lent = self.lend().await?;
        let done = timeout(self.patience.answer, work(&mut lent)).await.ok();
        lent.done(done)
    }

    /// Waits for what is under way, if it ends in time, and disconnects.
    pub(super) async fn close(&self) {
        if timeout(self.patience.answer, self.pool.close()).await.is_err() {
            tracing::warn!("connections were left behind that did not close");
        }
    }
}

/// One connection. It goes back when it is dropped, if it still answers.
pub(super) struct Lent {
    /// `None` once it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    return_within: Duration,
}

const THERE: &str = "a connection is there until it is dropped";

impl Lent {
    /// Ends the loan: what took too long leaves a connection that nobody can use again.
    fn done<T, E: From<sqlx::Error>>(mut self, done: Option<Result<T, E>>) -> Result<T, E> {
        done.unwrap_or_else(|| {
            drop(self.connection.take().map(PoolConnection::detach));
            Err(silent().into())
        })
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect(THERE)
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect(THERE)
    }
}

impl Drop for Lent {
    /// The way back leads through a ping. Left to itself it has no end, and holds the place in the pool meanwhile.
    fn drop(&mut self) {
        if let Some(mut connection) = self.connection.take() {
            let returned = connection.return_to_pool();
            let limit = self.return_within;
            tokio::spawn(async move {
                if timeout(limit, returned).await.is_err() {
                    tracing::warn!("a connection to PostgreSQL does not answer and was thrown away");
                }
            });
        }
    }
}

/// `work`, or an error of the connection when it takes longer than it may.
pub(super) async fn in_time<T, E, F>(limit: Duration, work: F) -> Result<T, E>
where
    E: From<sqlx::Error>,
    F: Future<Output = Result<T, E>>,
{
    timeout(limit, work).await.unwrap_or_else(|_| Err(silent().into()))
}

fn silent() -> sqlx::Error {
    io::Error::new(io::ErrorKind::TimedOut, "PostgreSQL did not answer in time").into()
}

impl<'l> Executor<'l> for &'l Lender {
    type Database = Postgres;

    /// All of it is there before any of it is given, so that the limit is about the server and not about who reads.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'l: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let fetched = async move {
            let mut lent = self.lend().await?;
            let fetched = timeout(self.patience.answer, lent.fetch_many(query).try_collect::<Vec<_>>()).await.ok();
            lent.done(fetched)
        };
        fetched.map_ok(|steps| stream::iter(steps).map(Ok)).try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'l: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut lent = self.lend().await?;
            let fetched = timeout(self.patience.answer, lent.fetch_optional(query)).await.ok();
            lent.done(fetched)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'l: 'e,
    {
        Box::pin(async move {
            let mut lent = self.lend().await?;
            let prepared = timeout(self.patience.answer, lent.prepare_with(sql, parameters)).await.ok();
            lent.done(prepared)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'l: 'e,
    {
        Box::pin(async move {
            let mut lent = self.lend().await?;
            let described = timeout(self.patience.answer, lent.describe(sql)).await.ok();
            lent.done(described)
        })
    }
}
