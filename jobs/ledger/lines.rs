//! Lines of a batch that are not uploads yet, some hundreds in a row, and how such a chunk becomes uploads.
//!
//! Whoever deletes the chunk has made its uploads: all of it is one transaction, and of two at once the second finds nothing.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::births::{self, Birth, Born, announce};
use super::gather::past_clashes;
use super::refs::ref_stands;
use super::steps::listed;
use super::{Db, LedgerError, Tx};
use crate::model::{Batch, Timestamp};

pub(super) const STANDING: &str = concat!(
    "select id, client_ref
    from uploads
    where org_id = $1 and client_ref in (select atom from json_each($2)) and ",
    ref_stands!()
);

/// Lines of a batch that belong together.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Chunk {
    /// Its place among the batch's chunks.
    pub position: i64,
    /// The lines in their order, as a JSON list.
    pub lines: String,
}

/// What came of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// What became of each, in order. Those whose `ref` stood are among the batch's known ones now.
    pub born: Vec<Born>,
    /// Whether chunks are left.
    pub more: bool,
}

/// The first chunk that is left; `None` when all lines have their uploads.
pub async fn first(db: &Db, batch: Uuid) -> Result<Option<Chunk>, LedgerError> {
    let query = "select position, lines from batch_lines where batch_id = $1 order by position limit 1";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(batch).fetch_optional(c).await)?)
}

/// The id of the last upload that the batch has; `None` when it has none.
pub async fn last_upload(db: &Db, batch: Uuid) -> Result<Option<Uuid>, LedgerError> {
    let query = "select id from uploads where batch_id = $1 order by id desc limit 1";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(batch).fetch_optional(c).await)?)
}

/// Makes uploads of the chunk's lines. `None` when somebody was faster, or has cancelled the batch. `times` are now and when
/// the batch is to be resumed if it stands.
pub async fn expand(
    db: &Db,
    batch: &Batch,
    (position, births): (i64, Vec<Birth>),
    times: (Timestamp, Timestamp),
) -> Result<Option<Expanded>, LedgerError> {
    let births: Arc<[Birth]> = births.into();
    let ids: Vec<Uuid> = births.iter().map(|birth| birth.upload.id).collect();
    let expanded = past_clashes(|| {
        let expansion = Expansion { batch: batch.id, org: batch.org_id, position, births: Arc::clone(&births), times };
        db.write(move |tx| Box::pin(expansion.write(tx)))
    })
    .await?;
    if let Some(expanded) = &expanded {
        announce(db, &ids.into_iter().zip(expanded.born.iter().copied()).collect::<Vec<_>>());
    }
    Ok(expanded)
}

struct Expansion {
    batch: Uuid,
    org: Uuid,
    position: i64,
    births: Arc<[Birth]>,
    times: (Timestamp, Timestamp),
}

impl Expansion {
    async fn write(self, mut tx: Tx<'_>) -> Result<Option<Expanded>, LedgerError> {
        if !self.take_chunk(&mut tx).await? {
            return Ok(None);
        }
        let mut born = births::insert_in(&mut tx, &self.births).await?;
        let known = self.find_known(&mut tx, &mut born).await?;
        self.keep_known(&mut tx, &known).await?;
        let more = self.get_on(&mut tx, known.len()).await?;
        Ok(Some(Expanded { born, more }))
    }

    async fn take_chunk(&self, tx: &mut Tx<'_>) -> Result<bool, sqlx::Error> {
        let query = "delete from batch_lines where batch_id = $1 and position = $2";
        let (batch, position) = (self.batch, self.position);
        let taken = sql!(tx.on(), c => sqlx::query(query).bind(batch).bind(position).execute(c).await?.rows_affected());
        Ok(taken == 1)
    }

    /// The uploads for which the refs stand that were taken. A ref that has become free since is tried once more.
    async fn find_known(&self, tx: &mut Tx<'_>, born: &mut [Born]) -> Result<Vec<Uuid>, LedgerError> {
        let mut known = self.standing(tx, born).await?;
        for _ in 0..TRIES {
            let free = self.free(born, &known);
            if free.is_empty() {
                return Ok(known.into_iter().map(|(upload, _)| upload).collect());
            }
            let births: Vec<Birth> = free.iter().map(|place| self.births[*place].clone()).collect();
            for (place, again) in free.into_iter().zip(births::insert_in(tx, &births).await?) {
                born[place] = again;
            }
            known = self.standing(tx, born).await?;
        }
        Err(LedgerError::Taken)
    }

