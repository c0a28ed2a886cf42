//! Lists in parts: by `page`, or `after` the last entry of the part before, which stays right while others add to the list.

use longshore_jobs::ledger::page::{COUNT_CAP, Page};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::asked::Query;
use super::errors::ApiError;

const PER_PAGE: i64 = 30;
/// The most entries of most lists.
pub const MOST_PER_PAGE: i64 = 100;

/// Which part of a list an answer holds.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListPart {
    /// How many there are with these filters. Most lists count up to 100,000, the uploads of a batch are counted to the last.
    count: i64,
    /// Whether there are more than `count` says.
    count_capped: bool,
    page: i64,
    per_page: i64,
    /// `createdAt` or `-createdAt`.
    sort: &'static str,
    /// What to send as `after` to get the next part; null at the end.
    #[schema(required)]
    next: Option<Uuid>,
}

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
        Self::read_from(query, most, false)
    }

    /// As [`Paging::read`], oldest first unless `sort` says otherwise.
    pub fn read_rising(query: &Query, most: i64) -> Result<Self, ApiError> {
        Self::read_from(query, most, true)
    }

    fn read_from(query: &Query, most: i64, rising: bool) -> Result<Self, ApiError> {
        let (after, asked) = (query.parsed("after")?, query.counting("page", 1)?);
        Ok(Self {
            page: if after.is_some() { 1 } else { asked },
            per_page: query.counting("perPage", PER_PAGE)?.min(most),
            after,
            ascending: is_ascending(query, rising)?,
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
    pub fn tell(&self, next: Option<Uuid>, count: i64) -> ListPart {
        ListPart { count_capped: count > COUNT_CAP, ..self.tell_all(next, count.min(COUNT_CAP)) }
    }

    /// As [`Paging::tell`] where counting has no end.
    pub const fn tell_all(&self, next: Option<Uuid>, count: i64) -> ListPart {
        ListPart {
            count,
            count_capped: false,
            page: self.page,
            per_page: self.per_page,
            sort: if self.ascending { "createdAt" } else { "-createdAt" },
            next,
        }
    }
}

fn is_ascending(query: &Query, unsaid: bool) -> Result<bool, ApiError> {
    match query.text("sort")?.as_deref() {
        None => Ok(unsaid),
        Some("-createdAt") => Ok(false),
        Some("createdAt") => Ok(true),
        Some(_) => Err(query.fault("sort", "must be `createdAt` or `-createdAt`")),
    }
}
