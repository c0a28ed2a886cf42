//! Reports: deltas appended by whoever changes a file, folded into one row per org, and recounted to find a drift.

use tokio::sync::SemaphorePermit;
use uuid::Uuid;

use super::files::append_delta;
use super::{Db, LedgerError, Tx};
use crate::model::Timestamp;
use crate::model::report::{Delta, Report};

/// How many deltas one fold takes out at most. On SQLite everybody else who writes waits for it: some 10 ms, where 10,000
/// took 80.
const FOLD: i64 = 1_000;

/// The org's report as it was last written; all zero before the first fold.
pub async fn find(db: &Db, org: Uuid) -> Result<Report, LedgerError> {
    let query = "select files, bytes, unique_files, unique_bytes, as_of from org_reports where org_id = $1";
    let row: Option<Report> = sql!(db.reader(), c => sqlx::query_as(query).bind(org).fetch_optional(c).await)?;
    Ok(row.unwrap_or_default())
}

/// Lets jobs of a process fold as many at a time as leave room for those who upload.
pub async fn turn_to_fold(db: &Db) -> SemaphorePermit<'_> {
    db.folding().acquire().await.expect("it is never closed")
}

/// Folds the oldest deltas of the org into its row. Returns how many; fewer than asked for means that none is left.
pub async fn fold(db: &Db, org: Uuid, now: Timestamp) -> Result<Folded, LedgerError> {
    db.write(move |mut tx| {
        Box::pin(async move {
            // The row comes first, so that two folds of one org take turns instead of waiting for each other's deltas.
            add_to_row(&mut tx, org, Delta::NONE, now).await?;
            let query = "delete from report_deltas
                where id in (select id from report_deltas where org_id = $1 order by id limit $2)
                returning files, bytes, unique_files, unique_bytes";
            let deltas: Vec<Delta> = sql!(tx.on(), c => sqlx::query_as(query).bind(org).bind(FOLD).fetch_all(c).await)?;
            let sum = deltas.iter().fold(Delta::NONE, |sum, delta| sum.plus(*delta));
            add_to_row(&mut tx, org, sum, now).await?;
            let more = i64::try_from(deltas.len()).is_ok_and(|taken| taken == FOLD);
            Ok(Folded { deltas: deltas.len(), more })
        })
    })
    .await
}

/// What a fold did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folded {
    /// How many deltas were folded.
    pub deltas: usize,
    /// Whether more may be left.
    pub more: bool,
}

async fn add_to_row(tx: &mut Tx<'_>, org: Uuid, sum: Delta, now: Timestamp) -> Result<(), LedgerError> {
    let query = "insert into org_reports (org_id, files, bytes, unique_files, unique_bytes, as_of)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (org_id) do update set
            files = org_reports.files + excluded.files,
            bytes = org_reports.bytes + excluded.bytes,
            unique_files = org_reports.unique_files + excluded.unique_files,
            unique_bytes = org_reports.unique_bytes + excluded.unique_bytes,
            as_of = excluded.as_of";
    sql!(tx.on(), c => sqlx::query(query)
        .bind(org)
        .bind(sum.files)
        .bind(sum.bytes)
        .bind(sum.unique_files)
        .bind(sum.unique_bytes)
        .bind(now)
        .execute(c).await.map(drop))?;
    Ok(())
}

/// The orgs that have deltas to fold.
pub async fn orgs_with_deltas(db: &Db) -> Result<Vec<Uuid>, LedgerError> {
    let query = "select distinct org_id from report_deltas";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).fetch_all(c).await)?)
}

/// When the oldest delta was appended that is not folded yet; `None` when all are.
pub async fn oldest_delta(db: &Db) -> Result<Option<Timestamp>, LedgerError> {
    let query = "select created_at from report_deltas order by id limit 1";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).fetch_optional(c).await)?)
}

/// How a report differs from a recount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recount {
    /// What is counted from the files, less what the report and the deltas not folded yet say: zero when nothing drifted.
    pub drift: Delta,
    /// How often the report had been mended when this was counted.
    mends: i64,
}

/// Recounts an org's files. Read in one snapshot, so a file stored meanwhile is in both counts or in neither.
pub async fn recount(db: &Db, org: Uuid) -> Result<Recount, LedgerError> {
    let counted = "select count(*) as files, cast(coalesce(sum(size), 0) as bigint) as bytes,
            (select count(*) from blobs where org_id = $1 and refs > 0) as unique_files,
            (select cast(coalesce(sum(size), 0) as bigint) from blobs where org_id = $1 and refs > 0) as unique_bytes
        from files
        where org_id = $1";
    let reported = "select cast(coalesce(sum(files), 0) as bigint) as files,
            cast(coalesce(sum(bytes), 0) as bigint) as bytes,
            cast(coalesce(sum(unique_files), 0) as bigint) as unique_files,
            cast(coalesce(sum(unique_bytes), 0) as bigint) as unique_bytes
        from (
            select files, bytes, unique_files, unique_bytes from org_reports where org_id = $1
            union all
            select files, bytes, unique_files, unique_bytes from report_deltas where org_id = $1
        ) said";
    let mends = "select coalesce(max(mends), 0) from org_reports where org_id = $1";
    db.read_snapshot(move |mut tx| {
        Box::pin(async move {
            let counted: Delta = sql!(tx.on(), c => sqlx::query_as(counted).bind(org).fetch_one(c).await)?;
            let reported: Delta = sql!(tx.on(), c => sqlx::query_as(reported).bind(org).fetch_one(c).await)?;
            let mends: i64 = sql!(tx.on(), c => sqlx::query_scalar(mends).bind(org).fetch_one(c).await)?;
            Ok(Recount { drift: counted.minus(reported), mends })
        })
    })
    .await
}

/// Lets jobs of a process recount one org at a time: a recount may take minutes, holds a reader meanwhile, and there are few.
/// Who waits longest is next.
pub async fn turn_to_recount(db: &Db) -> SemaphorePermit<'_> {
    db.recounting().acquire().await.expect("it is never closed")
}

/// Appends the difference that a recount has found, to be folded like any other. `false` when the report has been mended
/// since it was counted: the difference is appended already.
pub async fn mend(db: &Db, org: Uuid, found: Recount, now: Timestamp) -> Result<bool, LedgerError> {
    db.write(move |mut tx| {
        Box::pin(async move {
            let query = "insert into org_reports (org_id, files, bytes, unique_files, unique_bytes, as_of, mends)
                values ($1, 0, 0, 0, 0, $2, 1)
                on conflict (org_id) do update set mends = org_reports.mends + 1
                where org_reports.mends = $3";
            let moved = sql!(tx.on(), c => sqlx::query(query)
                .bind(org)
                .bind(now)
                .bind(found.mends)
                .execute(c)
                .await?
                .rows_affected());
            if moved == 0 {
                return Ok(false);
            }
            append_delta(&mut tx, org, found.drift, now).await?;
            Ok(true)
        })
    })
    .await
}

/// Recounts and mends what has drifted. Returns the drift that was mended; none when there was none or somebody was faster.
pub async fn rebuild(db: &Db, org: Uuid, now: Timestamp) -> Result<Delta, LedgerError> {
    let found = recount(db, org).await?;
    if found.drift == Delta::NONE || !mend(db, org, found, now).await? {
        return Ok(Delta::NONE);
    }
    Ok(found.drift)
}
