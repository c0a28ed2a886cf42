//! Dead letters: jobs that no attempt will cure, kept with their error until an operator retries or discards them.
//!
//! They live in the ledger wherever the queue lives. There is at most one per kind and subject: a later death takes the
//! place of an earlier one, under a new id.

use std::collections::HashSet;

use serde_json::json;
use uuid::Uuid;

use super::steps::{listed, millis};
use super::{Db, LedgerError, Tx, keepable};
use crate::job::{Lane, NewJob, Pool};
use crate::model::Timestamp;
use crate::outside::{Queue, QueueError};

/// How many letters one [`retry`] takes at most.
const RETRIED_AT_ONCE: i64 = 10_000;

/// A job that died.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DeadLetter {
    /// Of this death, not of the job.
    pub id: Uuid,
    /// The job's name; perhaps not on this program's roster.
    pub kind: String,
    /// What it was about.
    pub subject: Uuid,
    /// Who ran it.
    pub pool: Pool,
    /// Who went first.
    pub lane: Lane,
    /// Its payload as JSON.
    pub payload: String,
    /// How many attempts it had.
    pub attempts: i64,
    /// How many workers died while they ran it.
    pub crashes: i64,
    /// One word: `attempts`, `gave_up`, `undecodable`, `unknown_kind`, `crashed`.
    pub reason: String,
    /// What went wrong last, with its causes.
    pub error: String,
    /// When.
    pub died_at: Timestamp,
}

impl DeadLetter {
    /// What its reason means, and what a person can do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        let (id, about) = (self.id, self.subject);
        let cause = match self.reason.as_str() {
            "attempts" => "Every attempt failed; the error is that of the last. Mend its cause.".to_owned(),
            "gave_up" => "No attempt can succeed as things stand. Mend what the error names.".to_owned(),
            "undecodable" => {
                "Its payload is not what this version reads: it was written by another version.".to_owned()
            }
            "unknown_kind" => {
                "This version has no such job: it was pushed by another version. Run that one.".to_owned()
            }
            "crashed" => {
                "It took its worker down with it again and again. Look for what killed the process.".to_owned()
            }
            other => format!("It died for the reason {other}."),
        };
        format!(
            "{cause}\n`longshore status {about}` shows what it is about; `longshore jobs retry {id}` puts it on again."
        )
    }
}

/// Which letters are meant: those that match every field that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// [`DeadLetter::id`].
    pub id: Option<Uuid>,
    /// [`DeadLetter::pool`].
    pub pool: Option<Pool>,
    /// [`DeadLetter::kind`].
    pub kind: Option<String>,
    /// [`DeadLetter::reason`].
    pub reason: Option<String>,
    /// [`DeadLetter::subject`].
    pub subject: Option<Uuid>,
}

impl Filter {
    /// The one letter with this id.
    #[must_use]
    pub fn by_id(id: Uuid) -> Self {
        Self { id: Some(id), ..Self::default() }
    }
}

/// What came of a [`retry`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Letters that are jobs again.
    pub put_on: usize,
    /// Letters that stay, because this program knows no such job.
    pub unknown: usize,
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

/// The condition for a [`Filter`], whose fields are `$1` to `$5`.
macro_rules! matching {
    () => {
        "where ($1 is null or id = $1)
            and ($2 is null or pool = $2)
            and ($3 is null or kind = $3)
            and ($4 is null or reason = $4)
            and ($5 is null or subject = $5)"
    };
}

/// Keeps a letter, in the transaction that removes its job.
pub async fn insert(tx: &mut Tx<'_>, letter: &DeadLetter) -> Result<(), LedgerError> {
    let query = "insert into dead_letters
            (id, kind, subject, pool, lane, payload, attempts, crashes, reason, error, died_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        on conflict (kind, subject) do update set
            id = excluded.id,
            pool = excluded.pool,
            lane = excluded.lane,
            payload = excluded.payload,
            attempts = excluded.attempts,
            crashes = excluded.crashes,
            reason = excluded.reason,
            error = excluded.error,
            died_at = excluded.died_at";
    sql!(tx.on(), c => sqlx::query(query)
        .bind(letter.id)
        .bind(&letter.kind)
        .bind(letter.subject)
        .bind(letter.pool)
        .bind(letter.lane)
        .bind(keepable(&letter.payload))
        .bind(letter.attempts)
        .bind(letter.crashes)
        .bind(&letter.reason)
        .bind(keepable(&letter.error))
        .bind(letter.died_at)
        .execute(c).await.map(drop))?;
    Ok(())
}

/// The letters that match, the latest first.
pub async fn list(db: &Db, filter: &Filter, limit: i64) -> Result<Vec<DeadLetter>, LedgerError> {
    let query = concat!(
        "select id, kind, subject, pool, lane, payload, attempts, crashes, reason, error, died_at
        from dead_letters ",
        matching!(),
        " order by died_at desc, id desc
        limit $6"
    );
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(filter.id)
        .bind(filter.pool)
        .bind(&filter.kind)
        .bind(&filter.reason)
        .bind(filter.subject)
        .bind(limit)
        .fetch_all(c)
        .await)?)
}

