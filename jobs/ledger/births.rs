//! Uploads are born: many with one statement, and those of which the org has the bytes at once as files.
//!
//! A row that the unique index of refs does not let in is left out; the others of its list do not suffer for it. Where the
//! org's blob is gone by the time of the write, the row is born as it would have been without one.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::engine::{Engine, Unit};
use super::files::Stored;
use super::steps::{listed, millis};
use super::stores::{Store, join_all};
use super::uploads::moved;
use super::{Db, LedgerError, Tx, idempotency, rows};
use crate::model::idempotency::IdempotencyKey;
use crate::model::{Status, Timestamp, Upload};

/// An upload on its way into the ledger.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Without the bytes: requested, or issued with its policy.
    pub upload: Upload,
    /// The size of the org's blob with the declared digest; `None` when the org is not known to have the bytes.
    pub known: Option<i64>,
    /// When its object is looked for first; `None` while it has no policy.
    pub poll_at: Option<Timestamp>,
}

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Born {
    /// It waits for its bytes.
    Wanting,
    /// It is done: the org has the bytes.
    Done,
    /// Its `ref` stands for another upload; nothing was written.
    Taken,
}

impl Birth {
    /// One that has no policy yet.
    #[must_use]
    pub const fn requested(upload: Upload, known: Option<i64>) -> Self {
        Self { upload, known, poll_at: None }
    }

    /// As it is when the org has the bytes; `None` when it is not known to.
    fn done(&self) -> Option<Upload> {
        let (size, sha256) = (self.known?, self.upload.sha256?);
        Some(Upload {
            status: Status::Done,
            arrived_size: Some(size),
            verified_sha256: Some(sha256),
            deduplicated: Some(true),
            policy: None,
            policy_expires_at: None,
            issued_at: None,
            stored_at: Some(self.upload.updated_at),
            resume_at: None,
            ..self.upload.clone()
        })
    }
}

const WANTING: &str = "update uploads
    set status = given.value ->> 'status', policy = given.value ->> 'policy',
        policy_expires_at = cast(given.value ->> 'ends' as bigint), next_poll_at = cast(given.value ->> 'poll_at' as bigint),
        resume_at = cast(given.value ->> 'resume_at' as bigint), issued_at = cast(given.value ->> 'issued_at' as bigint),
        arrived_size = null, verified_sha256 = null, stored_at = null, deduplicated = null
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 'id')";

/// Adds one, together with others that are asked for at the same time, and returns the row as it was born. `None` when its
/// `ref` stands for another open upload of the org.
pub async fn ask(db: &Db, birth: Birth) -> Result<Option<Upload>, LedgerError> {
    let born = db.gathered().insert.ask(birth.clone()).await?;
    Ok(told(db, birth, born))
}

/// Announces it, and returns the row as it was born.
fn told(db: &Db, birth: Birth, born: Born) -> Option<Upload> {
    announce(db, &[(birth.upload.id, born)]);
    match born {
        Born::Taken => None,
        Born::Wanting => Some(birth.upload),
        Born::Done => birth.done(),
    }
}

/// As [`ask`] for a request that came with a key, which is written down in the same transaction. [`LedgerError::Repeated`]
/// when it stands for an upload already.
pub async fn ask_once(db: &Db, birth: Birth, key: IdempotencyKey) -> Result<Option<Upload>, LedgerError> {
    let asked = birth.clone();
    let born = db.write(move |mut tx| {
        Box::pin(async move {
            idempotency::claim(&mut tx, &key, asked.upload.id).await?;
            match insert_in(&mut tx, &[asked]).await?.first() {
                // Undone, so that the key is free for the next try.
                None | Some(Born::Taken) => Err(LedgerError::Taken),
                Some(born) => Ok(*born),
            }
        })
    });
    match born.await {
        Err(LedgerError::Taken) => Ok(None),
        born => Ok(told(db, birth, born?)),
    }
}

/// Tells of those that were born done; nobody can wait for the others yet.
pub(super) fn announce(db: &Db, born: &[(Uuid, Born)]) {
    for (id, _) in born.iter().filter(|(_, born)| *born == Born::Done) {
        moved(db, *id, Status::Done, 1);
    }
}

/// What became of each, in order.
pub(super) async fn insert_all(engine: Engine, births: Vec<Birth>) -> Result<Vec<Born>, LedgerError> {
    let unit = if births.iter().any(|birth| birth.known.is_some()) { Unit::Statements } else { Unit::Statement };
    engine.write(unit, move |mut tx| Box::pin(async move { Ok(insert_in(&mut tx, &births).await?) })).await
}

/// As [`insert_all`], within a transaction.
pub(super) async fn insert_in(tx: &mut Tx<'_>, births: &[Birth]) -> Result<Vec<Born>, sqlx::Error> {
    let inserted = insert(tx, births).await?;
    let store = |upload: Upload| Store { now: upload.updated_at, copy: None, upload };
    let known = births.iter().filter(|birth| inserted.contains(&birth.upload.id)).filter_map(Birth::done);
    let stores: Vec<Store> = known.map(store).collect();
    let stored = if stores.is_empty() { Vec::new() } else { join_all(tx, &stores).await? };
    let stored: HashMap<Uuid, Stored> = stores.iter().map(|store| store.upload.id).zip(stored).collect();
    want(tx, births, &stored).await?;
    let fate = |birth: &Birth| match stored.get(&birth.upload.id) {
        Some(Stored::Joined) => Born::Done,
        _ if inserted.contains(&birth.upload.id) => Born::Wanting,
        _ => Born::Taken,
    };
    Ok(births.iter().map(fate).collect())
}

/// New rows, as many as are not in conflict with what stands; returns which.
async fn insert(tx: &mut Tx<'_>, births: &[Birth]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let mut in_order: Vec<&Birth> = births.iter().collect();
    // The ref is what two processes may both want to insert, and wait for each other about.
    in_order.sort_by_key(|birth| (birth.upload.org_id, &birth.upload.client_ref));
    let done: Vec<Option<Upload>> = in_order.iter().map(|birth| birth.done()).collect();
    let rows = in_order.into_iter().zip(&done).map(|(birth, done)| match done {
        Some(done) => (done, None),
        None => (&birth.upload, birth.poll_at),
    });
    let inserted = rows::insert(tx, rows).await?;
    Ok(inserted.into_iter().collect())
}

/// Makes of those whose blob has begun to leave what they are without it.
async fn want(tx: &mut Tx<'_>, births: &[Birth], stored: &HashMap<Uuid, Stored>) -> Result<(), sqlx::Error> {
    let left = births.iter().filter(|birth| stored.get(&birth.upload.id) == Some(&Stored::Leaving));
    let rows: Vec<Value> = left.map(wanting_row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let list = json!(rows).to_string();
    sql!(tx.on(), c => sqlx::query(WANTING).bind(list).execute(c).await.map(drop))
}

fn wanting_row(birth: &Birth) -> Value {
    let Birth { upload, poll_at, .. } = birth;
    json!({
        "id": listed(upload.id),
        "status": upload.status,
        "policy": upload.policy,
        "ends": upload.policy_expires_at.map(millis),
        "poll_at": poll_at.map(millis),
        "resume_at": upload.resume_at.map(millis),
        "issued_at": upload.issued_at.map(millis),
    })
}
