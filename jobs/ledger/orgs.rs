//! Orgs.

use std::collections::HashSet;

use serde_json::json;
use uuid::Uuid;

use super::steps::listed;
use super::{Db, LedgerError};
use crate::model::Timestamp;
use crate::model::org::Org;

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