/// The letter with this id; `None` when there is none, or no longer.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<DeadLetter>, LedgerError> {
    Ok(list(db, &Filter::by_id(id), 1).await?.pop())
}

/// Removes the letters that match, and says how many there were.
pub async fn discard(db: &Db, filter: Filter) -> Result<u64, LedgerError> {
    let query = concat!("delete from dead_letters ", matching!());
    db.write_one(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query(query)
                .bind(filter.id)
                .bind(filter.pool)
                .bind(filter.kind)
                .bind(filter.reason)
                .bind(filter.subject)
                .execute(c)
                .await?
                .rows_affected()))
        })
    })
    .await
}

/// Makes the letters that match jobs again, with all their attempts, at most 10,000 in one go.
///
/// The jobs are put on before the letters are removed: after a crash in between both are there, and a second retry joins the
/// jobs that wait. One that died again meanwhile has a letter with another id, which stays.
pub async fn retry(db: &Db, queue: &dyn Queue, filter: &Filter, now: Timestamp) -> Result<Retried, RetryError> {
    let letters = list(db, filter, RETRIED_AT_ONCE).await?;
    let (mut jobs, mut ids, found) = (Vec::new(), Vec::new(), letters.len());
    for letter in letters {
        let job = NewJob::revive(&letter.kind, letter.subject, letter.payload, letter.lane, now);
        jobs.extend(job.inspect(|_| ids.push(letter.id)));
    }
    let retried = Retried { put_on: jobs.len(), unknown: found - jobs.len() };
    queue.push(jobs).await?;
    remove(db, ids).await?;
    Ok(retried)
}

async fn remove(db: &Db, mut ids: Vec<Uuid>) -> Result<(), LedgerError> {
    ids.sort_unstable();
    let query = "delete from dead_letters where id in (select unhex(atom) from json_each($1))";
    let list = json!(ids.into_iter().map(listed).collect::<Vec<_>>()).to_string();
    db.write_one(move |mut tx| {
        Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).bind(list).execute(c).await.map(drop))?) })
    })
    .await
}

/// Whether a job about this subject has died since its row last moved. A letter from before has outlived its cause.
pub async fn exists_for(db: &Db, subject: Uuid, moved_at: Timestamp) -> Result<bool, LedgerError> {
    let query = "select exists (select 1 from dead_letters where subject = $1 and died_at >= $2)";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(subject).bind(moved_at).fetch_one(c).await)?)
}

/// As [`exists_for`], of many at once: which of these subjects it is true of.
pub async fn stuck(db: &Db, subjects: &[(Uuid, Timestamp)]) -> Result<HashSet<Uuid>, LedgerError> {
    if subjects.is_empty() {
        return Ok(HashSet::new());
    }
    let query = "select subject
        from json_each($1) given
        join dead_letters on subject = unhex(given.value ->> 0) and died_at >= cast(given.value ->> 1 as bigint)";
    let row = |(subject, moved_at): &(Uuid, Timestamp)| json!([listed(*subject), millis(*moved_at)]);
    let list = json!(subjects.iter().map(row).collect::<Vec<_>>()).to_string();
    let stuck: Vec<Uuid> = sql!(db.reader(), c => sqlx::query_scalar(query).bind(list).fetch_all(c).await)?;
    Ok(stuck.into_iter().collect())
}

