//! How a manifest comes into force: what the batch has is compared with it page by page, beside all others; only what has come or
//! moved since is looked at while the batch is locked.
//!
//! On PostgreSQL the lock keeps uploads of the batch from being verified, see `steps::Verify`: none can slip in by the manifest
//! that is about to be replaced.

use serde_json::json;
use uuid::Uuid;

use super::super::steps::listed;
use super::super::{Db, LedgerError, Tx};
use crate::model::batch::Mode;
use crate::model::{Batch, Digest, Status, Timestamp};

/// How many uploads are compared at once.
const PAGE: i64 = 5_000;
/// Of more that may move, all are compared again: a list of them would cost more.
const MOST_LISTED: usize = 20_000;

/// Why a manifest does not hold although its lines will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// It holds.
    Yes,
    /// The batch takes nothing in any more.
    Closed,
    /// This file is stored already, and has other bytes.
    Stored(String),
    /// Another manifest has come into force since the batch was seen.
    Overtaken,
}

/// Lets a generation of so many lines hold, in place of the one that was seen to, or changes nothing.
pub async fn hold(db: &Db, (seen, generation): (&Batch, i64), lines: i64, now: Timestamp) -> Result<Held, LedgerError> {
    let compared = compare(db, (seen.id, generation)).await?;
    if let Some(path) = compared.differing {
        return Ok(Held::Stored(path));
    }
    let (id, former) = (seen.id, seen.manifest);
    db.write(move |mut tx| {
        Box::pin(async move {
            let Some(batch) = lock(&mut tx, id).await?.filter(|batch| batch.closed_at.is_none()) else {
                return Ok(Held::Closed);
            };
            if batch.manifest != former {
                return Ok(Held::Overtaken);
            }
            let compared = compare_rest(&mut tx, (id, generation), compared).await?;
            if let Some(path) = compared.differing {
                return Ok(Held::Stored(path));
            }
            let matched = if batch.mode == Mode::Prefix { compared.matched } else { 0 };
            name(&mut tx, (id, generation), (lines, matched), now).await?;
            Ok(Held::Yes)
        })
    })
    .await
}

/// The batch, none of whose uploads is verified from here on to the end of the transaction.
async fn lock(tx: &mut Tx<'_>, id: Uuid) -> Result<Option<Batch>, LedgerError> {
    // SQLite has no locks on rows, and needs none.
    let query = tx.on().text("select * from batches where id = $1", "select * from batches where id = $1 for update");
    Ok(sql!(tx.on(), c => sqlx::query_as(query).bind(id).fetch_optional(c).await)?)
}

/// What the uploads of a batch come to beside a generation, up to one of them.
#[derive(Debug, Default)]
struct Compared {
    /// The last upload.
    last: Uuid,
    /// How many there are.
    uploads: i64,
    /// How many of them the generation names.
    matched: i64,
    /// Those that it names and that may yet be verified, perhaps with other bytes.
    open: Vec<Uuid>,
    /// A file whose bytes were found to be others than the generation says.
    differing: Option<String>,
}

impl Compared {
    fn add(&mut self, row: Compare) {
        self.last = row.id;
        self.uploads += 1;
        let Some(pinned) = row.pinned else { return };
        self.matched += 1;
        if matches!(row.status, Status::Verified | Status::Done) && row.found.is_some_and(|found| found != pinned) {
            self.differing = Some(row.filename);
        } else if !matches!(row.status, Status::Done | Status::Rejected | Status::Cancelled) {
            self.open.push(row.id);
        }
    }
}

/// An upload beside what a generation says of it.
#[derive(sqlx::FromRow)]
struct Compare {
    id: Uuid,
    status: Status,
    filename: String,
    found: Option<Digest>,
    pinned: Option<Digest>,
}

const COMPARE: &str =
    "select u.id, u.status, u.filename, coalesce(u.verified_sha256, u.sha256) as found, m.sha256 as pinned
    from uploads u
    left join manifest_lines m on m.batch_id = $1 and m.generation = $2 and m.path = u.filename
    where u.batch_id = $1 and u.id > $3
    order by u.id
    limit $4";

async fn compare(db: &Db, (batch, generation): (Uuid, i64)) -> Result<Compared, LedgerError> {
    let mut compared = Compared::default();
    loop {
        let rows: Vec<Compare> = sql!(db.reader(), c => sqlx::query_as(COMPARE)
            .bind(batch)
            .bind(generation)
            .bind(compared.last)
            .bind(PAGE)
            .fetch_all(c)
            .await)?;
        let full = rows.len() == usize::try_from(PAGE).unwrap_or(usize::MAX);
        rows.into_iter().for_each(|row| compared.add(row));
        if !full || compared.differing.is_some() {
            return Ok(compared);
        }
    }
}

