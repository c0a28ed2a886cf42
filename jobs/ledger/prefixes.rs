//! Objects under a batch's prefix: how they become uploads, many with a few statements, and never more than the batch allows.
//!
//! On PostgreSQL the batch's row is locked while its objects are let in: how many there are is counted, and what stands is
//! looked up, behind the lock. On SQLite there is one writer anyway.

use std::collections::{BTreeMap, HashSet};

use serde_json::json;
use uuid::Uuid;

use super::engine::{Engine, Unit};
use super::steps::listed;
use super::uploads::moved;
use super::{Db, LedgerError, Tx, rows};
use crate::job::show_trace;
use crate::model::batch::Mode;
use crate::model::manifest::Line;
use crate::model::upload::{ArrivedVia, Reason};
use crate::model::{Batch, Status, Timestamp, TraceParent, Upload, keys, path};
use crate::outside::ObjectHead;

pub(super) const STANDING: &str = "select * from uploads where object_key in (select atom from json_each($1))";

/// Of how many refused objects rows are kept, besides as many as the batch may have files.
const MORE_REFUSALS: i64 = 1_000;

/// An object that has landed under the prefix of a batch.
#[derive(Clone, Debug)]
pub struct Object {
    /// The batch, by the key.
    pub batch: Uuid,
    /// What is there.
    pub head: ObjectHead,
    /// The media type that its name suggests.
    pub content_type: Option<String>,
    /// Who told of it.
    pub via: ArrivedVia,
    /// Now.
    pub now: Timestamp,
    /// When its upload is to be resumed if it stands.
    pub resume_at: Timestamp,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is an upload that has arrived.
    Arrived(Uuid),
    /// It is an upload that was rejected as soon as it was seen.
    Rejected(Uuid, Reason),
    /// It was refused, as so many before it that no row is kept of it.
    Refused(Reason),
    /// There is an upload for its key already.
    Stands,
    /// Its batch takes nothing in any more.
    Closed,
    /// There is no such batch.
    Unknown,
}

/// What became of an object, and the trace of its batch.
pub(super) type Told = (Admitted, Option<TraceParent>);

/// Lets an object in, or not. Asked for many at once, they are let in together. Lines from here on tell the trace of the batch,
/// which nobody has looked at before.
pub async fn admit(db: &Db, object: Object) -> Result<Admitted, LedgerError> {
    let (admitted, traceparent) = db.gathered().admit.ask(object).await?;
    show_trace(traceparent);
    match admitted {
        Admitted::Arrived(id) => drop(moved(db, id, Status::Arrived, 1)),
        Admitted::Rejected(id, _) => drop(moved(db, id, Status::Rejected, 1)),
        Admitted::Refused(_) | Admitted::Stands | Admitted::Closed | Admitted::Unknown => {}
    }
    Ok(admitted)
}

/// What became of each, in order.
pub(super) async fn admit_all(engine: Engine, objects: Vec<Object>) -> Result<Vec<Told>, LedgerError> {
    engine
        .write(Unit::Statements, move |mut tx| {
            Box::pin(async move {
                let mut answers = vec![(Admitted::Unknown, None); objects.len()];
                // In the order of their ids, so that two processes do not lock two batches in a ring.
                for (batch, places) in by_batch(&objects) {
                    admit_into(&mut tx, batch, &objects, (&places, &mut answers)).await?;
                }
                Ok(answers)
            })
        })
        .await
}

fn by_batch(objects: &[Object]) -> BTreeMap<Uuid, Vec<usize>> {
    let mut places = BTreeMap::<Uuid, Vec<usize>>::new();
    for (place, object) in objects.iter().enumerate() {
        places.entry(object.batch).or_default().push(place);
    }
    places
}

async fn admit_into(
    tx: &mut Tx<'_>,
    id: Uuid,
    objects: &[Object],
    (places, answers): (&[usize], &mut [Told]),
) -> Result<(), LedgerError> {
    let Some(batch) = lock(tx, id).await?.filter(|batch| batch.mode == Mode::Prefix) else { return Ok(()) };
    let prefix = keys::batch_prefix(batch.org_id, batch.id);
    let ours: Vec<usize> =
        places.iter().copied().filter(|&place| objects[place].head.key.starts_with(&prefix)).collect();
    let mut taken = standing_keys(tx, ours.iter().map(|&place| objects[place].head.key.as_str()).collect()).await?;
    let mut intake = Intake { admitted: batch.admitted, room: None, rows: Vec::new() };
    for place in ours {
        let object = &objects[place];
        let admitted = match taken.insert(object.head.key.clone()) {
            false => Admitted::Stands,
            true if batch.closed_at.is_some() => Admitted::Closed,
            true => intake.take(tx, &batch, object).await?,
        };
        answers[place] = (admitted, batch.traceparent);
    }
    let inserted = rows::insert(tx, intake.rows.iter().map(|row| (row, None))).await?;
    note(tx, &batch, intake.admitted).await?;
    note_matched(tx, &batch, inserted).await
}

