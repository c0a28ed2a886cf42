//! What there is of one org, in one look. Nothing of it is counted beyond [`COUNT_CAP`].

use uuid::Uuid;

use super::page::COUNT_CAP;
use super::{Db, LedgerError};
use crate::model::Timestamp;

/// What there is of one org beside its report and its open uploads. Counts go up to [`COUNT_CAP`] + 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Figures {
    /// The files that there are: those of the report, and of the changes that it does not have yet. Read in one statement, as a
    /// fold moves them from these to that.
    pub files: i64,
    /// Uploads that were rejected.
    pub rejected: i64,
    /// Uploads that expired.
    pub expired: i64,
    /// Uploads that were cancelled.
    pub cancelled: i64,
    /// Changes that the report does not have yet.
    pub deltas: i64,
    /// When the oldest of them was made.
    pub oldest_delta: Option<Timestamp>,
    /// Batches that take something in, or have lines that are not uploads yet.
    pub open_batches: i64,
    /// Dead letters of its jobs.
    pub dead_letters: i64,
    /// Keys that let somebody in.
    pub standing_keys: i64,
    /// When an upload was asked for last.
    pub last_upload_at: Option<Timestamp>,
    /// Blobs to which no file refers, until they are collected.
    pub unreferenced_blobs: i64,
    /// Their bytes.
    pub unreferenced_bytes: i64,
}

const FIGURES: &str = "select
    cast(coalesce((select files from org_reports where org_id = $1), 0) + (
        select coalesce(sum(files), 0) from (
            select files from report_deltas where org_id = $1 order by id limit $2) c) as bigint) as files,
    (select count(*) from (
        select 1 from uploads
        where org_id = $1 and status = 'rejected' and status in ('rejected', 'expired', 'cancelled') limit $2) c) as rejected,
    (select count(*) from (
        select 1 from uploads
        where org_id = $1 and status = 'expired' and status in ('rejected', 'expired', 'cancelled') limit $2) c) as expired,
    (select count(*) from (
        select 1 from uploads
        where org_id = $1 and status = 'cancelled' and status in ('rejected', 'expired', 'cancelled') limit $2) c) as cancelled,
    (select count(*) from (select 1 from report_deltas where org_id = $1 limit $2) c) as deltas,
    (select created_at from report_deltas where org_id = $1 order by id limit 1) as oldest_delta,
    (select count(*) from (
        select 1 from batches
        where org_id = $1 and closed_at is null and (mode = 'prefix' or resume_at is not null) limit $2) c) as open_batches,
    (select count(*) from (select 1 from dead_letters where org_id = $1 limit $2) c) as dead_letters,
    (select count(*) from (
        select 1 from api_keys
        where org_id = $1 and revoked_at is null and (expires_at is null or expires_at > $3) limit $2) c) as standing_keys,
    (select created_at from uploads where org_id = $1 order by id desc limit 1) as last_upload_at,
    (select count(*) from (
        select 1 from blobs where org_id = $1 and unreferenced_at is not null limit $2) c) as unreferenced_blobs,
    (select cast(coalesce(sum(size), 0) as bigint) from (
        select size from blobs where org_id = $1 and unreferenced_at is not null limit $2) c) as unreferenced_bytes";

/// What there is of this org now.
pub async fn of(db: &Db, org: Uuid, now: Timestamp) -> Result<Figures, LedgerError> {
    Ok(sql!(db.reader(), c => sqlx::query_as(FIGURES)
        .bind(org)
        .bind(COUNT_CAP + 1)
        .bind(now)
        .fetch_one(c)
        .await)?)
}

#[cfg(test)]
mod tests {
    use super::super::plan_tests;
    use super::*;
    use crate::ledger::{api_keys, files, reports, uploads};
    use crate::model::org::{ApiKey, Scopes, Token};
    use crate::testkit::World;

    crate::on_every_engine! {
        everything_of_an_org_is_counted,
        no_figure_reads_a_whole_table,
    }

    async fn everything_of_an_org_is_counted(world: World) {
        let (db, now) = (&world.ctx.db, world.ctx.now());
        world.prefix_batch(3).await;
        world.uploaded(b"one").await;
        world.uploaded(b"two").await;
        let gone = world.uploaded(b"gone").await;
        files::delete(db, gone.file_id, now).await.unwrap();
        let cancelled = world.issued().await;
        uploads::cancel(db, cancelled.id, now).await.unwrap();
        for (revoked_at, expires_at) in
            [(None, None), (Some(now), None), (None, Some(now)), (None, Some(now + std::time::Duration::from_secs(1)))]
        {
            api_keys::insert(db, key(world.org, now, revoked_at, expires_at)).await.unwrap();
        }

        let found = of(db, world.org, now).await.unwrap();

        let expected = Figures {
            files: 2,
            cancelled: 1,
            deltas: found.deltas,
            oldest_delta: found.oldest_delta,
            open_batches: 1,
            standing_keys: 2,
            last_upload_at: Some(now),
            unreferenced_blobs: 1,
            unreferenced_bytes: 4,
            ..Figures::default()
        };
        assert_eq!(found, expected);
        assert!(found.deltas >= 1 && found.oldest_delta == Some(now), "{found:?}");
        while reports::fold(db, world.org, now).await.unwrap().more {}
        assert_eq!(of(db, world.org, now).await.unwrap(), Figures { deltas: 0, oldest_delta: None, ..expected });
        assert_eq!(of(db, Uuid::nil(), now).await.unwrap(), Figures::default());
    }

    fn key(org_id: Uuid, now: Timestamp, revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>) -> ApiKey {
        let token = Token::random();
        ApiKey {
            key: token.key.clone(),
            org_id,
            user_id: Uuid::nil(),
            name: "test".to_owned(),
            scopes: Scopes::all(),
            secret_hash: token.secret_hash(),
            created_at: now,
            expires_at,
            revoked_at,
        }
    }

    async fn no_figure_reads_a_whole_table(world: World) {
        plan_tests::fill(&world, &[plan_tests::UPLOADS, plan_tests::BLOBS, plan_tests::DELTAS]).await;
        let org = format!("'{}'", world.org);

        let plan = plan_tests::plan(&world, FIGURES, &[&org, "100001", "0"]).await;

        let walks = plan_tests::walks(&plan, &[]);
        assert!(walks.is_empty(), "{walks:?}\n{plan}");
        for index in
            ["uploads_ended", "report_deltas_by_org", "batches_open", "dead_letters_by_org", "blobs_unreferenced"]
        {
            assert!(plan.contains(index), "{index}:\n{plan}");
        }
    }
}
