//! Batches: many uploads that were asked for by one call, or any number of files under one policy.

use uuid::Uuid;

use super::target::TargetKind;
use super::{Status, Target, Timestamp, TraceParent, words};

/// The most lines that one call may carry.
pub const MOST_LINES: usize = 10_000;

/// The most files that one policy may allow.
pub const MOST_FILES: i64 = 1_000_000;

words! {
    /// How a batch's files come in.
    Mode, "a mode" {
        /// Each line is an upload with a policy of its own.
        Each = "each",
        /// One policy for any number of files, each under a key that ends in its relative path.
        Prefix = "prefix",
    }
}

/// One row of the ledger.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Batch {
    /// UUIDv7.
    pub id: Uuid,
    /// Whose it is.
    pub org_id: Uuid,
    /// Whose key asked for it.
    pub user_id: Uuid,
    /// How its files come in.
    pub mode: Mode,
    /// Order or style; `None` when it is for neither.
    pub target_kind: Option<TargetKind>,
    /// The target's number; set exactly when the kind is.
    pub target_number: Option<String>,
    /// How many lines were sent; set exactly in mode `each`.
    pub lines: Option<i64>,
    /// How many of them an earlier upload's ref stands for.
    pub known: i64,
    /// How many files it takes; set exactly in mode `prefix`.
    pub max_files: Option<i64>,
    /// Bytes that one file may have; set exactly in mode `prefix`.
    pub max_file_size: Option<i64>,
    /// How many objects were let in, against `max_files`; mode `prefix`.
    pub admitted: i64,
    /// The policy that was signed last, as JSON text; mode `prefix`.
    pub policy: Option<String>,
    /// When that policy ends; mode `prefix`.
    pub policy_expires_at: Option<Timestamp>,
    /// The generation of manifest lines that holds; `None` without a manifest.
    pub manifest: Option<i64>,
    /// How many lines the manifest has.
    pub manifest_lines: Option<i64>,
    /// How many of them name a file that has an upload; mode `prefix`.
    pub matched: i64,
    /// When its job is put on again; `None` once no line is left to become an upload.
    pub resume_at: Option<Timestamp>,
    /// How often its job was put on again since it last got on.
    pub resumes: i64,
    /// When its objects are listed next, for those whose notice was lost; mode `prefix`, while it is open.
    pub next_poll_at: Option<Timestamp>,
    /// How far the listing that is under way has come; `None` when none is.
    pub listed_to: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When the row last changed; moves of its uploads do not count.
    pub updated_at: Timestamp,
    /// When it ceased to take anything in.
    pub closed_at: Option<Timestamp>,
    /// The trace of the request that asked for it, which its uploads share.
    pub traceparent: Option<TraceParent>,
}

impl Batch {
    /// A batch that was asked for just now, of so many lines.
    #[must_use]
    pub fn each((org_id, user_id): (Uuid, Uuid), target: Option<Target>, lines: i64, now: Timestamp) -> Self {
        Self { lines: Some(lines), ..Self::bare((org_id, user_id), Mode::Each, target, now) }
    }

    /// A batch that was asked for just now, for so many files of so many bytes at most.
    #[must_use]
    pub fn prefix(
        (org_id, user_id): (Uuid, Uuid),
        target: Option<Target>,
        (max_files, max_file_size): (i64, i64),
        now: Timestamp,
    ) -> Self {
        let (max_files, max_file_size) = (Some(max_files), Some(max_file_size));
        Self { max_files, max_file_size, ..Self::bare((org_id, user_id), Mode::Prefix, target, now) }
    }

    fn bare((org_id, user_id): (Uuid, Uuid), mode: Mode, target: Option<Target>, now: Timestamp) -> Self {
        let (target_kind, target_number) = target.map(|target| (target.kind, target.number)).unzip();
        Self {
            id: Uuid::now_v7(),
            org_id,
            user_id,
            mode,
            target_kind,
            target_number,
            lines: None,
            known: 0,
            max_files: None,
            max_file_size: None,
            admitted: 0,
            policy: None,
            policy_expires_at: None,
            manifest: None,
            manifest_lines: None,
            matched: 0,
            resume_at: None,
            resumes: 0,
            next_poll_at: None,
            listed_to: None,
            created_at: now,
            updated_at: now,
            closed_at: None,
            traceparent: None,
        }
    }

    /// What its files are for, unless a line says otherwise.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        Some(Target { kind: self.target_kind?, number: self.target_number.clone()? })
    }
}

/// How many uploads of a batch stand in one state, and their bytes: as found, or else as declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Count {
    /// The state.
    pub status: Status,
    /// How many.
    pub uploads: i64,
    /// Bytes.
    pub bytes: i64,
}

/// How far a batch has come: its tasks are the uploads that it has to see to an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// All of them.
    pub tasks: i64,
    /// Nothing has come in for them yet.
    pub pending: i64,
    /// Their bytes are being verified and stored.
    pub running: i64,
    /// They are files.
    pub successes: i64,
    /// They are not and will not be.
    pub failures: i64,
}

