//! What the sweep of the bucket has found, and how far it has come.
//!
//! Findings mirror the bucket span by span: what a look at a span of keys has not found again is struck. So two sweeps that run
//! side by side need to know nothing of each other, and one that is broken off leaves nothing that the next has to clear. A look
//! that lets be what another has judged, since its minimum age is longer, leaves what is known of that as it is.

use std::time::Duration;

use serde_json::json;

use super::{Db, LedgerError, keepable};
use crate::model::{Timestamp, words};

/// How many findings are struck in one transaction: after a bucket was emptied there may be millions within a span.
const AT_ONCE: i64 = 2000;

words! {
    /// Which half is without the other.
    Kind, "a kind of finding" {
        /// An object in staging that no upload needs.
        Staging = "staging",
        /// An object below `blobs/` that no blob names.
        Blob = "blob",
        /// A live blob whose object is not in the bucket, or is not of its size.
        Row = "row",
    }
}

/// Keys behind `after`, up to and with `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Not in it.
    pub after: String,
    /// In it.
    pub to: String,
}

/// One half without the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Where the object is, or is to be.
    pub object_key: String,
    /// Bytes.
    pub size: i64,
    /// When the object was stored, or the row written.
    pub stored_at: Timestamp,
}

/// How many there are of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub orphans: i64,
    /// Their bytes.
    pub bytes: i64,
    /// When the oldest of them was stored; `None` when there are none.
    pub oldest_at: Option<Timestamp>,
}

impl Tally {
    /// With these too.
    #[must_use]
    pub fn and<'o>(self, orphans: impl IntoIterator<Item = &'o Orphan>) -> Self {
        orphans.into_iter().fold(self, |tally, orphan| Self {
            orphans: tally.orphans + 1,
            bytes: tally.bytes + orphan.size,
            oldest_at: tally.oldest_at.into_iter().chain([orphan.stored_at]).min(),
        })
    }
}

/// An orphan that was written down.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Finding {
    /// Where the object is, or is to be.
    pub object_key: String,
    /// Bytes.
    pub size: i64,
    /// When the object was stored, or the row written.
    pub stored_at: Timestamp,
    /// When a sweep met it first. It has been an orphan ever since.
    pub first_seen_at: Timestamp,
}

/// What the last complete sweep has found of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Sum {
    /// Of what.
    pub kind: Kind,
    /// How many.
    pub orphans: i64,
    /// Their bytes.
    pub bytes: i64,
    /// When the oldest of them was stored; `None` when there are none.
    pub oldest_at: Option<Timestamp>,
    /// When the sweep ended.
    pub as_of: Timestamp,
}

/// What a look at a span of keys has found.
pub struct Look<'l> {
    /// Of what.
    pub kind: Kind,
    /// Where it looked.
    pub span: &'l Span,
    /// All there is.
    pub found: &'l [Orphan],
    /// What is there too and was too young for this look: what another has found out about it stays.
    pub unjudged: &'l [String],
    /// How old an orphan has to have been for its first sight to count: a younger one may not have been an orphan yet.
    pub sight_age: Duration,
    /// When it looked.
    pub at: Timestamp,
}

/// Makes the findings of that kind within the span those that were found now. One that was known keeps its first sight.
pub async fn mirror(db: &Db, look: Look<'_>) -> Result<(), LedgerError> {
    let Look { kind, span, found, unjudged, sight_age, at } = look;
    let had_any = has_any(db, kind, span).await?;
    if had_any {
        let still: Vec<_> =
            found.iter().map(|orphan| &orphan.object_key).chain(unjudged).map(|key| keepable(key)).collect();
        let sight_age = (Timestamp::default() + sight_age).as_millis();
        strike_others(db, (kind, span), &json!(still).to_string(), sight_age).await?;
    }
    if found.is_empty() { Ok(()) } else { add(db, kind, found, at).await }
}

