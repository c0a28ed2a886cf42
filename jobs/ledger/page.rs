//! Which part of a list to read, and a list's text for the filters that are set.
//!
//! A filter is a condition only where it is set: SQLite does not look into parameters when it plans, and would read every row
//! of an org for `$2 is null or filename = $2`. Where it is not set, `$2 is null` stands in its place, so that the parameters
//! keep their numbers.

use uuid::Uuid;

/// Which part of a list that is in the order of its ids.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Oldest first instead of newest first.
    pub ascending: bool,
    /// Behind this id in the list's order; `None` from the start.
    pub after: Option<Uuid>,
    /// At most so many.
    pub limit: i64,
    /// Leaves out so many.
    pub offset: i64,
}

/// Counting stops here: a client that reads this as the count of a list asks for more than a page can show.
pub const COUNT_CAP: i64 = 100_000;

/// The condition of a filter that is set, or else what stands in its place.
pub(super) const fn condition(is_set: bool, set: &'static str, unset: &'static str) -> &'static str {
    if is_set { set } else { unset }
}

/// The text that reads a page: `filtered` begins with `from`; the page's parameters are `$n`, `$n+1`, `$n+2` from this one on.
pub(super) fn select_page(filtered: &str, page: Page, n: usize) -> String {
    let (limit, offset) = (n + 1, n + 2);
    let order = if page.ascending { "id" } else { "id desc" };
    let behind = match (page.after, page.ascending) {
        (None, _) => format!("${n} is null"),
        (Some(_), true) => format!("id > ${n}"),
        (Some(_), false) => format!("id < ${n}"),
    };
    format!("select * {filtered} and {behind} order by {order} limit ${limit} offset ${offset}")
}

/// The text that counts as far as parameter `$n` says.
pub(super) fn select_count(filtered: &str, n: usize) -> String {
    format!("select count(*) from (select 1 {filtered} limit ${n}) capped")
}
