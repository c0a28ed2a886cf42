//! Manifests: what the files of a batch have to hash to. Lines are written under a generation of their own, and count once the
//! batch's row names that.

mod hold;
pub mod spent;

use std::collections::HashSet;

use serde_json::json;
use uuid::Uuid;

use super::prefixes;
use super::steps::millis;
use super::uploads::moved;
use super::{Db, LedgerError};
use crate::model::manifest::Line;
use crate::model::{Batch, Digest, Status, Timestamp, Upload, keys};

pub use hold::{Held, hold};

/// How many lines are removed with one statement.
const AT_ONCE: i64 = 5_000;

/// A generation that no other manifest has: they are written at the same time, perhaps.
#[must_use]
pub fn new_generation(now: Timestamp) -> i64 {
    (millis(now) << 20) | i64::from(rand::random_range(0..1_u32 << 20))
}

/// When the manifest of a generation began to come in.
const fn began_at(generation: i64) -> Timestamp {
    Timestamp::from_millis(generation >> 20)
}

/// Writes lines under a generation. Gives the paths that were there already.
pub async fn add(db: &Db, (batch, generation): (Uuid, i64), lines: &[Line]) -> Result<HashSet<String>, LedgerError> {
    let query = "insert into manifest_lines (batch_id, generation, path, sha256)
        select $1, $2, value ->> 0, value ->> 1
        from json_each($3)
        where true
        on conflict do nothing
        returning path";
    let list = json!(lines.iter().map(|line| (&line.path, line.sha256)).collect::<Vec<_>>()).to_string();
    let written: Vec<String> = db
        .write_one(move |mut tx| {
            Box::pin(async move {
                Ok(sql!(tx.on(), c => sqlx::query_scalar(query)
                    .bind(batch)
                    .bind(generation)
                    .bind(list)
                    .fetch_all(c)
                    .await)?)
            })
        })
        .await?;
    let written: HashSet<String> = written.into_iter().collect();
    Ok(lines.iter().filter(|line| !written.contains(&line.path)).map(|line| line.path.clone()).collect())
}

/// Removes lines of the batch that do not hold: those of this generation, or of all, where none may yet come into force. Some
/// thousands at a time: nobody is kept waiting.
pub async fn remove(db: &Db, batch: Uuid, generation: Option<i64>) -> Result<(), LedgerError> {
    let query = "delete from manifest_lines
        where batch_id = $1 and generation <> coalesce((select manifest from batches where id = $1), 0)
          and (batch_id, generation, path) in (
            select batch_id, generation, path
            from manifest_lines
            where batch_id = $1
              and generation <> coalesce((select manifest from batches where id = $1), 0)
              and generation = coalesce($2, generation)
            limit $3)";
    loop {
        let removed = db.write(move |mut tx| {
            Box::pin(async move {
                // None comes into force in between, whose lines these might be.
                prefixes::lock(&mut tx, batch).await?;
                Ok(sql!(tx.on(), c => sqlx::query(query)
                    .bind(batch)
                    .bind(generation)
                    .bind(AT_ONCE)
                    .execute(c)
                    .await?
                    .rows_affected()))
            })
        });
        if removed.await? < AT_ONCE.unsigned_abs() {
            return Ok(());
        }
    }
}

/// What the file has to hash to; `None` when no manifest names it.
pub async fn expected(db: &Db, batch: Uuid, path: &str) -> Result<Option<Digest>, LedgerError> {
    let query = "select m.sha256
        from batches b
        join manifest_lines m on m.batch_id = b.id and m.generation = b.manifest and m.path = $2
        where b.id = $1";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(batch).bind(path).fetch_optional(c).await)?)
}

/// The names of the files of a batch of single uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// Those that it has asked for, or found stored under their refs.
    pub files: HashSet<String>,
    /// Those that it has found under their refs, but not stored: their bytes are another call's to verify.
    pub unstored: HashSet<String>,
}

/// The names that a manifest of a batch of single uploads may speak of, and those that it may not.
pub async fn named(db: &Db, batch: Uuid) -> Result<Named, LedgerError> {
    let own = "select filename from uploads where batch_id = $1";
    let own: Vec<String> = sql!(db.reader(), c => sqlx::query_scalar(own).bind(batch).fetch_all(c).await)?;
    let known = "select filename, status
        from uploads
        where id in (select upload_id from batch_known where batch_id = $1)";
    let known: Vec<(String, Status)> = sql!(db.reader(), c => sqlx::query_as(known).bind(batch).fetch_all(c).await)?;
    let mut named = Named { files: own.into_iter().collect(), ..Named::default() };
    for (name, status) in known {
        let names = if status == Status::Done { &mut named.files } else { &mut named.unstored };
        names.insert(name);
    }
    Ok(named)
}

/// Lines of a prefix batch's manifest whose keys have no upload, by their paths, behind `after`.
pub async fn missing(db: &Db, batch: &Batch, after: &str, limit: i64) -> Result<Vec<Line>, LedgerError> {
    let query = "select m.path, m.sha256
        from manifest_lines m
        where m.batch_id = $1 and m.generation = $2 and m.path > $3
          and not exists (select 1 from uploads where object_key = $4 || m.path)
        order by m.path
        limit $5";
    let prefix = keys::batch_prefix(batch.org_id, batch.id);
    let lines: Vec<(String, Digest)> = sql!(db.reader(), c => sqlx::query_as(query)
        .bind(batch.id)
        .bind(batch.manifest)
        .bind(after)
        .bind(&prefix)
        .bind(limit)
        .fetch_all(c)
        .await)?;
    Ok((1..).zip(lines).map(|(number, (path, sha256))| Line { number, path, sha256 }).collect())
}

/// requested or issued → rejected: a manifest has promised the bytes, and they have not come. `false` when the row is no longer
/// as it was seen.
pub async fn miss(db: &Db, seen: &Upload, now: Timestamp) -> Result<bool, LedgerError> {
    if !matches!(seen.status, Status::Requested | Status::Issued) {
        return Ok(false);
    }
    let (id, from, ends) = (seen.id, seen.status, seen.policy_expires_at);
    let query = "update uploads
        set status = 'rejected', reason = 'object_missing', updated_at = $4, next_poll_at = null, resume_at = null,
            policy = null
        where id = $1 and status = $2 and policy_expires_at = $3";
    let done = db.write_one_again(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query(query)
                .bind(id)
                .bind(from)
                .bind(ends)
                .bind(now)
                .execute(c)
                .await?
                .rows_affected()))
        })
    });
    Ok(moved(db, id, Status::Rejected, done.await?))
}