/// Strikes the findings within the span that are not among these keys, and those whose first sight does not count.
async fn strike_others(db: &Db, (kind, span): (Kind, &Span), still: &str, sight_age: i64) -> Result<(), LedgerError> {
    let query = "delete from sweep_findings
        where kind = $1 and object_key > $2 and object_key <= $3
          and (first_seen_at - stored_at < $5 or object_key not in (select atom from json_each($4)))";
    let (mut after, end) = (keepable(&span.after), keepable(&span.to));
    loop {
        let slice = slice_end(db, kind, (&after, &end)).await?;
        let (from, to, still) = (after, slice.clone().unwrap_or_else(|| end.clone()), still.to_owned());
        db.write_again(move |mut tx| {
            let (from, to, still) = (from.clone(), to.clone(), still.clone());
            Box::pin(async move {
                sql!(tx.on(), c => sqlx::query(query)
                    .bind(kind)
                    .bind(from)
                    .bind(to)
                    .bind(still)
                    .bind(sight_age)
                    .execute(c)
                    .await
                    .map(drop))?;
                Ok(())
            })
        })
        .await?;
        match slice {
            Some(reached) => after = reached,
            None => return Ok(()),
        }
    }
}

/// The key up to which there are as many findings as are struck at once; `None` when there are fewer.
async fn slice_end(db: &Db, kind: Kind, (after, end): (&str, &str)) -> Result<Option<String>, LedgerError> {
    let query = "select object_key
        from sweep_findings
        where kind = $1 and object_key > $2 and object_key <= $3
        order by object_key
        limit 1 offset $4";
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query)
        .bind(kind)
        .bind(after)
        .bind(end)
        .bind(AT_ONCE - 1)
        .fetch_optional(c)
        .await)?)
}

async fn add(db: &Db, kind: Kind, found: &[Orphan], at: Timestamp) -> Result<(), LedgerError> {
    let query = "insert into sweep_findings (kind, object_key, size, stored_at, first_seen_at)
        select $1, value ->> 0, cast(value ->> 1 as bigint), cast(value ->> 2 as bigint), $2
        from json_each($3)
        where true
        on conflict (kind, object_key) do nothing";
    let row = |orphan: &Orphan| json!([keepable(&orphan.object_key), orphan.size, orphan.stored_at.as_millis()]);
    let list = json!(found.iter().map(row).collect::<Vec<_>>()).to_string();
    db.write_again(move |mut tx| {
        let list = list.clone();
        Box::pin(async move {
            sql!(tx.on(), c => sqlx::query(query).bind(kind).bind(at).bind(list).execute(c).await.map(drop))?;
            Ok(())
        })
    })
    .await
}

async fn has_any(db: &Db, kind: Kind, span: &Span) -> Result<bool, LedgerError> {
    let query =
        "select object_key from sweep_findings where kind = $1 and object_key > $2 and object_key <= $3 limit 1";
    let any: Option<String> = sql!(db.reader(), c => sqlx::query_scalar(query)
        .bind(kind)
        .bind(keepable(&span.after))
        .bind(keepable(&span.to))
        .fetch_optional(c)
        .await)?;
    Ok(any.is_some())
}

/// The findings of that kind within the span that were first seen by then, in the order of their keys.
pub async fn seen_by(db: &Db, kind: Kind, span: &Span, by: Timestamp) -> Result<Vec<Finding>, LedgerError> {
    let query = "select object_key, size, stored_at, first_seen_at
        from sweep_findings
        where kind = $1 and object_key > $2 and object_key <= $3 and first_seen_at <= $4
        order by object_key";
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(kind)
        .bind(keepable(&span.after))
        .bind(keepable(&span.to))
        .bind(by)
        .fetch_all(c)
        .await)?)
}

/// The findings of that kind behind a key that were stored by then, in the order of their keys.
pub async fn list(
    db: &Db,
    (kind, stored_by): (Kind, Timestamp),
    after: &str,
    limit: i64,
) -> Result<Vec<Finding>, LedgerError> {
    let query = "select object_key, size, stored_at, first_seen_at
        from sweep_findings
        where kind = $1 and object_key > $2 and stored_at <= $4
        order by object_key
        limit $3";
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(kind)
        .bind(after)
        .bind(limit)
        .bind(stored_by)
        .fetch_all(c)
        .await)?)
}

