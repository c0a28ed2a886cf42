//! Batches: one row each, and counts that triggers keep while their uploads move.

use uuid::Uuid;

use super::{Db, LedgerError, Tx};
use crate::model::Batch;
use crate::model::batch::Count;

/// Adds a batch, and its lines in chunks: JSON lists, in their order. All or none.
pub async fn insert(db: &Db, batch: Batch, chunks: Vec<String>) -> Result<(), LedgerError> {
    db.write(move |mut tx| {
        Box::pin(async move {
            let id = batch.id;
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
         policy_expires_at, manifest, manifest_lines, resume_at, resumes, next_poll_at, created_at, updated_at, closed_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)";
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
        .execute(c).await.map(drop))?;
    Ok(())
}

/// The batch; `None` when there is none of that id.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<Batch>, LedgerError> {
    let query = "select * from batches where id = $1";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(id).fetch_optional(c).await)?)
}

/// How many of its uploads stand where; a state in which none ever stood is missing. Costs the same for ten uploads and for
/// a million.
pub async fn counts(db: &Db, id: Uuid) -> Result<Vec<Count>, LedgerError> {
    let query = "select status, cast(sum(uploads) as bigint) as uploads, cast(sum(bytes) as bigint) as bytes
        from batch_counts
        where batch_id = $1
        group by status";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(id).fetch_all(c).await)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::uploads;
    use crate::model::{Status, Upload};
    use crate::testkit::World;

    crate::on_every_engine! { every_move_of_an_upload_is_counted_in_its_batch, }

    async fn every_move_of_an_upload_is_counted_in_its_batch(world: World) {
        let (db, now) = (world.ctx.db.clone(), world.ctx.now());
        let batch = Batch::each((world.org, Uuid::now_v7()), None, 2, now);
        let id = batch.id;
        insert(&db, batch.clone(), Vec::new()).await.unwrap();
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