/// How many letters each pool has; pools without any are left out.
pub async fn count_by_pool(db: &Db) -> Result<Vec<(Pool, i64)>, LedgerError> {
    let query = "select pool, count(*) from dead_letters group by pool order by pool";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).fetch_all(c).await)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::job::{Context, Job as _};
    use crate::noop::Noop;
    use crate::outside::{LookError, QueuedJob};
    use crate::testkit::World;

    #[derive(Default)]
    struct Pushed(Mutex<Vec<NewJob>>);

    #[async_trait]
    impl Queue for Pushed {
        async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
            self.0.lock().unwrap().extend(jobs);
            Ok(())
        }

        async fn about(&self, _: &[Uuid]) -> Result<Vec<QueuedJob>, LookError> {
            Ok(Vec::new())
        }
    }

    fn letter(kind: &str, reason: &str) -> DeadLetter {
        let subject = Uuid::now_v7();
        DeadLetter {
            id: Uuid::now_v7(),
            kind: kind.to_owned(),
            subject,
            pool: Pool::Upkeep,
            lane: Lane::Bulk,
            payload: serde_json::to_string(&Noop::new(subject)).unwrap(),
            attempts: 10,
            crashes: 0,
            reason: reason.to_owned(),
            error: "it was told to fail".to_owned(),
            died_at: Timestamp::from_millis(1),
        }
    }

    async fn keep(db: &Db, letters: &[DeadLetter]) {
        let letters = letters.to_vec();
        db.write(|mut tx| {
            Box::pin(async move {
                for letter in &letters {
                    insert(&mut tx, letter).await?;
                }
                Ok(())
            })
        })
        .await
        .unwrap();
    }

    crate::on_every_engine! {
        letters_are_found_by_every_field_and_discarded_by_filter,
        a_letter_from_before_the_rows_last_move_does_not_count,
        a_retried_letter_is_a_job_again_and_an_unknown_one_stays,
        a_second_death_takes_the_place_of_the_first,
    }

    async fn letters_are_found_by_every_field_and_discarded_by_filter(World { ctx: Context { db, .. }, .. }: World) {
        let (one, other) = (letter(Noop::KIND, "attempts"), letter("lost", "unknown_kind"));
        keep(&db, &[one.clone(), other.clone()]).await;

        let by_kind = Filter { kind: Some("lost".to_owned()), ..Filter::default() };
        let by_subject = Filter { subject: Some(one.subject), pool: Some(Pool::Upkeep), ..Filter::default() };
        let by_reason = Filter { reason: Some("attempts".to_owned()), ..Filter::default() };
        assert_eq!(list(&db, &by_kind, 9).await.unwrap(), std::slice::from_ref(&other));
        assert_eq!(list(&db, &by_subject, 9).await.unwrap(), std::slice::from_ref(&one));
        assert_eq!(list(&db, &by_reason, 9).await.unwrap(), std::slice::from_ref(&one));
        assert_eq!(find(&db, other.id).await.unwrap(), Some(other.clone()));
        assert_eq!(count_by_pool(&db).await.unwrap(), [(Pool::Upkeep, 2)]);

        assert_eq!(discard(&db, by_kind).await.unwrap(), 1);
        assert!(!exists_for(&db, other.subject, other.died_at).await.unwrap());
        assert!(exists_for(&db, one.subject, one.died_at).await.unwrap());
    }

    async fn a_letter_from_before_the_rows_last_move_does_not_count(World { ctx: Context { db, .. }, .. }: World) {
        let dead = letter(Noop::KIND, "attempts");
        keep(&db, std::slice::from_ref(&dead)).await;

        let moved_since = dead.died_at + std::time::Duration::from_millis(1);

        assert!(exists_for(&db, dead.subject, dead.died_at).await.unwrap());
        assert!(!exists_for(&db, dead.subject, moved_since).await.unwrap());
        let stranger = Uuid::now_v7();
        let asked = [(stranger, dead.died_at), (dead.subject, dead.died_at)];
        assert_eq!(stuck(&db, &asked).await.unwrap(), HashSet::from([dead.subject]));
        assert!(stuck(&db, &[(dead.subject, moved_since)]).await.unwrap().is_empty());
    }

    async fn a_retried_letter_is_a_job_again_and_an_unknown_one_stays(World { ctx: Context { db, .. }, .. }: World) {
        let (one, other) = (letter(Noop::KIND, "attempts"), letter("lost", "unknown_kind"));
        keep(&db, &[one.clone(), other.clone()]).await;
        let queue = Pushed::default();

        let retried = retry(&db, &queue, &Filter::default(), Timestamp::from_millis(7)).await.unwrap();

        assert_eq!(retried, Retried { put_on: 1, unknown: 1 });
        let due = Timestamp::from_millis(7);
        let expected = NewJob::revive(&one.kind, one.subject, one.payload, one.lane, due).unwrap();
        assert_eq!(*queue.0.lock().unwrap(), [expected]);
        assert_eq!(list(&db, &Filter::default(), 9).await.unwrap(), [other]);
    }

    async fn a_second_death_takes_the_place_of_the_first(World { ctx: Context { db, .. }, .. }: World) {
        let first = letter(Noop::KIND, "attempts");
        let second = DeadLetter { id: Uuid::now_v7(), reason: "crashed".to_owned(), ..first.clone() };
        keep(&db, &[first, second.clone()]).await;

        assert_eq!(list(&db, &Filter::default(), 9).await.unwrap(), [second]);
    }
}
