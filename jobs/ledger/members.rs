//! The uploads of a batch: those that came with it, and those of earlier calls that its lines have named by their refs.

use std::collections::HashSet;

use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::page::Page;
use super::steps::listed;
use super::uploads::moved;
use super::{Db, LedgerError};
use crate::model::{Status, Timestamp, Upload};

/// A page of a batch's uploads, in one state or in any. Oldest first is, for the lines of a batch, their order.
pub async fn list(db: &Db, batch: Uuid, status: Option<Status>, page: Page) -> Result<Vec<Upload>, LedgerError> {
    let query = AssertSqlSafe(select_members(status, page));
    let from_end = if page.ascending { Uuid::nil() } else { Uuid::max() };
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(batch)
        .bind(page.after.unwrap_or(from_end))
        .bind(status)
        .bind(page.limit.saturating_add(page.offset))
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(c)
        .await)?)
}

/// Each half by an index of its own, and no more of it than the page needs.
pub(super) fn select_members(status: Option<Status>, page: Page) -> String {
    let (behind, order) = if page.ascending { (">", "") } else { ("<", " desc") };
    let in_state = status.map_or("$3 is null", of_status);
    format!(
        "select * from (
            select * from (
                select * from uploads
                where batch_id = $1 and id {behind} $2 and {in_state}
                order by id{order} limit $4) as own
            union all
            select * from (
                select uploads.* from batch_known join uploads on uploads.id = batch_known.upload_id
                where batch_known.batch_id = $1 and batch_known.upload_id {behind} $2 and {in_state}
                order by batch_known.upload_id{order} limit $4) as known) as members
        order by id{order} limit $5 offset $6"
    )
}

/// What came to nothing has an index, which a planner takes where the text says that it holds them. That is little of a batch
/// that goes well, and what is asked for where the rest did.
const fn of_status(status: Status) -> &'static str {
    match status {
        Status::Rejected | Status::Expired | Status::Cancelled => {
            "status = $3 and status in ('rejected', 'expired', 'cancelled')"
        }
        Status::Requested | Status::Issued | Status::Arrived | Status::Verified | Status::Done => "status = $3",
    }
}

/// How many uploads of earlier calls the batch has named, in one state or in any.
pub async fn count_known(db: &Db, batch: Uuid, status: Option<Status>) -> Result<i64, LedgerError> {
    let query = "select count(*)
        from batch_known join uploads on uploads.id = batch_known.upload_id
        where batch_known.batch_id = $1 and ($2 is null or status = $2)";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(batch).bind(status).fetch_one(c).await)?)
}

/// What one step of a batch's cancellation has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Where the objects of those that were cancelled are, if there are any.
    pub keys: Vec<String>,
    /// Behind which id the next step starts; `None` when nothing is left.
    pub next: Option<Uuid>,
}

/// requested, issued or arrived → cancelled, for the next `limit` of the batch's own uploads behind `after`.
pub async fn cancel_some(
    db: &Db,
    batch: Uuid,
    after: Option<Uuid>,
    (limit, now): (i64, Timestamp),
) -> Result<Cancelled, LedgerError> {
    let open = open_ones(db, batch, after, limit).await?;
    let full = i64::try_from(open.len()).is_ok_and(|found| found == limit);
    let next = open.last().filter(|_| full).map(|(id, _)| *id);
    let cancelled: HashSet<Uuid> = cancel(db, open.iter().map(|(id, _)| *id), now).await?.into_iter().collect();
    for id in &cancelled {
        moved(db, *id, Status::Cancelled, 1);
    }
    let keys = open.into_iter().filter(|(id, _)| cancelled.contains(id)).map(|(_, key)| key).collect();
    Ok(Cancelled { keys, next })
}

/// In the order of the ids.
async fn open_ones(db: &Db, batch: Uuid, after: Option<Uuid>, limit: i64) -> Result<Vec<(Uuid, String)>, LedgerError> {
    let query = "select id, object_key
        from uploads
        where batch_id = $1 and id > $2 and status || '' in ('requested', 'issued', 'arrived')
        order by id
        limit $3";
    let after = after.unwrap_or(Uuid::nil());
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(batch).bind(after).bind(limit).fetch_all(c).await)?)
}

async fn cancel(db: &Db, ids: impl Iterator<Item = Uuid>, now: Timestamp) -> Result<Vec<Uuid>, LedgerError> {
    let query = "update uploads
        set status = 'cancelled', updated_at = $2, next_poll_at = null, resume_at = null, policy = null
        from json_each($1) given
        where uploads.id = unhex(given.atom) and status || '' in ('requested', 'issued', 'arrived')
        returning uploads.id";
    let list = json!(ids.map(listed).collect::<Vec<_>>()).to_string();
    db.write_one_again(move |mut tx| {
        Box::pin(
            async move { Ok(sql!(tx.on(), c => sqlx::query_scalar(query).bind(list).bind(now).fetch_all(c).await)?) },
        )
    })
    .await
}