/// What a batch takes in.
struct Intake {
    admitted: i64,
    /// How many more rows may be kept of what is refused; `None` until something is.
    room: Option<i64>,
    rows: Vec<Upload>,
}

impl Intake {
    async fn take(&mut self, tx: &mut Tx<'_>, batch: &Batch, object: &Object) -> Result<Admitted, LedgerError> {
        let Some(reason) = reason(batch, object, self.admitted) else {
            self.admitted += 1;
            return Ok(Admitted::Arrived(self.add(new_row(batch, object, None))));
        };
        let room = match self.room {
            Some(room) => room,
            None => room_for_refusals(tx, batch).await?,
        };
        if room <= 0 {
            self.room = Some(room);
            return Ok(Admitted::Refused(reason));
        }
        self.room = Some(room - 1);
        Ok(Admitted::Rejected(self.add(new_row(batch, object, Some(reason))), reason))
    }

    fn add(&mut self, row: Upload) -> Uuid {
        let id = row.id;
        self.rows.push(row);
        id
    }
}

/// The batch, which nobody else lets objects into or closes from here on to the end of the transaction, and whose manifest
/// stays. Uploads of it may move.
pub(super) async fn lock(tx: &mut Tx<'_>, id: Uuid) -> Result<Option<Batch>, LedgerError> {
    // SQLite has no locks on rows, and needs none.
    let query =
        tx.on().text("select * from batches where id = $1", "select * from batches where id = $1 for no key update");
    Ok(sql!(tx.on(), c => sqlx::query_as(query).bind(id).fetch_optional(c).await)?)
}

/// How many more rows may be kept of what is refused: a client that never tires must not fill the ledger.
async fn room_for_refusals(tx: &mut Tx<'_>, batch: &Batch) -> Result<i64, LedgerError> {
    let query = "select cast(coalesce(sum(uploads), 0) as bigint)
        from batch_counts
        where batch_id = $1 and status = 'rejected'";
    let kept: i64 = sql!(tx.on(), c => sqlx::query_scalar(query).bind(batch.id).fetch_one(c).await)?;
    Ok(batch.max_files.unwrap_or(0) + MORE_REFUSALS - kept)
}

async fn standing_keys(tx: &mut Tx<'_>, keys: Vec<&str>) -> Result<HashSet<String>, LedgerError> {
    let list = json!(keys).to_string();
    let rows: Vec<Upload> = sql!(tx.on(), c => sqlx::query_as(STANDING).bind(list).fetch_all(c).await)?;
    Ok(rows.into_iter().map(|row| row.object_key).collect())
}

/// Why the object is not let in; `None` when it is. What is refused for itself takes nobody's place.
fn reason(batch: &Batch, object: &Object, admitted: i64) -> Option<Reason> {
    let relative = keys::batch_of(&object.head.key).map(|(_, path)| path);
    if relative.is_none_or(|relative| path::fault(relative).is_some()) {
        return Some(Reason::UnsafePath);
    }
    if batch.max_file_size.is_some_and(|most| object.head.size > most) {
        return Some(Reason::TooLarge);
    }
    batch.max_files.is_some_and(|most| admitted >= most).then_some(Reason::TooManyFiles)
}

fn new_row(batch: &Batch, object: &Object, reason: Option<Reason>) -> Upload {
    let head = &object.head;
    let filename = keys::batch_of(&head.key).map_or_else(String::new, |(_, path)| path.to_owned());
    let status = if reason.is_some() { Status::Rejected } else { Status::Arrived };
    Upload {
        status,
        reason,
        content_type: object.content_type.clone(),
        object_key: head.key.clone(),
        etag: Some(head.etag.clone()),
        arrived_size: Some(head.size),
        arrived_via: Some(object.via),
        landed_at: head.landed_at(),
        arrived_at: Some(object.now),
        resume_at: reason.is_none().then_some(object.resume_at),
        ..of_batch(batch, filename, object.now)
    }
}

