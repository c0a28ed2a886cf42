//! Reports: deltas appended by whoever changes a file, folded into one row per org, and recounted to find a drift.

use uuid::Uuid;

use super::files::append_delta;
use super::{Connection, Db, LedgerError, Tx};
use crate::model::Timestamp;
use crate::model::report::{Delta, Report};

/// How many deltas one fold takes out at most.
const FOLD: i64 = 10_000;

/// The org's report as it was last written; all zero before the first fold.
pub async fn find(db: &Db, org: Uuid) -> Result<Report, LedgerError> {
    let query = "select files, bytes, unique_files, unique_bytes, as_of from org_reports where org_id = $1";
    let row: Option<Report> = sql!(db.reader(), c => sqlx::query_as(query).bind(org).fetch_optional(c).await)?;
    Ok(row.unwrap_or_default())
}

/// Folds the oldest deltas of the org into its row. Returns how many; fewer than asked for means that none is left.
pub async fn fold(db: &Db, org: Uuid, now: Timestamp) -> Result<Folded, LedgerError> {
    db.write(move |mut tx| {
        Box::pin(async move {
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
        .execute(c)
        .await)?;
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

/// What is counted from the files, less what the report and the deltas not folded yet say: zero when nothing drifted.
/// Read in one snapshot, so a file stored meanwhile is in both or in neither.
pub async fn drift(db: &Db, org: Uuid) -> Result<Delta, LedgerError> {
    let counted = "select count(*) as files, coalesce(sum(size), 0) as bytes,
            (select count(*) from blobs where org_id = $1 and refs > 0) as unique_files,
            (select coalesce(sum(size), 0) from blobs where org_id = $1 and refs > 0) as unique_bytes
        from files
        where org_id = $1";
    let reported = "select coalesce(sum(files), 0) as files, coalesce(sum(bytes), 0) as bytes,
            coalesce(sum(unique_files), 0) as unique_files, coalesce(sum(unique_bytes), 0) as unique_bytes
        from (
            select files, bytes, unique_files, unique_bytes from org_reports where org_id = $1
            union all
            select files, bytes, unique_files, unique_bytes from report_deltas where org_id = $1
        ) said";
    match db.reader() {
        Connection::Sqlite(pool) => {
            let mut snapshot = pool.begin().await?;
            let counted: Delta = sqlx::query_as(counted).bind(org).fetch_one(&mut *snapshot).await?;
            let reported: Delta = sqlx::query_as(reported).bind(org).fetch_one(&mut *snapshot).await?;
            snapshot.rollback().await?;
            Ok(counted.minus(reported))
        }
    }
}

/// Appends a difference found by [`drift`], to be folded like any other.
pub async fn mend(db: &Db, org: Uuid, difference: Delta, now: Timestamp) -> Result<(), LedgerError> {
    db.write_one(move |mut tx| Box::pin(async move { append_delta(&mut tx, org, difference, now).await })).await
}
