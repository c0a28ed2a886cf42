//! A PostgreSQL whose connections fall silent, while new ones work: nobody waits for ever, and no place in a pool is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::engine::{Engine, Unit};
use super::lender::Patience;
use super::postgres::Postgres;
use super::{Db, LedgerError, Moves};
use crate::job::Pool;
use crate::testkit::{Line, postgres as server};

/// Connections of each ledger; more callers than that want one at once.
const CONNECTIONS: u32 = 6;
const CALLERS: usize = 12;
/// Long enough for a busy machine, and far from "for ever".
const DEADLINE: Duration = Duration::from_secs(60);

async fn open(url: &str) -> Db {
    let (connect, answer) = (Duration::from_secs(2), Duration::from_secs(3));
    let patience = Patience { connect, answer, silence: Duration::from_millis(200) };
    let migrations = sqlx::migrate!("../migrations/postgres");
    let engine = Postgres::open_with(url, CONNECTIONS, migrations, patience).await.unwrap();
    let moves = Moves::told_by(engine.signals());
    Db::over(Engine::Postgres(engine), moves)
}

/// A ledger at the end of a line, and the URL past it.
async fn at_the_end_of_a_line(what: &str) -> Option<(Line, Db, String)> {
    let past = server::schema(what).await?;
    let line = Line::to(&past).await;
    let db = open(line.url()).await;
    Some((line, db, past))
}

/// One write or read of each kind.
async fn ask(db: &Db, number: usize) -> Result<(), LedgerError> {
    match number % 4 {
        0 => db.ping().await,
        1 => db.read_snapshot(|_| Box::pin(async { Ok(()) })).await,
        2 => write(db, Unit::Statements, "select cast(1 as bigint)").await,
        _ => write_each(db, "select cast(1 as bigint)").await,
    }
}

async fn write_each(db: &Db, query: &'static str) -> Result<(), LedgerError> {
    for unit in [Unit::Statement, Unit::Hint, Unit::Urgent] {
        write(db, unit, query).await?;
    }
    Ok(())
}

async fn write(db: &Db, unit: Unit, query: &'static str) -> Result<(), LedgerError> {
    let written = db.engine.write(unit, move |mut tx| {
        Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).execute(c).await.map(drop))?) })
    });
    written.await
}

/// Asks again and again until as many as want to can be served at once.
async fn all_are_served(db: &Db) {
    let served = async {
        loop {
            let answers = join_all((0..CALLERS).map(|number| ask(db, number))).await;
            if answers.iter().all(Result::is_ok) {
                return;
            }
        }
    };
    timeout(DEADLINE, served).await.expect("the ledger answers again");
}

/// Somebody who asks something that takes longer than any test.
async fn sleeper(db: &Db, unit: Unit) -> JoinHandle<Result<(), LedgerError>> {
    let (db, asked) = (db.clone(), Arc::new(Notify::new()));
    let told = Arc::clone(&asked);
    let sleeper = tokio::spawn(async move {
        let sleeping = db.engine.write(unit, move |mut tx| {
            Box::pin(async move {
                told.notify_one();
                Ok(sql!(tx.on(), c => sqlx::query("select pg_sleep(600)").execute(c).await.map(drop))?)
            })
        });
        sleeping.await
    });
    asked.notified().await;
    sleeper
}

async fn sleepers(db: &Db) -> Vec<JoinHandle<Result<(), LedgerError>>> {
    let units = [Unit::Statements, Unit::Statement, Unit::Hint, Unit::Hint, Unit::Urgent];
    join_all(units.map(|unit| sleeper(db, unit))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_fall_silent_are_replaced() {
    let Some((line, db, _)) = at_the_end_of_a_line("connections that fall silent").await else { return };
    all_are_served(&db).await;

    line.cut();

    all_are_served(&db).await;
    timeout(DEADLINE, db.close()).await.expect("nothing is left to wait for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_an_answer_that_never_comes_is_told_so() {
    let Some((line, db, _)) = at_the_end_of_a_line("answers that never come").await else { return };
    let waiting = sleepers(&db).await;

    line.cut();

    for waits in waiting {
        let answer = timeout(DEADLINE, waits).await.expect("it ends").unwrap();
        let Err(LedgerError::Engine(sqlx::Error::Io(error))) = answer else { panic!("{answer:?}") };
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    }
    all_are_served(&db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leaves_a_silent_connection_leaves_its_place_free() {
    let Some((line, db, _)) = at_the_end_of_a_line("leaving silent connections").await else { return };
    let waiting = sleepers(&db).await;
    line.cut();

    waiting.iter().for_each(JoinHandle::abort);

    all_are_served(&db).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_of_signals_that_fell_silent_is_taken_up_again() {
    let Some((line, db, past)) = at_the_end_of_a_line("a line that fell silent").await else { return };
    let (other, heard) = (open(&past).await, Arc::new(AtomicUsize::new(0)));
    let hears = Arc::clone(&heard);
    db.on_ring(move |pool| {
        if pool == Pool::Upkeep {
            hears.fetch_add(1, Ordering::SeqCst);
        }
    });
    rings_until_heard(&other, &heard).await;

    line.cut();

    rings_until_heard(&other, &heard).await;
}

/// So often that they cannot all have been under way before.
async fn rings_until_heard(other: &Db, heard: &AtomicUsize) {
    let enough = heard.load(Ordering::SeqCst) + 10;
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    let ringing = async {
        while heard.load(Ordering::SeqCst) < enough {
            other.ring(Pool::Upkeep);
            interval.tick().await;
        }
    };
    timeout(DEADLINE, ringing).await.expect("rings are heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_renewed_while_claims_and_pushes_hold_every_other_connection() {
    let Some((_line, db, _)) = at_the_end_of_a_line("renewing among many").await else { return };
    let units = [Unit::Statement, Unit::Statement, Unit::Statement, Unit::Hint, Unit::Hint];
    let holding = join_all(units.map(|unit| sleeper(&db, unit))).await;

    let renewed = write(&db, Unit::Urgent, "select cast(1 as bigint)");

    timeout(Duration::from_secs(1), renewed).await.expect("it has a connection of its own").unwrap();
    holding.iter().for_each(JoinHandle::abort);
}
