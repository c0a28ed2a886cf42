//! What processes on one PostgreSQL tell each other at once: uploads that moved, pools that have something to claim.
//!
//! Signals are hints. They are sent by `NOTIFY`, outside of all transactions of the ledger, since whoever commits a
//! notification waits for all others who do. What has to be told is gathered while the last statement is under way and a few
//! milliseconds longer. A signal that gets lost costs time only: whoever waits looks again by himself.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::lender::{Lender, Patience, in_time};
use crate::job::{Pool, with_causes};
use crate::model::Status;

/// The least time between two notifications.
const GATHERING: Duration = Duration::from_millis(3);
/// Moves that wait to be told. When there are more, the server is away, and nobody would learn of them in time.
const WAITING: usize = 50_000;
/// A payload has less than 8,000 bytes.
const PAYLOAD: usize = 7_900;
/// How long to wait before the line is taken up again; doubled each time up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Hears of a move in another process.
type OnMove = Box<dyn Fn(Uuid, Status) + Send + Sync>;
/// Hears that another process has put something into a pool.
type OnRing = Box<dyn Fn(Pool) + Send + Sync>;

/// The line to the other processes on the same schema. Cheap to clone; the line ends with the last clone.
#[derive(Clone)]
pub struct Signals {
    line: Arc<Line>,
    _tasks: Arc<Tasks>,
}

struct Line {
    /// Of this process, which does not listen to itself.
    sender: String,
    channel: String,
    telling: Lender,
    /// For the connection that listens.
    options: PgConnectOptions,
    patience: Patience,
    closed: watch::Sender<bool>,
    outbox: Mutex<Outbox>,
    filled: Notify,
    on_move: Mutex<Vec<OnMove>>,
    on_ring: Mutex<Vec<OnRing>>,
}

/// What is to be told next.
#[derive(Default)]
struct Outbox {
    moves: Vec<(Uuid, Status)>,
    pools: BTreeSet<Pool>,
}

