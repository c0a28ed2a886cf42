//! Lists of uploads as operators ask for them: over all orgs or of one, by where they stand and why.
//!
//! Each is in the order of an index, and reads what it shows. Those that have ended are in the order of their ids, which is that
//! of their requests; those that are open are in the order of `created_at`, since an index by id would cost each upload at each
//! step. Those that are done are nearly all there are: they are listed for one org alone.

use std::collections::HashMap;

use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::page::{COUNT_CAP, Page, condition, select_count, select_page};
use super::steps::listed;
use super::{Db, LedgerError};
use crate::model::upload::Reason;
use crate::model::{Status, Timestamp, Upload};

/// Which uploads to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    stand: Stand,
    org: Option<Uuid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    In(Status),
    RejectedFor(Reason),
}

/// Why uploads cannot be listed like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlisted {
    /// Neither a state nor a reason is given.
    #[error("must be given: one state, unless there is a `reason`")]
    NoStatus,
    /// Only those that are rejected have a reason.
    #[error("is only had by uploads that are `rejected`")]
    NoReason,
    /// They are nearly all that there are.
    #[error("must be given for uploads that are `done`; over all orgs `GET /api/admin/search` finds them")]
    NoOrg,
}

impl Filter {
    /// A reason stands for those that were rejected for it.
    pub fn new(status: Option<Status>, reason: Option<Reason>, org: Option<Uuid>) -> Result<Self, Unlisted> {
        let stand = match (status, reason) {
            (None | Some(Status::Rejected), Some(reason)) => Stand::RejectedFor(reason),
            (Some(_), Some(_)) => return Err(Unlisted::NoReason),
            (Some(Status::Done), None) if org.is_none() => return Err(Unlisted::NoOrg),
            (Some(status), None) => Stand::In(status),
            (None, None) => return Err(Unlisted::NoStatus),
        };
        Ok(Self { stand, org })
    }

    /// Whether the list is in the order of `created_at`.
    const fn is_open(self) -> bool {
        matches!(self.stand, Stand::In(Status::Requested | Status::Issued | Status::Arrived | Status::Verified))
    }

    /// State or reason are `$1`, the org is `$2`. The states stand in the text, so that a planner knows which of the partial
    /// indexes hold them.
    fn text(self) -> String {
        let stand = match self.stand {
            Stand::RejectedFor(_) => "reason = $1",
            Stand::In(Status::Done) => "status = $1",
            Stand::In(Status::Rejected | Status::Expired | Status::Cancelled) => {
                "status = $1 and status in ('rejected', 'expired', 'cancelled')"
            }
            Stand::In(_) => "status = $1 and status in ('requested', 'issued', 'arrived', 'verified')",
        };
        format!("from uploads where {stand} and {}", condition(self.org.is_some(), "org_id = $2", "$2 is null"))
    }

    /// The part's parameters are `$3` (behind this id), `$4` and `$5` (limit and offset), and `$6` (behind this time).
    fn select(self, page: Page) -> String {
        if !self.is_open() {
            return select_page(&(self.text() + " and $6 is null"), page, 3);
        }
        let (order, is_behind) = if page.ascending { ("", ">") } else { (" desc", "<") };
        let behind = match page.after {
            None => "$3 is null and $6 is null".to_owned(),
            Some(_) => format!("created_at {is_behind}= $6 and (created_at {is_behind} $6 or id {is_behind} $3)"),
        };
        format!("select * {} and {behind} order by created_at{order}, id{order} limit $4 offset $5", self.text())
    }

    const fn word(self) -> &'static str {
        match self.stand {
            Stand::In(status) => status.as_str(),
            Stand::RejectedFor(reason) => reason.as_str(),
        }
    }
}

/// An upload, and the name of the org that it is of.
pub type Listed = (Upload, String);

/// A part of the list. Behind an id that is none, a list of open ones has nothing.
pub async fn list(db: &Db, filter: Filter, page: Page) -> Result<Vec<Listed>, LedgerError> {
    let after = match page.after.filter(|_| filter.is_open()) {
        Some(id) => {
            let Some(after) = requested_at(db, id).await? else { return Ok(Vec::new()) };
            Some(after)
        }
        None => None,
    };
    let query = AssertSqlSafe(filter.select(page));
    let rows: Vec<Upload> = sql!(db.reader(), c => sqlx::query_as(query)
        .bind(filter.word())
        .bind(filter.org)
        .bind(page.after)
        .bind(page.limit)
        .bind(page.offset)
        .bind(after)
        .fetch_all(c)
        .await)?;
    with_names(db, rows).await
}

async fn requested_at(db: &Db, id: Uuid) -> Result<Option<Timestamp>, LedgerError> {
    let query = "select created_at from uploads where id = $1";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(id).fetch_optional(c).await)?)
}

