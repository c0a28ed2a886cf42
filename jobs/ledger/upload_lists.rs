//! Lists of an org's uploads.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::page::{COUNT_CAP, Page, condition, select_count, select_page};
use super::refs::ref_stands;
use super::{Db, LedgerError};
use crate::model::target::TargetKind;
use crate::model::{Status, Upload};

/// Which uploads of an org to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only in this state.
    pub status: Option<Status>,
    /// Only for this kind of target.
    pub target: Option<TargetKind>,
    /// Only for this number.
    pub number: Option<String>,
    /// Only of this batch.
    pub batch: Option<Uuid>,
    /// Only those that were asked for under this ref, whether it still stands for them or not.
    pub client_ref: Option<String>,
}

/// Under the ref the one for which it stands, and those for which it stood: each has an index of its own, and the second costs an
/// upload that goes well nothing.
const OF_REF: &str = concat!(
    "id in (
    select id from uploads
    where org_id = $1 and client_ref = $6 and ",
    ref_stands!(),
    "
    union all
    select id from uploads
    where org_id = $1 and client_ref = $6
      and (status in ('rejected', 'expired', 'cancelled') or file_deleted_at is not null))"
);

impl Filter {
    /// The org is `$1`, and the filters follow in their order.
    pub(super) fn text(&self) -> String {
        let number = condition(
            self.target.is_some(),
            "target_number = $4",
            "id in (
                select u.id from uploads u
                where u.org_id = $1 and u.target_kind in ('order', 'style') and u.target_number = $4)",
        );
        [
            "from uploads where org_id = $1",
            self.status.map_or("$2 is null", of_status),
            condition(self.target.is_some(), "target_kind = $3", "$3 is null"),
            condition(self.number.is_some(), number, "$4 is null"),
            condition(self.batch.is_some(), "batch_id = $5", "$5 is null"),
            condition(self.client_ref.is_some(), OF_REF, "$6 is null"),
        ]
        .join(" and ")
    }
}

/// The states stand in the text, so that a planner knows which of the partial indexes hold them. Few of an org's uploads are
/// open at a time, and few come to nothing; those that are done are most of them, and need no index. SQLite minds the order of
/// the conditions.
const fn of_status(status: Status) -> &'static str {
    match status {
        Status::Requested | Status::Issued | Status::Arrived | Status::Verified => {
            "id in (
                select open.id from uploads open
                where open.status in ('requested', 'issued', 'arrived', 'verified') and open.status = $2
                  and open.org_id = $1)"
        }
        Status::Rejected | Status::Expired | Status::Cancelled => {
            "status = $2 and status in ('rejected', 'expired', 'cancelled')"
        }
        Status::Done => "status = $2",
    }
}

/// Binds the org and the filters to a query of [`Filter::text`].
macro_rules! filtered {
    ($query:expr, $org:expr, $filter:expr) => {
        $query
            .bind($org)
            .bind($filter.status)
            .bind($filter.target)
            .bind($filter.number.as_deref())
            .bind($filter.batch)
            .bind($filter.client_ref.as_deref())
    };
}

/// A page of an org's uploads.
pub async fn list(db: &Db, org: Uuid, filter: &Filter, page: Page) -> Result<Vec<Upload>, LedgerError> {
    let query = AssertSqlSafe(select_page(&filter.text(), page, 7));
    Ok(sql!(db.reader(), c => filtered!(sqlx::query_as(query), org, filter)
        .bind(page.after)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(c)
        .await)?)
}

/// How many uploads the filter lets through, up to [`COUNT_CAP`] + 1.
pub async fn count(db: &Db, org: Uuid, filter: &Filter) -> Result<i64, LedgerError> {
    let query = AssertSqlSafe(select_count(&filter.text(), 7));
    Ok(sql!(db.reader(), c => filtered!(sqlx::query_scalar(query), org, filter)
        .bind(COUNT_CAP + 1)
        .fetch_one(c)
        .await)?)
}
