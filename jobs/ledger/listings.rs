//! When the objects of prefix batches are listed, how far a listing has come, and when a batch is closed behind its last one.
//!
//! A listing goes on from run to run, and never begins anew before it has come to its end: what was put behind it in the
//! meantime is for the next one. Who wants one sets `next_poll_at`; one that is under way moves it to a minute behind its
//! beginning, so that it is taken up again should its job be lost, and at its end knows by it whether another is wanted.

use std::time::Duration;

use uuid::Uuid;

use super::steps::millis;
use super::uploads::{BEFORE_ALL, Ended};
use super::{Db, LedgerError};
use crate::model::{Batch, Timestamp};

/// How long after its beginning a listing is looked after.
const LEASE: Duration = Duration::from_secs(60);
/// How long a listing waits for the next one.
const PAUSE: Duration = Duration::from_secs(600);
/// When the last one is due behind the policy's end, in milliseconds; `close_batches` looks once more.
const LAST: i64 = 1_000;

/// Open batches whose objects should be listed by now, most overdue first.
pub async fn due(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<Uuid>, LedgerError> {
    let query = "select id
        from batches
        where next_poll_at <= $1 and closed_at is null
        order by next_poll_at
        limit $2";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(now).bind(limit).fetch_all(c).await)?)
}

/// Wants a listing, behind the one that may be under way. `false` when the batch takes nothing in any more.
pub async fn want(db: &Db, id: Uuid, now: Timestamp) -> Result<bool, LedgerError> {
    let query = "update batches set next_poll_at = $2 where id = $1 and mode = 'prefix' and closed_at is null";
    let wanted = db.write_one(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query(query).bind(id).bind(now).execute(c).await?.rows_affected()))
        })
    });
    Ok(wanted.await? == 1)
}

/// Begins a listing or goes on with it: gives the batch, which says how far it has come. `None` when the batch takes nothing
/// in any more.
pub async fn begin(db: &Db, id: Uuid, now: Timestamp) -> Result<Option<Batch>, LedgerError> {
    let query = "update batches
        set listed_since = case when listed_to is null then $2 else listed_since end,
            next_poll_at = case when listed_to is null then $3 else next_poll_at end
        where id = $1 and mode = 'prefix' and closed_at is null
        returning *";
    db.write_one(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query_as(query)
                .bind(id)
                .bind(now)
                .bind(now + LEASE)
                .fetch_optional(c)
                .await)?)
        })
    })
    .await
}

/// Notes that a listing has come from the place that was `seen` to another one, or to its end; the next is then due after a while
/// and when the policy has ended, which may have been renewed since, unless one is wanted earlier. Gives when that is; `None`
/// when none is to come, or this one has been overtaken.
pub async fn went_on(
    db: &Db,
    seen: &Batch,
    to: Option<String>,
    now: Timestamp,
) -> Result<Option<Timestamp>, LedgerError> {
    let query = "update batches
        set listed_to = $3,
            next_poll_at = case
                when cast($3 as text) is not null or next_poll_at <> listed_since + $4 then next_poll_at
                when policy_expires_at + $5 <= $6 then null
                when policy_expires_at + $5 < $7 then policy_expires_at + $5
                else $7 end
        where id = $1 and closed_at is null and coalesce(listed_to, '') = $2
        returning next_poll_at";
    let (id, from, lease) = (seen.id, seen.listed_to.clone().unwrap_or_default(), millis(Timestamp::default() + LEASE));
    let gone = db.write_one(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query_scalar::<_, Option<Timestamp>>(query)
                .bind(id)
                .bind(from)
                .bind(to)
                .bind(lease)
                .bind(LAST)
                .bind(now)
                .bind(now + PAUSE)
                .fetch_optional(c)
                .await)?)
        })
    });
    Ok(gone.await?.flatten())
}

/// Open batches whose policy ended before `before`, longest ago first, behind the place `after`.
pub async fn due_to_close(
    db: &Db,
    before: Timestamp,
    after: Option<Ended>,
    limit: i64,
) -> Result<Vec<Batch>, LedgerError> {
    let query = "select *
        from batches
        where mode = 'prefix' and closed_at is null and policy_expires_at < $1 and (policy_expires_at, id) > ($2, $3)
        order by policy_expires_at, id
        limit $4";
    let (ended, id) = after.unwrap_or(BEFORE_ALL);
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(before)
        .bind(ended)
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await)?)
}

/// Closes a batch, if its policy's end and its manifest are still those that were seen.
pub async fn close(db: &Db, seen: &Batch, now: Timestamp) -> Result<bool, LedgerError> {
    let query = "update batches
        set closed_at = $4, updated_at = $4, next_poll_at = null, listed_to = null
        where id = $1 and closed_at is null and policy_expires_at = $2 and coalesce(manifest, 0) = $3";
    let (id, ends, manifest) = (seen.id, seen.policy_expires_at, seen.manifest.unwrap_or(0));
    let closed = db.write_one(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query(query)
                .bind(id)
                .bind(ends)
                .bind(manifest)
                .bind(now)
                .execute(c)
                .await?
                .rows_affected()))
        })
    });
    Ok(closed.await? == 1)
}