struct Tasks([AbortHandle; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

impl Signals {
    /// Takes up the line in the background: one connection listens, another tells.
    pub(super) fn start(options: PgConnectOptions, schema: &str, patience: Patience) -> Self {
        let line = Arc::new(Line {
            sender: Uuid::new_v4().simple().to_string(),
            channel: format!("longshore_{schema}"),
            telling: Lender::new(1, options.clone(), Patience { answer: patience.connect, ..patience }),
            options,
            patience,
            closed: watch::Sender::new(false),
            outbox: Mutex::default(),
            filled: Notify::new(),
            on_move: Mutex::default(),
            on_ring: Mutex::default(),
        });
        let telling = tokio::spawn(Arc::clone(&line).tell_on());
        let listening = tokio::spawn(Arc::clone(&line).listen_on());
        let tasks = Arc::new(Tasks([telling.abort_handle(), listening.abort_handle()]));
        Self { line, _tasks: tasks }
    }

    /// Tells the others that an upload has moved.
    pub(super) fn tell_move(&self, upload: Uuid, status: Status) {
        let mut outbox = lock(&self.line.outbox);
        if outbox.moves.len() < WAITING {
            outbox.moves.push((upload, status));
            drop(outbox);
            self.line.filled.notify_one();
        }
    }

    /// Tells the others that there may be something to claim.
    pub fn tell_ring(&self, pool: Pool) {
        if lock(&self.line.outbox).pools.insert(pool) {
            self.line.filled.notify_one();
        }
    }

    pub(super) fn on_move(&self, heard: impl Fn(Uuid, Status) + Send + Sync + 'static) {
        lock(&self.line.on_move).push(Box::new(heard));
    }

    /// Calls `heard` whenever another process tells of a pool, and for every pool when something may have been missed.
    pub fn on_ring(&self, heard: impl Fn(Pool) + Send + Sync + 'static) {
        lock(&self.line.on_ring).push(Box::new(heard));
    }

    pub(super) async fn close(&self) {
        self.line.closed.send_replace(true);
        self.line.telling.close().await;
    }
}

impl Line {
    async fn tell_on(self: Arc<Self>) {
        while !*self.closed.borrow() {
            self.filled.notified().await;
            let told = std::mem::take(&mut *lock(&self.outbox));
            if let Err(error) = self.notify(told.payloads(&self.sender)).await {
                tracing::debug!(error = with_causes(&error), "other processes were not told");
            }
            sleep(GATHERING).await;
        }
    }

    async fn notify(&self, payloads: Vec<String>) -> Result<(), sqlx::Error> {
        let query = "select pg_notify($1, payload) from unnest($2) as payload";
        sqlx::query(query).bind(&self.channel).bind(payloads).execute(&self.telling).await.map(drop)
    }

    async fn listen_on(self: Arc<Self>) {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            _ = closed.wait_for(|closed| *closed) => {}
            never = self.listen_again_and_again() => match never {},
        }
    }

    async fn listen_again_and_again(&self) -> Infallible {
        let mut wait = FIRST;
        loop {
            if let Err(error) = self.listen(&mut wait).await {
                tracing::debug!(error = with_causes(&error), ?wait, "other processes are not heard");
            }
            sleep(wait).await;
            wait = LONGEST.min(wait * 2);
        }
    }

    /// Listens until the connection is lost. A line on which nobody speaks looks like one that is dead, so after a while it is
    /// told once more to listen, which changes nothing but has to be answered.
    async fn listen(&self, wait: &mut Duration) -> Result<(), sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.ear()).await?;
        listener.eager_reconnect(false);
        in_time(self.patience.connect, listener.listen(&self.channel)).await?;
        *wait = FIRST;
        // Whatever was told while nobody listened.
        Pool::ALL.iter().for_each(|pool| self.ring(*pool));
        loop {
            match timeout(self.patience.silence, listener.try_recv()).await {
                Ok(Ok(Some(told))) => self.hear(told.payload()),
                Ok(lost) => return lost.map(drop),
                Err(_) => {
                    let again = AssertSqlSafe(format!("LISTEN \"{}\"", self.channel));
                    in_time(self.patience.connect, listener.execute(again)).await?;
                }
            }
        }
    }

    /// A pool for one listener alone. It gives its connection back with a last word that has no limit, so a dead one holds its
    /// place until the operating system gives up the socket.
    fn ear(&self) -> PgPool {
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.patience.connect)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(self.options.clone())
    }

    /// A word that is not understood was sent by a later version, and is meant for others.
    fn hear(&self, payload: &str) {
        let mut words = payload.split(' ');
        if words.next() == Some(self.sender.as_str()) {
            return;
        }
        for (what, status) in words.filter_map(|word| word.split_once(':')) {
            if let Ok(pool) = status.parse()
                && what == RING
            {
                self.ring(pool);
            } else if let (Ok(upload), Ok(status)) = (what.parse(), status.parse()) {
                lock(&self.on_move).iter().for_each(|heard| heard(upload, status));
            }
        }
    }

    fn ring(&self, pool: Pool) {
        lock(&self.on_ring).iter().for_each(|heard| heard(pool));
    }
}

/// What stands in place of an upload's id where a pool is told of.
const RING: &str = "pool";

impl Outbox {
    /// `sender pool:NAME … ID:STATUS …`, in as many pieces as it takes.
    fn payloads(self, sender: &str) -> Vec<String> {
        let rings = self.pools.iter().map(|pool| format!(" {RING}:{pool}"));
        let mut told = HashSet::new();
        // Of several moves of one upload in a row the last is what counts.
        let last = self.moves.into_iter().rev().filter(|(upload, _)| told.insert(*upload));
        let mut payloads = Vec::new();
        let mut payload = sender.to_owned();
        for word in rings.chain(last.map(|(upload, status)| format!(" {}:{status}", upload.simple()))) {
            if payload.len() + word.len() > PAYLOAD {
                payloads.push(std::mem::replace(&mut payload, sender.to_owned()));
            }
            write!(payload, "{word}").expect("a string takes all");
        }
        payloads.push(payload);
        payloads
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_moves_go_in_several_payloads_and_each_upload_once() {
        let uploads: Vec<Uuid> = (0..1_000).map(|_| Uuid::now_v7()).collect();
        let moved = |status| uploads.iter().map(move |upload| (*upload, status));
        let moves = moved(Status::Arrived).chain(moved(Status::Done)).collect();

        let payloads = Outbox { moves, pools: BTreeSet::from([Pool::Upkeep]) }.payloads("me");

        assert!(payloads.iter().all(|payload| payload.len() < 8_000 && payload.starts_with("me ")));
        assert!(payloads[0].contains(" pool:upkeep"));
        let words: Vec<&str> = payloads.iter().flat_map(|payload| payload.split(' ').skip(1)).collect();
        assert_eq!(words.len(), 1_001);
        assert!(words.iter().skip(1).all(|word| word.ends_with(":done")));
    }
}