impl Progress {
    /// Of a batch whose uploads stand so.
    #[must_use]
    pub fn of(batch: &Batch, counts: &[Count]) -> Self {
        let sum = |wanted: &[Status]| -> i64 {
            counts.iter().filter(|count| wanted.contains(&count.status)).map(|count| count.uploads).sum()
        };
        let uploads: i64 = counts.iter().map(|count| count.uploads).sum();
        let tasks = match batch.mode {
            Mode::Each => (batch.lines.unwrap_or(0) - batch.known).max(uploads),
            Mode::Prefix => uploads + (batch.manifest_lines.unwrap_or(0) - batch.matched).max(0),
        };
        let running = sum(&[Status::Arrived, Status::Verified]);
        let successes = sum(&[Status::Done]);
        // Lines of a batch, or of its manifest, that was cancelled before they were uploads: they fail with it.
        let dropped = if batch.closed_at.is_some() { tasks - uploads } else { 0 };
        let failures = sum(&[Status::Rejected, Status::Expired, Status::Cancelled]) + dropped;
        Self { tasks, pending: tasks - running - successes - failures, running, successes, failures }
    }

    /// Whether every task has ended. A batch without any has nothing more to wait for.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.pending == 0 && self.running == 0
    }

    /// The part of the tasks that has ended, from 0 to 1, with four decimals; 1 when there are none.
    #[must_use]
    pub fn fraction(self) -> f64 {
        if self.tasks == 0 {
            return 1.0;
        }
        let ended = i128::from(self.successes + self.failures);
        // In whole ten-thousandths, rounded down: what is not over does not show 1.
        let parts = i32::try_from(ended * 10_000 / i128::from(self.tasks)).unwrap_or(10_000);
        f64::from(parts) / 10_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(status: Status, uploads: i64) -> Count {
        Count { status, uploads, bytes: 0 }
    }

    fn each(lines: i64) -> Batch {
        Batch::each((Uuid::nil(), Uuid::nil()), None, lines, Timestamp::from_millis(0))
    }

    #[test]
    fn lines_without_a_row_are_pending_and_known_ones_are_no_task() {
        let batch = Batch { known: 2, ..each(10) };
        let progress =
            Progress::of(&batch, &[count(Status::Issued, 1), count(Status::Arrived, 1), count(Status::Done, 3)]);
        assert_eq!(progress, Progress { tasks: 8, pending: 4, running: 1, successes: 3, failures: 0 });
        assert!(!progress.is_over());
        assert!((progress.fraction() - 0.375).abs() < f64::EPSILON);
    }

    #[test]
    fn lines_that_were_dropped_have_failed() {
        let cancelled = Batch { closed_at: Some(Timestamp::from_millis(1)), ..each(10) };
        let progress = Progress::of(&cancelled, &[count(Status::Cancelled, 3), count(Status::Done, 1)]);
        assert_eq!(progress, Progress { tasks: 10, pending: 0, running: 0, successes: 1, failures: 9 });
    }

    #[test]
    fn what_a_manifest_promises_is_pending_until_it_comes() {
        let prefix = Batch::prefix((Uuid::nil(), Uuid::nil()), None, (100, 5), Timestamp::from_millis(0));
        let promised = Batch { manifest_lines: Some(3), matched: 2, ..prefix.clone() };
        let counts = [count(Status::Done, 1), count(Status::Rejected, 1)];
        assert_eq!(Progress::of(&promised, &counts).pending, 1);
        assert!(Progress::of(&prefix, &counts).is_over());
    }

    #[test]
    fn files_that_no_manifest_names_do_not_stand_for_those_it_promises() {
        let prefix = Batch::prefix((Uuid::nil(), Uuid::nil()), None, (100, 5), Timestamp::from_millis(0));
        let promised = Batch { manifest_lines: Some(3), matched: 1, ..prefix };
        let progress = Progress::of(&promised, &[count(Status::Done, 5)]);
        assert_eq!(progress, Progress { tasks: 7, pending: 2, running: 0, successes: 5, failures: 0 });
    }

    #[test]
    fn what_a_manifest_promised_has_failed_once_its_batch_was_cancelled() {
        let prefix = Batch::prefix((Uuid::nil(), Uuid::nil()), None, (100, 5), Timestamp::from_millis(0));
        let closed_at = Some(Timestamp::from_millis(1));
        let cancelled = Batch { manifest_lines: Some(3), matched: 1, closed_at, ..prefix };
        let progress = Progress::of(&cancelled, &[count(Status::Done, 1)]);
        assert_eq!(progress, Progress { tasks: 3, pending: 0, running: 0, successes: 1, failures: 2 });
    }

    #[test]
    fn almost_over_does_not_show_one() {
        let almost = Progress { tasks: 1_000_000, successes: 999_999, running: 1, ..Progress::default() };
        assert!(almost.fraction() < 1.0);
        assert!((Progress::default().fraction() - 1.0).abs() < f64::EPSILON);
    }
}