async fn with_names(db: &Db, rows: Vec<Upload>) -> Result<Vec<Listed>, LedgerError> {
    let query = "select id, name from orgs where id in (select unhex(atom) from json_each($1))";
    let list = json!(rows.iter().map(|row| listed(row.org_id)).collect::<Vec<_>>()).to_string();
    let names: Vec<(Uuid, String)> = sql!(db.reader(), c => sqlx::query_as(query).bind(list).fetch_all(c).await)?;
    let names: HashMap<_, _> = names.into_iter().collect();
    let named = |row: Upload| {
        let name = names.get(&row.org_id).cloned().unwrap_or_default();
        (row, name)
    };
    Ok(rows.into_iter().map(named).collect())
}

/// How many there are, up to [`COUNT_CAP`] + 1.
pub async fn count(db: &Db, filter: Filter) -> Result<i64, LedgerError> {
    let query = AssertSqlSafe(select_count(&filter.text(), 3));
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query)
        .bind(filter.word())
        .bind(filter.org)
        .bind(COUNT_CAP + 1)
        .fetch_one(c)
        .await)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{orgs, plan_tests, uploads};
    use super::*;
    use crate::testkit::World;

    crate::on_every_engine! {
        uploads_of_all_orgs_are_listed_by_where_they_stand_and_why,
        a_list_goes_on_where_it_ended_in_both_orders,
        no_list_reads_what_it_does_not_show,
    }

    const FIRST: Page = Page { ascending: false, after: None, limit: 31, offset: 0 };

    fn filter(status: impl Into<Option<Status>>, reason: Option<Reason>, org: Option<Uuid>) -> Filter {
        Filter::new(status.into(), reason, org).unwrap()
    }

    /// Asked for just now; time goes on.
    async fn put(world: &World, org: Uuid, status: Status, reason: Option<Reason>) -> Uuid {
        let row = Upload { org_id: org, status, reason, ..world.requested() };
        uploads::insert(&world.ctx.db, vec![row.clone()]).await.unwrap();
        world.clock.advance(Duration::from_millis(5));
        row.id
    }

    async fn ids(world: &World, filter: Filter, page: Page) -> Vec<Uuid> {
        list(&world.ctx.db, filter, page).await.unwrap().into_iter().map(|(row, _)| row.id).collect()
    }

    async fn uploads_of_all_orgs_are_listed_by_where_they_stand_and_why(world: World) {
        let (db, acme) = (&world.ctx.db, world.org);
        let other = orgs::create(db, "other".to_owned(), world.ctx.now()).await.unwrap().id;
        let torn = put(&world, acme, Status::Rejected, Some(Reason::DigestMismatch)).await;
        let large = put(&world, other, Status::Rejected, Some(Reason::TooLarge)).await;
        let late = put(&world, other, Status::Expired, None).await;
        let open = put(&world, acme, Status::Issued, None).await;
        let open_of_other = put(&world, other, Status::Issued, None).await;
        let done = put(&world, other, Status::Done, None).await;

        for (filter, expected) in [
            (filter(Status::Rejected, None, None), vec![large, torn]),
            (filter(Status::Rejected, None, Some(acme)), vec![torn]),
            (filter(Status::Rejected, Some(Reason::TooLarge), None), vec![large]),
            (filter(None, Some(Reason::DigestMismatch), None), vec![torn]),
            (filter(None, Some(Reason::TooLarge), Some(acme)), vec![]),
            (filter(Status::Expired, None, None), vec![late]),
            (filter(Status::Cancelled, None, None), vec![]),
            (filter(Status::Issued, None, None), vec![open_of_other, open]),
            (filter(Status::Issued, None, Some(acme)), vec![open]),
            (filter(Status::Arrived, None, None), vec![]),
            (filter(Status::Done, None, Some(other)), vec![done]),
            (filter(Status::Done, None, Some(acme)), vec![]),
        ] {
            assert_eq!(ids(&world, filter, FIRST).await, expected, "{filter:?}");
            assert_eq!(count(db, filter).await.unwrap(), i64::try_from(expected.len()).unwrap(), "{filter:?}");
        }
        let named = list(db, filter(Status::Rejected, None, None), FIRST).await.unwrap();
        assert_eq!(named.iter().map(|(_, org)| org.as_str()).collect::<Vec<_>>(), ["other", "acme"]);
    }

    async fn a_list_goes_on_where_it_ended_in_both_orders(world: World) {
        for status in [Status::Expired, Status::Arrived, Status::Done] {
            let mut all = Vec::new();
            for _ in 0..5 {
                all.push(put(&world, world.org, status, None).await);
            }
            // Asked for in the same moment.
            let twins = [Upload { status, ..world.requested() }, Upload { status, ..world.requested() }];
            all.extend(twins.iter().map(|row| row.id));
            uploads::insert(&world.ctx.db, twins.to_vec()).await.unwrap();

            let filter = filter(status, None, Some(world.org));
            for ascending in [true, false] {
                let (mut seen, mut page) = (Vec::new(), Page { ascending, limit: 2, ..FIRST });
                loop {
                    let part = ids(&world, filter, page).await;
                    let Some(last) = part.last() else { break };
                    page.after = Some(*last);
                    seen.extend(part);
                }
                assert_eq!(seen, all, "{status}");
                all.reverse();
            }
            let second = ids(&world, filter, Page { offset: 5, ..FIRST }).await;
            assert_eq!(second, [all[1], all[0]], "{status}");
        }
        let behind_nothing = Page { after: Some(Uuid::max()), ..FIRST };
        assert!(ids(&world, filter(Status::Arrived, None, None), behind_nothing).await.is_empty());
    }

    #[test]
    fn lists_that_would_be_of_nearly_everything_or_of_nothing_are_refused() {
        let (done, large) = (Some(Status::Done), Some(Reason::TooLarge));
        assert_eq!(Filter::new(None, None, Some(Uuid::nil())), Err(Unlisted::NoStatus));
        assert_eq!(Filter::new(done, None, None), Err(Unlisted::NoOrg));
        for status in Status::ALL.iter().filter(|status| **status != Status::Rejected) {
            assert_eq!(Filter::new(Some(*status), large, Some(Uuid::nil())), Err(Unlisted::NoReason));
        }
    }

    /// Of the uploads that have come to nothing, every second was rejected, most of them for one reason.
    const REJECTED: &str = "update uploads
        set status = 'rejected', reason = case when client_ref = 'r200' then 'too_large' else 'digest_mismatch' end
        where status = 'expired' and cast(substr(client_ref, 2) as bigint) % 200 = 0";

    async fn no_list_reads_what_it_does_not_show(world: World) {
        plan_tests::fill(&world, &[plan_tests::UPLOADS]).await;
        let reject = world.ctx.db.write_one(|mut tx| {
            Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(REJECTED).execute(c).await?.rows_affected())) })
        });
        assert_eq!(reject.await.unwrap(), 100);
        plan_tests::fill(&world, &[]).await;
        let (org, after) = (Some(world.org), Some(Uuid::nil()));
        let done = filter(Status::Done, None, org).select(FIRST);
        let plan = plan_of(&world, &done, filter(Status::Done, None, org)).await;
        // All are of this org, and either is in the order of the ids.
        assert!(plan.contains("uploads_by_org") || plan.contains("Scan Backward using uploads_pkey"), "{plan}");

        for (filter, index) in [
            (filter(Status::Rejected, None, None), "uploads_ended_by_status"),
            (filter(Status::Expired, None, None), "uploads_ended_by_status"),
            (filter(Status::Cancelled, None, org), "uploads_ended"),
            (filter(None, Some(Reason::TooLarge), None), "uploads_rejected"),
            (filter(None, Some(Reason::TooLarge), org), "uploads_rejected_by_org"),
            (filter(Status::Issued, None, None), "uploads_open"),
            (filter(Status::Arrived, None, org), "uploads_open"),
        ] {
            for after in [None, after] {
                check(&world, &filter.select(Page { after, ..FIRST }), filter, index).await;
            }
            let plan = plan_of(&world, &select_count(&filter.text(), 3), filter).await;
            assert!(plan_tests::walks(&plan, &[]).is_empty(), "{filter:?}\n{plan}");
        }
    }

    async fn check(world: &World, query: &str, filter: Filter, index: &str) {
        let plan = plan_of(world, query, filter).await;
        let is_used = |mark: &str| plan.contains(&format!("{index}{mark}"));
        let walks = plan_tests::walks(&plan, &[]);
        assert!([" ", "\n"].into_iter().any(is_used) && walks.is_empty(), "{query}\n{plan}");
        // PostgreSQL also sorts where it expects a handful.
        assert!(plan.lines().all(|line| line.trim() != "USE TEMP B-TREE FOR ORDER BY"), "{query}\n{plan}");
    }

    async fn plan_of(world: &World, query: &str, filter: Filter) -> String {
        let quoted = |text: &str| format!("'{text}'");
        let org = filter.org.map_or_else(|| "null".to_owned(), |org| quoted(&org.to_string()));
        let third = match query {
            _ if query.contains("$3 is null") => "null".to_owned(),
            _ if query.contains("limit $3") => "100001".to_owned(),
            _ => quoted("00000000-0000-7000-8000-100000005000"),
        };
        let time = if query.contains("$6 is null") { "null" } else { "7" };
        let values = [&*quoted(filter.word()), &org, &third, "31", "0", time];
        plan_tests::plan(world, query, &values).await
    }
}
