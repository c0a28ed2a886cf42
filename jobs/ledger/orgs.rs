//! Orgs.

use std::collections::{HashMap, HashSet};

use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::dead_letters::containing;
use super::page::{COUNT_CAP, Page, condition, select_count, select_page};
use super::steps::listed;
use super::{Db, LedgerError};
use crate::model::Timestamp;
use crate::model::org::Org;
use crate::model::report::Report;

/// Creates an org. [`LedgerError::is_taken`] when the name is.
pub async fn create(db: &Db, name: String, now: Timestamp) -> Result<Org, LedgerError> {
    let org = Org { id: Uuid::now_v7(), name, created_at: now };
    let row = org.clone();
    db.write_one(move |mut tx| {
        Box::pin(async move {
            sql!(tx.on(), c => sqlx::query("insert into orgs (id, name, created_at) values ($1, $2, $3)")
                .bind(row.id)
                .bind(row.name)
                .bind(row.created_at)
                .execute(c).await.map(drop))?;
            Ok(())
        })
    })
    .await?;
    Ok(org)
}

/// Every org by name.
pub async fn list(db: &Db) -> Result<Vec<Org>, LedgerError> {
    let query = "select id, name, created_at from orgs order by name";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).fetch_all(c).await)?)
}

/// A page of the orgs with this in their name, in whichever case.
pub async fn page(db: &Db, name: Option<&str>, page: Page) -> Result<Vec<Org>, LedgerError> {
    let query = AssertSqlSafe(select_page(&named(name), page, 2));
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(name.map(containing))
        .bind(page.after)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(c)
        .await)?)
}

/// How many orgs have this in their name, up to [`COUNT_CAP`] + 1.
pub async fn count(db: &Db, name: Option<&str>) -> Result<i64, LedgerError> {
    let query = AssertSqlSafe(select_count(&named(name), 2));
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query)
        .bind(name.map(containing))
        .bind(COUNT_CAP + 1)
        .fetch_one(c)
        .await)?)
}

fn named(name: Option<&str>) -> String {
    format!("from orgs where {}", condition(name.is_some(), "lower(name) like lower($1) escape '!'", "$1 is null"))
}

/// The org of that id; `None` when there is none.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<Org>, LedgerError> {
    let query = "select id, name, created_at from orgs where id = $1";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(id).fetch_optional(c).await)?)
}

/// The reports of these orgs as they were last written; one that never was is left out.
pub async fn reports(db: &Db, ids: impl Iterator<Item = Uuid>) -> Result<HashMap<Uuid, Report>, LedgerError> {
    let query = "select org_id, files, bytes, unique_files, unique_bytes, as_of
        from org_reports
        where org_id in (select unhex(atom) from json_each($1))";
    let list = json!(ids.map(listed).collect::<Vec<_>>()).to_string();
    let rows: Vec<ReportOf> = sql!(db.reader(), c => sqlx::query_as(query).bind(list).fetch_all(c).await)?;
    Ok(rows.into_iter().map(|row| (row.org_id, row.report)).collect())
}

#[derive(sqlx::FromRow)]
struct ReportOf {
    org_id: Uuid,
    #[sqlx(flatten)]
    report: Report,
}

/// The org of that name; `None` when there is none.
pub async fn by_name(db: &Db, name: &str) -> Result<Option<Org>, LedgerError> {
    let query = "select id, name, created_at from orgs where name = $1";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(name).fetch_optional(c).await)?)
}

/// Those of the ids whose org is in this ledger.
pub async fn known(db: &Db, ids: &HashSet<Uuid>) -> Result<HashSet<Uuid>, LedgerError> {
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let list = json!(ids.iter().copied().map(listed).collect::<Vec<_>>()).to_string();
    let query = "select id from orgs where id in (select unhex(atom) from json_each($1))";
    let rows: Vec<Uuid> = sql!(db.reader(), c => sqlx::query_scalar(query).bind(list).fetch_all(c).await)?;
    Ok(rows.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::World;

    crate::on_every_engine! {
        orgs_are_listed_by_age_and_by_a_part_of_their_name,
    }

    async fn orgs_are_listed_by_age_and_by_a_part_of_their_name(world: World) {
        let db = &world.ctx.db;
        for name in ["Bolt & Co", "bolts_2", "zz"] {
            create(db, name.to_owned(), world.ctx.now()).await.unwrap();
        }
        let names = async |name: Option<&str>, after: Option<Uuid>| {
            let part = Page { ascending: true, after, limit: 3, offset: 0 };
            let orgs = page(db, name, part).await.unwrap();
            orgs.into_iter().map(|org| org.name).collect::<Vec<_>>()
        };

        assert_eq!(names(None, None).await, ["acme", "Bolt & Co", "bolts_2"]);
        assert_eq!(names(None, Some(by_name(db, "bolts_2").await.unwrap().unwrap().id)).await, ["zz"]);
        assert_eq!(names(Some("BOLT"), None).await, ["Bolt & Co", "bolts_2"]);
        assert_eq!(names(Some("_"), None).await, ["bolts_2"]);
        assert_eq!((count(db, None).await.unwrap(), count(db, Some("bolt")).await.unwrap()), (4, 2));
        assert_eq!(find(db, world.org).await.unwrap().unwrap().name, "acme");
        assert!(reports(db, [world.org].into_iter()).await.unwrap().is_empty());
        world.uploaded(b"bytes").await;
        assert_eq!(world.report().await, reports(db, [world.org].into_iter()).await.unwrap()[&world.org].totals);
    }
}
