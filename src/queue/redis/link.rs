//! The connection that everything but the bell goes over: one, shared by all callers, made anew when it breaks.
//!
//! A call that fails is not tried again here: whoever calls knows whether it may be. What was sent before the connection broke
//! may have been done.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::queue::pace::Backoff;

/// How long a server may take to let us in.
pub(super) const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long an answer may take. Then the connection counts as broken: the other end may be gone without a word.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The longest time without an attempt to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A connection that mends itself.
pub(super) struct Link {
    client: Client,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<MultiplexedConnection>,
    /// How many connections there have been, so that one call's failure does not end its successor.
    made: u64,
    backoff: Backoff,
    /// Until when nobody tries, and why the last attempt failed.
    refused: Option<(Instant, RedisError)>,
}

impl Link {
    /// Without a connection yet.
    pub(super) fn new(client: Client) -> Self {
        Self { client, state: Mutex::default() }
    }

    /// The server's answer to a script, which it is given first if it does not know it.
    pub(super) async fn eval<T: FromRedisValue>(&self, script: &Script, call: &Cmd) -> RedisResult<T> {
        match self.ask(call).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let mut connection = self.connection().await?.1;
                script.load_async(&mut connection).await?;
                self.ask(call).await
            }
            answer => answer,
        }
    }

    /// The server's answer to a command.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let (number, mut connection) = self.connection().await?;
        let answer = command.query_async(&mut connection).await;
        if answer.as_ref().is_err_and(is_over) {
            self.forget(number).await;
        }
        answer
    }

    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            return Ok((state.made, connection.clone()));
        }
        if let Some((until, error)) = &state.refused
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let made = self.connect().await.inspect_err(|error| state.refuse(error))?;
        state.keep(&made);
        Ok((state.made, made))
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(ANSWER_LIMIT));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn forget(&self, number: u64) {
        let mut state = self.state.lock().await;
        if state.made == number {
            state.connection = None;
        }
    }
}

impl State {
    fn keep(&mut self, made: &MultiplexedConnection) {
        self.connection = Some(made.clone());
        self.made += 1;
        self.backoff.reset();
        self.refused = None;
    }

    fn refuse(&mut self, error: &RedisError) {
        let until = Instant::now() + self.backoff.next().min(LONGEST_WAIT);
        self.refused = Some((until, error.clone()));
    }
}

/// Whether only another connection can help: this one is broken, or leads to a server that has become a replica.
fn is_over(error: &RedisError) -> bool {
    error.is_connection_dropped()
        || error.is_timeout()
        || error.is_io_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
