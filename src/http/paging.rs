//! Lists in parts: by `page`, or `after` the last entry of the part before, which stays right while others add to the list.

use longshore_jobs::ledger::page::{COUNT_CAP, Page};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::asked::Query;
use super::errors::ApiError;

const PER_PAGE: i64 = 30;
/// The most entries of most lists.
pub const MOST_PER_PAGE: i64 = 100;

/// The part of a list that is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    page: i64,
    per_page: i64,
    after: Option<Uuid>,
    ascending: bool,
}

impl Paging {
    /// Reads `page`, `perPage` (cut to `most`), `after` and `sort`; 422 names the one that will not do.
    pub fn read(query: &Query, most: i64) -> Result<Self, ApiError> {
        let (after, asked) = (query.parsed("after")?, query.counting("page", 1)?);
        Ok(Self {
            page: if after.is_some() { 1 } else { asked },
            per_page: query.counting("perPage", PER_PAGE)?.min(most),
            after,
            ascending: is_ascending(query)?,
        })
    }

    /// For the ledger. One more than is shown tells whether there is a next part.
    pub const fn part(&self) -> Page {
        let offset = (self.page - 1).saturating_mul(self.per_page);
        Page { ascending: self.ascending, after: self.after, limit: self.per_page + 1, offset }
    }

    /// Takes away the row that is not shown. Returns where the next part begins; `None` on the last.
    pub fn cut<T>(&self, rows: &mut Vec<T>, id: impl Fn(&T) -> Uuid) -> Option<Uuid> {
        let shown = usize::try_from(self.per_page).unwrap_or(usize::MAX);
        let more = rows.len() > shown;
        rows.truncate(shown);
        rows.last().filter(|_| more).map(id)
    }

    /// Tells which part this is, and of how much.
    pub fn tell(&self, answer: &mut Map<String, Value>, next: Option<Uuid>, count: i64) {
        answer.extend([
            ("count".to_owned(), json!(count.min(COUNT_CAP))),
            ("countCapped".to_owned(), json!(count > COUNT_CAP)),
            ("page".to_owned(), json!(self.page)),
            ("perPage".to_owned(), json!(self.per_page)),
            ("sort".to_owned(), json!(if self.ascending { "createdAt" } else { "-createdAt" })),
            ("next".to_owned(), json!(next)),
        ]);
    }
}

fn is_ascending(query: &Query) -> Result<bool, ApiError> {
    match query.text("sort")?.as_deref() {
        None | Some("-createdAt") => Ok(false),
        Some("createdAt") => Ok(true),
        Some(_) => {
            Err(ApiError::UnprocessableQuery { name: "sort", fault: "must be `createdAt` or `-createdAt`".to_owned() })
        }
    }
}
