//! Which letters are meant: lists of them, and counts.

use std::collections::HashMap;

use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::super::page::{COUNT_CAP, Page, condition, select_count, select_page};
use super::super::steps::listed;
use super::super::{Db, LedgerError};
use super::{About, DeadLetter, KindCount};
use crate::job::Pool;

/// Which letters are meant: those that match every field that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these.
    pub ids: Option<Vec<Uuid>>,
    /// [`DeadLetter::pool`].
    pub pool: Option<Pool>,
    /// [`DeadLetter::kind`].
    pub kind: Option<String>,
    /// [`DeadLetter::reason`].
    pub reason: Option<String>,
    /// [`DeadLetter::subject`].
    pub subject: Option<Uuid>,
    /// Of jobs of this org.
    pub org: Option<Uuid>,
    /// With this in the error, in whichever case.
    pub error: Option<String>,
    /// The letter with this id and those that died before it, none that died later.
    pub before: Option<Uuid>,
}

/// Binds the fields to a query of [`Filter::text`].
macro_rules! filtered {
    ($query:expr, $filter:expr) => {
        $query
            .bind($filter.listed_ids())
            .bind($filter.pool)
            .bind($filter.kind.clone())
            .bind($filter.reason.clone())
            .bind($filter.subject)
            .bind($filter.org)
            .bind($filter.pattern())
            .bind($filter.before)
    };
}
pub(super) use filtered;

impl Filter {
    /// The one letter with this id.
    #[must_use]
    pub fn by_id(id: Uuid) -> Self {
        Self::by_ids(vec![id])
    }

    /// The letters with these ids, those that are there.
    #[must_use]
    pub fn by_ids(ids: Vec<Uuid>) -> Self {
        Self { ids: Some(ids), ..Self::default() }
    }

    /// Without letters that die from now on: the latest that matches is the last, unless one is named already. Whoever takes
    /// letters in several goes does this once, or may take for ever those that die anew meanwhile.
    pub async fn bounded(mut self, db: &Db) -> Result<Self, LedgerError> {
        if self.before.is_none() {
            let query = AssertSqlSafe(format!("select id {} order by id desc limit 1", self.text(db)));
            self.before = sql!(db.reader(), c => filtered!(sqlx::query_scalar(query), self).fetch_optional(c).await)?;
        }
        Ok(self)
    }

    /// The fields are `$1` to `$8`.
    pub(super) fn text(&self, db: &Db) -> String {
        let of_ids = among(db, "select unhex(atom) from json_each($1)");
        let of_ids = format!("id {of_ids}");
        let conditions = [
            if self.ids.is_some() { &of_ids } else { "$1 is null" },
            condition(self.pool.is_some(), "pool = $2", "$2 is null"),
            condition(self.kind.is_some(), "kind = $3", "$3 is null"),
            condition(self.reason.is_some(), "reason = $4", "$4 is null"),
            condition(self.subject.is_some(), "subject = $5", "$5 is null"),
            condition(self.org.is_some(), "org_id = $6", "$6 is null"),
            condition(self.error.is_some(), "lower(error) like lower($7) escape '!'", "$7 is null"),
            condition(self.before.is_some(), "id <= $8", "$8 is null"),
        ];
        format!("from dead_letters where {}", conditions.join(" and "))
    }

    pub(super) fn listed_ids(&self) -> Option<String> {
        self.ids.as_deref().map(listed_all)
    }

    /// The error's part as a pattern for `like`.
    pub(super) fn pattern(&self) -> Option<String> {
        self.error.as_deref().map(containing)
    }
}

/// The condition that something is among these rows. PostgreSQL would walk through them once for each letter after many have
/// died at once: it believes that there are few, by statistics from before.
pub(super) fn among(db: &Db, rows: &str) -> String {
    let (begin, end) = (db.reader().text("in (", "= any (array("), db.reader().text(")", "))"));
    format!("{begin}{rows}{end}")
}

/// What `like` takes for a text with this in it, with `!` before what would else stand for others.
pub(in super::super) fn containing(part: &str) -> String {
    let mut pattern = "%".to_owned();
    for character in part.chars() {
        if matches!(character, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(character);
    }
    pattern + "%"
}

fn listed_all(ids: &[Uuid]) -> String {
    json!(ids.iter().copied().map(listed).collect::<Vec<_>>()).to_string()
}

/// The letters that match, the latest first.
pub async fn list(db: &Db, filter: &Filter, limit: i64) -> Result<Vec<DeadLetter>, LedgerError> {
    page(db, filter, Page { ascending: false, after: None, limit, offset: 0 }).await
}

/// A page of the letters that match. Their ids tell when they were written: the order of the ids is that of the deaths.
pub async fn page(db: &Db, filter: &Filter, page: Page) -> Result<Vec<DeadLetter>, LedgerError> {
    let query = AssertSqlSafe(select_page(&filter.text(db), page, 9));
    Ok(sql!(db.reader(), c => filtered!(sqlx::query_as(query), filter)
        .bind(page.after)
        .bind(page.limit)
        .bind(page.offset)
        .fetch_all(c)
        .await)?)
}

/// How many letters match, up to [`COUNT_CAP`] + 1.
pub async fn count(db: &Db, filter: &Filter) -> Result<i64, LedgerError> {
    let query = AssertSqlSafe(select_count(&filter.text(db), 9));
    Ok(sql!(db.reader(), c => filtered!(sqlx::query_scalar(query), filter)
        .bind(COUNT_CAP + 1)
        .fetch_one(c)
        .await)?)
}

/// The letter with this id; `None` when there is none, or no longer.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<DeadLetter>, LedgerError> {
    Ok(list(db, &Filter::by_id(id), 1).await?.pop())
}

/// What these letters' jobs were about, by the letter's id. What has gone since is left out.
pub async fn abouts(db: &Db, letters: &[DeadLetter]) -> Result<HashMap<Uuid, About>, LedgerError> {
    if letters.is_empty() {
        return Ok(HashMap::new());
    }
    let query = "select l.id,
            l.org_id,
            case when u.id is not null then 'upload'
                when b.id is not null then 'batch'
                when o.id is not null then 'org'
                when x.id is not null then 'blob' end as subject_kind,
            u.filename
        from json_each($1) given
        cross join dead_letters l
        left join uploads u on u.id = l.subject
        left join batches b on b.id = l.subject
        left join orgs o on o.id = l.subject
        left join blobs x on x.id = l.subject
        where l.id = unhex(given.atom)";
    let ids: Vec<Uuid> = letters.iter().map(|letter| letter.id).collect();
    let rows: Vec<About> = sql!(db.reader(), c => sqlx::query_as(query).bind(listed_all(&ids)).fetch_all(c).await)?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// How many letters there are of each kind and reason.
pub async fn count_by_kind(db: &Db) -> Result<Vec<KindCount>, LedgerError> {
    let query = "select kind, reason, count(*) as count from dead_letters group by kind, reason order by kind, reason";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).fetch_all(c).await)?)
}

/// How many letters each pool has; pools without any are left out.
pub async fn count_by_pool(db: &Db) -> Result<Vec<(Pool, i64)>, LedgerError> {
    let query = "select pool, count(*) from dead_letters group by pool order by pool";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).fetch_all(c).await)?)
}
