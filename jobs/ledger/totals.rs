//! How much there is over all orgs, at the price of a look.

use uuid::Uuid;

use super::page::COUNT_CAP;
use super::{Db, LedgerError};
use crate::model::Status;

/// How many uploads have come to which end. Each is counted up to [`COUNT_CAP`] + 1, but for those that are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The files that there are.
    pub done: i64,
    /// Whether some of them are not counted in, as so many deltas wait to be folded.
    pub done_capped: bool,
    /// [`Status::Rejected`].
    pub rejected: i64,
    /// [`Status::Expired`].
    pub expired: i64,
    /// [`Status::Cancelled`].
    pub cancelled: i64,
}

impl Ended {
    /// How many rows were counted.
    #[must_use]
    pub const fn counted(&self) -> u64 {
        (self.rejected + self.expired + self.cancelled).unsigned_abs()
    }
}

/// The files are those of all reports, and of the deltas that are not folded yet, in one statement: a fold moves them.
const FILES: &str = "select cast(coalesce(sum(files), 0) as bigint), cast(coalesce(sum(delta), 0) as bigint)
    from (
        select files, 0 as delta from org_reports
        union all
        select files, 1 from (select files from report_deltas order by id limit $1) waiting) counted";

/// The state stands in the text, so that `uploads_ended_by_status` is seen to hold it.
fn count_ended(status: Status) -> String {
    format!(
        "select count(*) from (
            select 1
            from uploads
            where status = '{status}' and status in ('rejected', 'expired', 'cancelled')
            limit $1) capped"
    )
}

/// How many uploads have come to which end.
pub async fn ended(db: &Db) -> Result<Ended, LedgerError> {
    let files = async {
        let row: (i64, i64) = sql!(db.reader(), c => sqlx::query_as(FILES).bind(COUNT_CAP + 1).fetch_one(c).await)?;
        Ok::<_, LedgerError>(row)
    };
    let ((done, deltas), rejected, expired, cancelled) = futures_util::try_join!(
        files,
        count(db, Status::Rejected),
        count(db, Status::Expired),
        count(db, Status::Cancelled)
    )?;
    Ok(Ended { done, done_capped: deltas > COUNT_CAP, rejected, expired, cancelled })
}

async fn count(db: &Db, status: Status) -> Result<i64, LedgerError> {
    let query = sqlx::AssertSqlSafe(count_ended(status));
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(COUNT_CAP + 1).fetch_one(c).await)?)
}

/// How many uploads of an org stand in an open state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct OpenOf {
    /// Whose.
    pub org_id: Uuid,
    /// The state.
    pub status: Status,
    /// How many.
    pub count: i64,
}

const OPEN_BY_ORG: &str = "select org_id, status, count(*) as count
    from uploads
    where status in ('requested', 'issued', 'arrived', 'verified')
    group by org_id, status";

/// The open uploads of all orgs, by org and state, from `uploads_open` alone. Of very many it is slow: whoever asks often keeps
/// the answer for a while.
pub async fn open_by_org(db: &Db) -> Result<Vec<OpenOf>, LedgerError> {
    Ok(sql!(db.reader(), c => sqlx::query_as(OPEN_BY_ORG).fetch_all(c).await)?)
}

#[cfg(test)]
mod tests {
    use super::super::plan_tests;
    use super::*;
    use crate::ledger::{files, orgs, reports, uploads};
    use crate::testkit::World;

    crate::on_every_engine! {
        ends_are_counted_whether_they_are_folded_or_not,
        open_uploads_are_counted_by_org_and_state,
        what_came_to_nothing_is_counted_by_its_index,
    }

    async fn ends_are_counted_whether_they_are_folded_or_not(world: World) {
        let db = &world.ctx.db;
        let stored = world.uploaded(b"one").await;
        world.uploaded(b"two").await;
        let other = orgs::create(db, "other".to_owned(), world.ctx.now()).await.unwrap();
        for _ in 0..2 {
            let row = uploads::insert(db, vec![crate::model::Upload { org_id: other.id, ..world.requested() }]);
            row.await.unwrap();
        }
        for row in open_rows(&world).await {
            assert!(uploads::cancel(db, row, world.ctx.now()).await.unwrap());
        }

        let before = ended(db).await.unwrap();
        while reports::fold(db, world.org, world.ctx.now()).await.unwrap().more {}
        assert_eq!(ended(db).await.unwrap(), before);
        assert_eq!(before, Ended { done: 2, cancelled: 2, ..Ended::default() });
        assert!(files::delete(db, stored.file_id, world.ctx.now()).await.unwrap());
        assert_eq!(ended(db).await.unwrap().done, 1);
    }

    async fn open_rows(world: &World) -> Vec<Uuid> {
        let query = "select id from uploads where status = 'requested'";
        sql!(world.ctx.db.reader(), c => sqlx::query_scalar(query).fetch_all(c).await).unwrap()
    }

    async fn open_uploads_are_counted_by_org_and_state(world: World) {
        world.issued().await;
        uploads::insert(&world.ctx.db, vec![world.requested(), world.requested()]).await.unwrap();
        world.uploaded(b"done").await;

        let mut open = open_by_org(&world.ctx.db).await.unwrap();

        open.sort_unstable_by_key(|open| open.status);
        let of = |status, count| OpenOf { org_id: world.org, status, count };
        assert_eq!(open, [of(Status::Requested, 2), of(Status::Issued, 1)]);
    }

    async fn what_came_to_nothing_is_counted_by_its_index(world: World) {
        plan_tests::fill(&world, &[plan_tests::UPLOADS, plan_tests::ORGS]).await;
        for status in [Status::Rejected, Status::Expired, Status::Cancelled] {
            let plan = plan_tests::plan(&world, &count_ended(status), &["100001"]).await;
            // Of so few, PostgreSQL takes the one for the other.
            assert!(
                plan.contains("uploads_ended_by_status") || plan.contains("Only Scan using uploads_ended"),
                "{plan}"
            );
            let walks = plan_tests::walks(&plan, &[]);
            assert!(walks.is_empty(), "{walks:?}\n{plan}");
        }
        let plan = plan_tests::plan(&world, OPEN_BY_ORG, &[]).await;
        assert!(plan.contains("uploads_open") && (plan.contains("COVERING") || plan.contains("Only")), "{plan}");
    }
}
