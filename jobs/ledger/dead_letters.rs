//! Dead letters: jobs that no attempt will cure, kept with their error until an operator retries or discards them.
//!
//! They live in the ledger wherever the queue lives. There is at most one per kind and subject: a later death takes the
//! place of an earlier one, under a new id. Whose they are is found as they are written: their subject may be an upload, a
//! batch or an org, and a list of one org's must not look for the subjects of all.

mod decide;
mod filter;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::steps::{listed, millis};
use super::{Db, LedgerError, Tx, keepable};
use crate::admit_object::AdmitObject;
use crate::job::{Job as _, Lane, Pool};
use crate::model::{Timestamp, keys, words};

pub use decide::{Retried, RetryError, discard, retry};
pub(super) use filter::containing;
pub use filter::{Filter, abouts, count, count_by_kind, count_by_pool, find, list, page};

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
                "Its payload is not what this version reads: it was written by another version. Run that one, or discard it.".to_owned()
            }
            "unknown_kind" => {
                "This version has no such job: it was pushed by another version. Run that one, or discard it.".to_owned()
            }
            "crashed" => {
                "It took its worker down with it again and again. Look for what killed the process.".to_owned()
            }
            other => format!("It died for the reason {other}."),
        };
        let then = format!("`longshore jobs retry {id}` puts it on again");
        let discard = format!("`longshore jobs discard {id}`");
        let is_of_another_version = matches!(self.reason.as_str(), "undecodable" | "unknown_kind");
        if about.is_nil() {
            let then = if is_of_another_version { discard } else { format!("{then} at once") };
            return format!("{cause}\nThe schedule runs the next one in any case; {then}.");
        }
        let discard =
            if is_of_another_version { format!(" If that is done or gone: {discard}.") } else { String::new() };
        format!("{cause}\n`longshore status {about}` shows what it is about; {then}.{discard}")
    }

    /// The relative path of a batch's object that it was about; `None` of any other job.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        keys::batch_of(&self.key()?).map(|(_, path)| path.to_owned())
    }

    /// What its subject alone does not tell.
    fn org_of_key(&self) -> Option<Uuid> {
        keys::org_of(&self.key()?)
    }

    /// Of an object that has no row yet, where that is what it was about.
    fn key(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Payload {
            key: String,
        }
        let of_object = self.kind == AdmitObject::KIND;
        of_object.then(|| serde_json::from_str::<Payload>(&self.payload).ok())?.map(|payload| payload.key)
    }
}

words! {
    /// What a job was about.
    SubjectKind, "a subject's kind" {
        /// An upload.
        Upload = "upload",
        /// A batch.
        Batch = "batch",
        /// An org, of whose report.
        Org = "org",
        /// A blob.
        Blob = "blob",
    }
}

/// What a letter's job was about.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct About {
    /// The letter's.
    pub id: Uuid,
    /// Whose; `None` when it is nobody's, or cannot be told.
    pub org_id: Option<Uuid>,
    /// `None` when it was about all of them, or cannot be told.
    pub subject_kind: Option<SubjectKind>,
    /// Of an upload.
    pub filename: Option<String>,
}

/// How many letters there are of a kind and reason.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct KindCount {
    /// [`DeadLetter::kind`].
    pub kind: String,
    /// [`DeadLetter::reason`].
    pub reason: String,
    /// How many.
    pub count: i64,
}

/// Keeps a letter, in the transaction that removes its job.
pub async fn insert(tx: &mut Tx<'_>, letter: &DeadLetter) -> Result<(), LedgerError> {
    let query = "insert into dead_letters
            (id, kind, subject, pool, lane, payload, attempts, crashes, reason, error, died_at, org_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce(
            (select org_id from uploads where id = $3),
            (select org_id from batches where id = $3),
            (select id from orgs where id = $3),
            (select id from orgs where id = $12)))
        on conflict (kind, subject) do update set
            id = excluded.id,
            pool = excluded.pool,
            lane = excluded.lane,
            payload = excluded.payload,
            attempts = excluded.attempts,
            crashes = excluded.crashes,
            reason = excluded.reason,
            error = excluded.error,
            died_at = excluded.died_at,
            org_id = excluded.org_id";
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
        .bind(letter.org_of_key())
        .execute(c).await.map(drop))?;
    Ok(())
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
