//! What becomes of letters: jobs again, or nothing.

use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::super::page::COUNT_CAP;
use super::super::steps::listed;
use super::super::{Db, LedgerError};
use super::DeadLetter;
use super::filter::{Filter, among, filtered};
use crate::job::NewJob;
use crate::model::Timestamp;
use crate::outside::{Queue, QueueError};
use crate::roster;

/// How many letters one [`retry`] takes, and one statement of [`discard`].
const AT_ONCE: usize = 10_000;

/// What came of a [`retry`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Letters that are jobs again.
    pub put_on: usize,
    /// Letters that stay, because this program knows no such job. Counted up to [`COUNT_CAP`].
    pub unknown: usize,
    /// Whether there are more that can be put on.
    pub more: bool,
}

/// A retry broke off; what was not put on is still a letter.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The letters could not be read or removed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The jobs could not be put on.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Makes the letters that match jobs again, with all their attempts: the oldest first, at most 10,000 in one go. A loop for as
/// long as there are more ends if its filter is [`Filter::bounded`].
///
/// The jobs are put on before the letters are removed: after a crash in between both are there, and a second retry joins the
/// jobs that wait. One that died again meanwhile has a letter with another id, which stays.
pub async fn retry(db: &Db, queue: &dyn Queue, filter: &Filter, now: Timestamp) -> Result<Retried, RetryError> {
    let mut letters = known(db, filter).await?;
    let more = letters.len() > AT_ONCE;
    letters.truncate(AT_ONCE);
    let unknown = usize::try_from(count_unknown(db, filter).await?).unwrap_or(0);
    let (mut jobs, mut ids) = (Vec::new(), Vec::new());
    for letter in letters {
        let job = NewJob::revive(&letter.kind, letter.subject, letter.payload, letter.lane, now);
        jobs.extend(job.inspect(|_| ids.push(letter.id)));
    }
    let retried = Retried { put_on: jobs.len(), unknown, more };
    queue.push(jobs).await?;
    remove(db, ids).await?;
    Ok(retried)
}

/// Those whose job this program knows: letters that stay must not be in the way of the others. One more than are taken tells
/// that there are more.
async fn known(db: &Db, filter: &Filter) -> Result<Vec<DeadLetter>, LedgerError> {
    let (text, on_roster) = (filter.text(db), among(db, "select atom from json_each($9)"));
    let query = format!(
        "select * {text} and kind {on_roster}
        order by id
        limit $10"
    );
    let query = AssertSqlSafe(query);
    Ok(sql!(db.reader(), c => filtered!(sqlx::query_as(query), filter)
        .bind(kinds())
        .bind(rows(AT_ONCE + 1))
        .fetch_all(c)
        .await)?)
}

async fn count_unknown(db: &Db, filter: &Filter) -> Result<i64, LedgerError> {
    let text = filter.text(db);
    let query = format!(
        "select count(*) from (
            select 1 {text} and kind not in (select atom from json_each($9)) limit $10) capped"
    );
    let query = AssertSqlSafe(query);
    Ok(sql!(db.reader(), c => filtered!(sqlx::query_scalar(query), filter)
        .bind(kinds())
        .bind(COUNT_CAP)
        .fetch_one(c)
        .await)?)
}

fn rows(count: usize) -> i64 {
    i64::try_from(count).expect("some thousands")
}

/// Every kind on the roster, as a list.
fn kinds() -> String {
    json!(roster::all().iter().map(|entry| entry.kind).collect::<Vec<_>>()).to_string()
}

async fn remove(db: &Db, mut ids: Vec<Uuid>) -> Result<(), LedgerError> {
    ids.sort_unstable();
    let given = among(db, "select unhex(atom) from json_each($1)");
    let query = format!("delete from dead_letters where id {given}");
    let list = json!(ids.into_iter().map(listed).collect::<Vec<_>>()).to_string();
    db.write_one_again(move |mut tx| {
        Box::pin(async move {
            let query = AssertSqlSafe(query);
            Ok(sql!(tx.on(), c => sqlx::query(query).bind(list).execute(c).await.map(drop))?)
        })
    })
    .await
}

/// Removes the letters that match, none that died since it began, and says how many there were.
pub async fn discard(db: &Db, filter: Filter) -> Result<u64, LedgerError> {
    let (filter, mut gone) = (filter.bounded(db).await?, 0);
    loop {
        // Each by itself: others write too, and a hundred thousand rows take a while.
        let some = discard_some(db, filter.clone()).await?;
        gone += some;
        if some < rows(AT_ONCE).unsigned_abs() {
            return Ok(gone);
        }
    }
}

async fn discard_some(db: &Db, filter: Filter) -> Result<u64, LedgerError> {
    let some = among(db, &format!("select id {} order by id limit $9", filter.text(db)));
    let query = format!("delete from dead_letters where id {some}");
    db.write_one_again(move |mut tx| {
        Box::pin(async move {
            let query = AssertSqlSafe(query);
            Ok(sql!(tx.on(), c => filtered!(sqlx::query(query), filter)
                .bind(rows(AT_ONCE))
                .execute(c)
                .await?
                .rows_affected()))
        })
    })
    .await
}