/// Strikes findings whose objects are gone.
pub async fn strike(db: &Db, kind: Kind, object_keys: &[String]) -> Result<(), LedgerError> {
    let query = "delete from sweep_findings where kind = $1 and object_key in (select atom from json_each($2))";
    let list = json!(object_keys).to_string();
    db.write_one_again(move |mut tx| {
        Box::pin(async move {
            sql!(tx.on(), c => sqlx::query(query).bind(kind).bind(list).execute(c).await.map(drop))?;
            Ok(())
        })
    })
    .await
}

/// A sweep of that kind has come to its end: adds up what it has left of findings.
pub async fn add_up(db: &Db, kind: Kind, now: Timestamp) -> Result<(), LedgerError> {
    let query =
        "select count(*), cast(coalesce(sum(size), 0) as bigint), min(stored_at) from sweep_findings where kind = $1";
    let (orphans, bytes, oldest_at) = sql!(db.reader(), c => sqlx::query_as(query).bind(kind).fetch_one(c).await)?;
    keep_sum(db, Sum { kind, orphans, bytes, oldest_at, as_of: now }).await
}

/// Keeps what a complete sweep has found.
pub async fn keep_sum(db: &Db, sum: Sum) -> Result<(), LedgerError> {
    let query = "insert into sweeps (kind, orphans, bytes, oldest_at, as_of)
        values ($1, $2, $3, $4, $5)
        on conflict (kind) do update
        set orphans = excluded.orphans, bytes = excluded.bytes, oldest_at = excluded.oldest_at, as_of = excluded.as_of";
    db.write_one_again(move |mut tx| {
        Box::pin(async move {
            sql!(tx.on(), c => sqlx::query(query)
                .bind(sum.kind)
                .bind(sum.orphans)
                .bind(sum.bytes)
                .bind(sum.oldest_at)
                .bind(sum.as_of)
                .execute(c)
                .await
                .map(drop))?;
            Ok(())
        })
    })
    .await
}

/// What the last complete sweeps have found, of the kinds that were ever swept.
pub async fn sums(db: &Db) -> Result<Vec<Sum>, LedgerError> {
    let query = "select kind, orphans, bytes, oldest_at, as_of from sweeps order by kind";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).fetch_all(c).await)?)
}

/// Where the scheduled sweep below the prefix stopped, and what it had found until there; `None` when it is to begin anew.
pub async fn place(db: &Db, prefix: &str) -> Result<Option<(String, Tally)>, LedgerError> {
    let query = "select reached, orphans, bytes, oldest_at from sweep_places where prefix = $1";
    let place: Option<(String, i64, i64, Option<Timestamp>)> =
        sql!(db.reader(), c => sqlx::query_as(query).bind(prefix).fetch_optional(c).await)?;
    Ok(place.map(|(reached, orphans, bytes, oldest_at)| (reached, Tally { orphans, bytes, oldest_at })))
}

/// Keeps how far the scheduled sweep has come, and what it has found so far.
pub async fn keep_place(
    db: &Db,
    prefix: &'static str,
    (reached, found): (&str, Tally),
    now: Timestamp,
) -> Result<(), LedgerError> {
    let query = "insert into sweep_places (prefix, reached, orphans, bytes, oldest_at, reached_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (prefix) do update
        set reached = excluded.reached, orphans = excluded.orphans, bytes = excluded.bytes,
            oldest_at = excluded.oldest_at, reached_at = excluded.reached_at";
    let reached = keepable(reached);
    db.write_hint(move |mut tx| {
        Box::pin(async move {
            sql!(tx.on(), c => sqlx::query(query)
                .bind(prefix)
                .bind(reached)
                .bind(found.orphans)
                .bind(found.bytes)
                .bind(found.oldest_at)
                .bind(now)
                .execute(c)
                .await
                .map(drop))?;
            Ok(())
        })
    })
    .await
}

/// The next scheduled sweep below the prefix begins anew.
pub async fn forget_place(db: &Db, prefix: &'static str) -> Result<(), LedgerError> {
    db.write_one(move |mut tx| {
        Box::pin(async move {
            let query = "delete from sweep_places where prefix = $1";
            sql!(tx.on(), c => sqlx::query(query).bind(prefix).execute(c).await.map(drop))?;
            Ok(())
        })
    })
    .await
}
