//! When a row that stands, an upload or a batch, has its job put on again.

use std::time::Duration;

use crate::model::Timestamp;

/// The condition that no dead letter holds back the row of this name in the query: there is none, the row has moved since that
/// job died and with it the letter's cause, or only another release's worker took the job and did not know it.
macro_rules! no_letter {
    ($row:literal) => {
        concat!(
            "not exists (
            select 1 from dead_letters d
            where d.subject = ",
            $row,
            ".id and d.died_at >= ",
            $row,
            ".updated_at and d.reason <> 'unknown_kind')"
        )
    };
}
pub(super) use no_letter;

/// When it is next put on again, having been so many times: after twice the wait each time.
pub(super) fn next_resume(base: Duration, resumes: i64, now: Timestamp) -> Timestamp {
    now + base * (1 << (resumes + 1).clamp(0, 10))
}