fn of_batch(batch: &Batch, filename: String, now: Timestamp) -> Upload {
    Upload {
        target_kind: batch.target_kind,
        target_number: batch.target_number.clone(),
        batch_id: Some(batch.id),
        traceparent: batch.traceparent,
        ..Upload::requested(batch.org_id, batch.user_id, filename, now)
    }
}

async fn note(tx: &mut Tx<'_>, batch: &Batch, admitted: i64) -> Result<(), LedgerError> {
    if admitted > batch.admitted {
        let query = "update batches set admitted = $2 where id = $1";
        sql!(tx.on(), c => sqlx::query(query).bind(batch.id).bind(admitted).execute(c).await.map(drop))?;
    }
    Ok(())
}

/// Counts those of the new uploads that the manifest names.
async fn note_matched(tx: &mut Tx<'_>, batch: &Batch, uploads: Vec<Uuid>) -> Result<(), LedgerError> {
    if batch.manifest.is_none() || uploads.is_empty() {
        return Ok(());
    }
    let query = "update batches
        set matched = matched + (
            select count(*)
            from json_each($3) given
            cross join uploads u
            cross join manifest_lines m
            where u.id = unhex(given.atom) and m.batch_id = $1 and m.generation = $2 and m.path = u.filename)
        where id = $1";
    let list = json!(uploads.into_iter().map(listed).collect::<Vec<_>>()).to_string();
    sql!(tx.on(), c => sqlx::query(query)
        .bind(batch.id)
        .bind(batch.manifest)
        .bind(list)
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}

/// The uploads of these keys; a key that has none is missing.
pub async fn standing(db: &Db, keys: &[&str]) -> Result<Vec<Upload>, LedgerError> {
    let list = json!(keys).to_string();
    Ok(sql!(db.reader(), c => sqlx::query_as(STANDING).bind(list).fetch_all(c).await)?)
}

/// Rejects what a manifest has promised and nobody has sent: a row for each of the lines whose key has no upload.
pub async fn miss(db: &Db, batch: &Batch, lines: Vec<Line>, now: Timestamp) -> Result<(), LedgerError> {
    let prefix = keys::batch_prefix(batch.org_id, batch.id);
    let row = |line: Line| Upload {
        status: Status::Rejected,
        reason: Some(Reason::ObjectMissing),
        object_key: format!("{prefix}{}", line.path),
        ..of_batch(batch, line.path, now)
    };
    let (id, rows): (Uuid, Vec<Upload>) = (batch.id, lines.into_iter().map(row).collect());
    let missed = db.write_again(move |mut tx| {
        Box::pin(async move {
            let Some(batch) = lock(&mut tx, id).await? else { return Ok(Vec::new()) };
            let inserted = rows::insert(&mut tx, rows.iter().map(|row| (row, None))).await?;
            note_matched(&mut tx, &batch, inserted.clone()).await?;
            Ok(inserted)
        })
    });
    for id in missed.await? {
        moved(db, id, Status::Rejected, 1);
    }
    Ok(())
}

/// Keeps a fresh policy. `false` when the batch is closed, or its last policy ended before `open_since`, so that it is about to
/// be.
pub async fn renew(
    db: &Db,
    id: Uuid,
    (policy, ends): (String, Timestamp),
    (open_since, now): (Timestamp, Timestamp),
) -> Result<bool, LedgerError> {
    let done = db
        .write_one(move |mut tx| {
            Box::pin(async move {
                let query = "update batches
                    set policy = $2, policy_expires_at = $3, updated_at = $5
                    where id = $1 and mode = 'prefix' and closed_at is null and policy_expires_at >= $4";
                Ok(sql!(tx.on(), c => sqlx::query(query)
                    .bind(id)
                    .bind(policy)
                    .bind(ends)
                    .bind(open_since)
                    .bind(now)
                    .execute(c)
                    .await?
                    .rows_affected()))
            })
        })
        .await?;
    Ok(done == 1)
}

/// Those of the batches that take objects in.
pub async fn open(db: &Db, batches: &HashSet<Uuid>) -> Result<HashSet<Uuid>, LedgerError> {
    let query = "select id
        from batches
        where id in (select unhex(atom) from json_each($1)) and mode = 'prefix' and closed_at is null";
    let list = json!(batches.iter().copied().map(listed).collect::<Vec<_>>()).to_string();
    let open: Vec<Uuid> = sql!(db.reader(), c => sqlx::query_scalar(query).bind(list).fetch_all(c).await)?;
    Ok(open.into_iter().collect())
}