    /// Which uploads stand for the refs that were taken.
    async fn standing(&self, tx: &mut Tx<'_>, born: &[Born]) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
        let taken = self.births.iter().zip(born).filter(|(_, born)| **born == Born::Taken);
        let refs: Vec<&String> = taken.filter_map(|(birth, _)| birth.upload.client_ref.as_ref()).collect();
        if refs.is_empty() {
            return Ok(Vec::new());
        }
        let (org, list) = (self.org, json!(refs).to_string());
        sql!(tx.on(), c => sqlx::query_as(STANDING).bind(org).bind(list).fetch_all(c).await)
    }

    /// The places of those whose ref was taken, but stands for nothing any more.
    fn free(&self, born: &[Born], known: &[(Uuid, String)]) -> Vec<usize> {
        let standing: HashSet<&str> = known.iter().map(|(_, client_ref)| client_ref.as_str()).collect();
        let is_free = |place: &usize| {
            let client_ref = self.births[*place].upload.client_ref.as_deref();
            born[*place] == Born::Taken && !client_ref.is_some_and(|client_ref| standing.contains(client_ref))
        };
        (0..born.len()).filter(is_free).collect()
    }

    async fn keep_known(&self, tx: &mut Tx<'_>, known: &[Uuid]) -> Result<(), sqlx::Error> {
        if known.is_empty() {
            return Ok(());
        }
        let query = "insert into batch_known (batch_id, upload_id)
            select $1, unhex(atom)
            from json_each($2)
            where true
            on conflict do nothing";
        let (batch, list) = (self.batch, json!(known.iter().copied().map(listed).collect::<Vec<_>>()).to_string());
        sql!(tx.on(), c => sqlx::query(query).bind(batch).bind(list).execute(c).await.map(drop))
    }

    /// Notes on the batch's row how far it is; says whether chunks are left.
    async fn get_on(&self, tx: &mut Tx<'_>, known: usize) -> Result<bool, sqlx::Error> {
        let left = "select exists (select 1 from batch_lines where batch_id = $1)";
        let more: bool = sql!(tx.on(), c => sqlx::query_scalar(left).bind(self.batch).fetch_one(c).await)?;
        let query = "update batches
            set known = known + $2, resume_at = $3, resumes = 0, updated_at = $4
            where id = $1";
        let (now, resume_at) = self.times;
        sql!(tx.on(), c => sqlx::query(query)
            .bind(self.batch)
            .bind(i64::try_from(known).unwrap_or(i64::MAX))
            .bind(more.then_some(resume_at))
            .bind(now)
            .execute(c)
            .await
            .map(drop))?;
        Ok(more)
    }
}

/// How often a ref may come free and be taken again while its line becomes an upload.
const TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{files, uploads};
    use crate::model::Upload;
    use crate::testkit::World;

    crate::on_every_engine! { a_line_whose_ref_stood_for_a_deleted_file_makes_an_upload, }

    async fn a_line_whose_ref_stood_for_a_deleted_file_makes_an_upload(world: World) {
        let now = world.ctx.now();
        let asked = || Upload { client_ref: Some("a".to_owned()), ..world.requested() };
        let former = world.issue(asked()).await;
        world.bucket.land(&former.object_key, b"bytes");
        world.notice(&former).await;
        world.drain().await;
        assert!(files::delete(&world.ctx.db, former.file_id, now).await.unwrap());
        let birth = Birth { upload: asked(), known: None, poll_at: None };
        let births: Arc<[Birth]> = vec![birth.clone()].into();
        let expansion = Expansion { batch: Uuid::nil(), org: world.org, position: 0, births, times: (now, now) };

        // The ref was taken when the line was written first; the file behind it has gone since.
        let found = world.ctx.db.write(move |mut tx| {
            Box::pin(async move {
                let mut born = [Born::Taken];
                let known = expansion.find_known(&mut tx, &mut born).await?;
                Ok((known, born))
            })
        });

        assert_eq!(found.await.unwrap(), (Vec::new(), [Born::Wanting]));
        let stands = uploads::find_by_ref(&world.ctx.db, world.org, "a").await.unwrap();
        assert_eq!(stands.map(|upload| upload.id), Some(birth.upload.id));
    }
}
