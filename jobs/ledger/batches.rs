//! Batches: one row each, and counts that triggers keep while their uploads move.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::page::{COUNT_CAP, Page, select_page};
use super::stalled::{next_resume, no_letter};
use super::steps::{listed, millis};
use super::{Db, LedgerError, Tx, idempotency, manifests};
use crate::model::batch::Count;
use crate::model::idempotency::IdempotencyKey;
use crate::model::{Batch, Timestamp};

/// Adds a batch, and its lines in chunks: JSON lists, in their order. All or none. A key that came with the request is written
/// down with it; [`LedgerError::Repeated`] when it stands for a batch already.
pub async fn insert(
    db: &Db,
    batch: Batch,
    chunks: Vec<String>,
    key: Option<IdempotencyKey>,
) -> Result<(), LedgerError> {
    db.write(move |mut tx| {
        Box::pin(async move {
            let id = batch.id;
            if let Some(key) = key {
                idempotency::claim(&mut tx, &key, id).await?;
            }
            insert_batch(&mut tx, batch).await?;
            for (position, lines) in (0_i64..).zip(chunks) {
                insert_chunk(&mut tx, id, position, lines).await?;
            }
            Ok(())
        })
    })
    .await
}

async fn insert_chunk(tx: &mut Tx<'_>, batch: Uuid, position: i64, lines: String) -> Result<(), LedgerError> {
    let query = "insert into batch_lines (batch_id, position, lines) values ($1, $2, $3)";
    sql!(tx.on(), c => sqlx::query(query).bind(batch).bind(position).bind(lines).execute(c).await.map(drop))?;
    Ok(())
}

async fn insert_batch(tx: &mut Tx<'_>, batch: Batch) -> Result<(), LedgerError> {
    let query = "insert into batches
        (id, org_id, user_id, mode, target_kind, target_number, lines, known, max_files, max_file_size, admitted, policy,
         policy_expires_at, manifest, manifest_lines, resume_at, resumes, next_poll_at, created_at, updated_at, closed_at,
         traceparent)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";
    sql!(tx.on(), c => sqlx::query(query)
        .bind(batch.id)
        .bind(batch.org_id)
        .bind(batch.user_id)
        .bind(batch.mode)
        .bind(batch.target_kind)
        .bind(batch.target_number)
        .bind(batch.lines)
        .bind(batch.known)
        .bind(batch.max_files)
        .bind(batch.max_file_size)
        .bind(batch.admitted)
        .bind(batch.policy)
        .bind(batch.policy_expires_at)
        .bind(batch.manifest)
        .bind(batch.manifest_lines)
        .bind(batch.resume_at)
        .bind(batch.resumes)
        .bind(batch.next_poll_at)
        .bind(batch.created_at)
        .bind(batch.updated_at)
        .bind(batch.closed_at)
        .bind(batch.traceparent)
        .execute(c).await.map(drop))?;
    Ok(())
}

/// The batch; `None` when there is none of that id.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<Batch>, LedgerError> {
    let query = "select * from batches where id = $1";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(id).fetch_optional(c).await)?)
}

/// A page of an org's batches.
pub async fn list(db: &Db, org: Uuid, page: Page) -> Result<Vec<Batch>, LedgerError> {
    let query = AssertSqlSafe(select_page("from batches where org_id = $1", page, 2));
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(org)
        .bind(page.after)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(c)
        .await)?)
}

/// How many batches the org has, up to one more than [`COUNT_CAP`].
pub async fn count(db: &Db, org: Uuid) -> Result<i64, LedgerError> {
    let query = "select count(*) from (select 1 from batches where org_id = $1 limit $2) capped";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(org).bind(COUNT_CAP + 1).fetch_one(c).await)?)
}

/// How many of its uploads stand where; a state in which none ever stood is missing. Costs the same for ten uploads and for
/// a million.
pub async fn counts(db: &Db, id: Uuid) -> Result<Vec<Count>, LedgerError> {
    Ok(counts_of(db, &[id]).await?.remove(&id).unwrap_or_default())
}

/// Where the uploads of these batches stand.
pub(super) const COUNTS: &str =
    "select batch_id, status, cast(sum(uploads) as bigint) as uploads, cast(sum(bytes) as bigint) as bytes
    from batch_counts
    where batch_id in (select unhex(atom) from json_each($1))
    group by batch_id, status";

/// As [`counts`], of several at once.
pub async fn counts_of(db: &Db, ids: &[Uuid]) -> Result<HashMap<Uuid, Vec<Count>>, LedgerError> {
    let list = json!(ids.iter().copied().map(listed).collect::<Vec<_>>()).to_string();
    let rows: Vec<CountOf> = sql!(db.reader(), c => sqlx::query_as(COUNTS).bind(list).fetch_all(c).await)?;
    let mut counts: HashMap<Uuid, Vec<Count>> = HashMap::new();
    for row in rows {
        counts.entry(row.batch_id).or_default().push(row.count);
    }
    Ok(counts)
}