/// Looks at what has come since, and once more at what may have moved.
async fn compare_rest(tx: &mut Tx<'_>, place: (Uuid, i64), compared: Compared) -> Result<Compared, LedgerError> {
    let open = compared.open.clone();
    let mut compared = behind(tx, place, compared).await?;
    // Ids are made by the clocks of several processes: one may have come in before the last that was seen.
    if compared.uploads != uploads(tx, place.0).await? {
        compared = behind(tx, place, Compared::default()).await?;
    }
    if compared.differing.is_none() {
        let listed = (open.len() <= MOST_LISTED).then_some(open);
        compared.differing = differing(tx, place, listed).await?;
    }
    if compared.differing.is_none() {
        compared.differing = differing_known(tx, place).await?;
    }
    Ok(compared)
}

async fn behind(
    tx: &mut Tx<'_>,
    (batch, generation): (Uuid, i64),
    mut compared: Compared,
) -> Result<Compared, LedgerError> {
    let rows: Vec<Compare> = sql!(tx.on(), c => sqlx::query_as(COMPARE)
        .bind(batch)
        .bind(generation)
        .bind(compared.last)
        .bind(i64::MAX)
        .fetch_all(c)
        .await)?;
    rows.into_iter().for_each(|row| compared.add(row));
    Ok(compared)
}

async fn uploads(tx: &mut Tx<'_>, batch: Uuid) -> Result<i64, LedgerError> {
    let query = "select cast(coalesce(sum(uploads), 0) as bigint) from batch_counts where batch_id = $1";
    Ok(sql!(tx.on(), c => sqlx::query_scalar(query).bind(batch).fetch_one(c).await)?)
}

/// Among these uploads, or all of the batch.
async fn differing(
    tx: &mut Tx<'_>,
    (batch, generation): (Uuid, i64),
    among: Option<Vec<Uuid>>,
) -> Result<Option<String>, LedgerError> {
    let query = if among.is_some() { DIFFERING_AMONG } else { DIFFERING };
    let list = json!(among.unwrap_or_default().into_iter().map(listed).collect::<Vec<_>>()).to_string();
    Ok(sql!(tx.on(), c => sqlx::query_scalar(query)
        .bind(batch)
        .bind(generation)
        .bind(list)
        .fetch_optional(c)
        .await)?)
}

const DIFFERING_AMONG: &str = "select u.filename
    from json_each($3) given
    cross join uploads u
    cross join manifest_lines m
    where u.id = unhex(given.atom) and m.batch_id = $1 and m.generation = $2 and m.path = u.filename
      and u.status || '' in ('verified', 'done') and coalesce(u.verified_sha256, u.sha256) <> m.sha256
    limit 1";

const DIFFERING: &str = "select u.filename
    from uploads u
    join manifest_lines m on m.batch_id = u.batch_id and m.generation = $2 and m.path = u.filename
    where u.batch_id = $1 and u.status in ('verified', 'done') and coalesce(u.verified_sha256, u.sha256) <> m.sha256
      and cast($3 as text) is not null
    limit 1";

/// Among the uploads of earlier calls that the batch has found under their refs.
async fn differing_known(tx: &mut Tx<'_>, (batch, generation): (Uuid, i64)) -> Result<Option<String>, LedgerError> {
    let query = "select u.filename
        from batch_known k
        cross join uploads u
        cross join manifest_lines m
        where k.batch_id = $1 and u.id = k.upload_id and m.batch_id = $1 and m.generation = $2 and m.path = u.filename
          and u.status || '' in ('verified', 'done') and coalesce(u.verified_sha256, u.sha256) <> m.sha256
        limit 1";
    Ok(sql!(tx.on(), c => sqlx::query_scalar(query).bind(batch).bind(generation).fetch_optional(c).await)?)
}

async fn name(
    tx: &mut Tx<'_>,
    (batch, generation): (Uuid, i64),
    (lines, matched): (i64, i64),
    now: Timestamp,
) -> Result<(), LedgerError> {
    let query = "update batches
        set manifest = $2, manifest_lines = $3, matched = $4, updated_at = $5
        where id = $1";
    sql!(tx.on(), c => sqlx::query(query)
        .bind(batch)
        .bind(generation)
        .bind(lines)
        .bind(matched)
        .bind(now)
        .execute(c)
        .await
        .map(drop))?;
    Ok(())
}