#[derive(sqlx::FromRow)]
struct CountOf {
    batch_id: Uuid,
    #[sqlx(flatten)]
    count: Count,
}

/// Batches that stand although their job should have got on and no dead letter holds them back, most overdue first.
pub async fn due_to_resume(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<Batch>, LedgerError> {
    let query = concat!(
        "select *
        from batches b
        where b.resume_at <= $1
          and ",
        no_letter!("b"),
        "
        order by b.resume_at
        limit $2"
    );
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(now).bind(limit).fetch_all(c).await)?)
}

/// Notes that their jobs were put on again; the next time comes after twice the wait.
pub async fn resumed(db: &Db, mut seen: Vec<Batch>, base: Duration, now: Timestamp) -> Result<(), LedgerError> {
    // One that has got on meanwhile has a later time, or none.
    let query = "update batches
        set resume_at = cast(given.value ->> 'next' as bigint), resumes = resumes + 1
        from json_each($1) given
        where batches.id = unhex(given.value ->> 'id') and resume_at = cast(given.value ->> 'seen' as bigint)";
    seen.sort_unstable_by_key(|batch| batch.id);
    let row = |batch: &Batch| {
        let next = next_resume(base, batch.resumes, now);
        json!({ "id": listed(batch.id), "seen": batch.resume_at.map(millis), "next": millis(next) })
    };
    let list = json!(seen.iter().map(row).collect::<Vec<_>>()).to_string();
    db.write_one(move |mut tx| {
        Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).bind(list).execute(c).await.map(drop))?) })
    })
    .await
}

/// Takes nothing in any more: the lines that are not uploads yet are dropped, with those of manifests that do not hold, and the
/// batch is closed if it was not.
pub async fn close(db: &Db, id: Uuid, now: Timestamp) -> Result<(), LedgerError> {
    db.write(move |mut tx| {
        Box::pin(async move {
            let lines = "delete from batch_lines where batch_id = $1";
            sql!(tx.on(), c => sqlx::query(lines).bind(id).execute(c).await.map(drop))?;
            let batch = "update batches
                set closed_at = $2, resume_at = null, next_poll_at = null, listed_to = null, updated_at = $2
                where id = $1 and closed_at is null";
            sql!(tx.on(), c => sqlx::query(batch).bind(id).bind(now).execute(c).await.map(drop))?;
            Ok(())
        })
    })
    .await?;
    manifests::remove(db, id, None).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{listings, uploads};
    use crate::model::manifest::Line;
    use crate::model::{Digest, Status, Upload};
    use crate::testkit::World;

    crate::on_every_engine! {
        every_move_of_an_upload_is_counted_in_its_batch,
        a_batch_that_is_cancelled_is_listed_no_more_and_keeps_no_lines_that_do_not_hold,
    }

    async fn a_batch_that_is_cancelled_is_listed_no_more_and_keeps_no_lines_that_do_not_hold(world: World) {
        let (db, batch) = (&world.ctx.db, world.prefix_batch(10).await);
        world.pin(&batch, &[("a", b"a")]).await;
        let line = |path: &str| Line { number: 1, path: path.to_owned(), sha256: Digest::of(b"b") };
        manifests::add(db, (batch.id, 7), &[line("b"), line("c")]).await.unwrap();
        let listing = listings::begin(db, batch.id, world.ctx.now()).await.unwrap().unwrap();
        listings::went_on(db, &listing, Some("place".to_owned()), world.ctx.now()).await.unwrap();

        close(db, batch.id, world.ctx.now()).await.unwrap();

        let closed = world.batch(batch.id).await;
        assert_eq!((closed.next_poll_at, closed.listed_to, closed.closed_at), (None, None, Some(world.ctx.now())));
        let query = "select path from manifest_lines";
        let paths: Vec<String> = sql!(db.reader(), c => sqlx::query_scalar(query).fetch_all(c).await).unwrap();
        assert_eq!(paths, ["a"]);
    }

    async fn every_move_of_an_upload_is_counted_in_its_batch(world: World) {
        let (db, now) = (world.ctx.db.clone(), world.ctx.now());
        let batch = Batch::each((world.org, Uuid::now_v7()), None, 2, now);
        let id = batch.id;
        insert(&db, batch.clone(), Vec::new(), None).await.unwrap();
        let member = || Upload { size: Some(5), batch_id: Some(id), ..world.requested() };

        let (first, second) = (world.issue(member()).await, world.issue(member()).await);
        world.bucket.land(&first.object_key, b"bytes");
        world.notice(&first).await;
        world.drain().await;
        assert!(uploads::cancel(&db, second.id, now).await.unwrap());
        world.uploaded(b"of no batch").await;

        let mut counts: Vec<_> = counts(&db, id).await.unwrap();
        counts.retain(|count| count.uploads != 0 || count.bytes != 0);
        counts.sort_by_key(|count| count.status);
        let count = |status| Count { status, uploads: 1, bytes: 5 };
        assert_eq!(counts, [count(Status::Done), count(Status::Cancelled)]);
        assert_eq!(find(&db, id).await.unwrap().unwrap().lines, batch.lines);
    }
}
