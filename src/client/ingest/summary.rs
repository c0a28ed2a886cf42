//! What a run has come to.

use std::fmt;
use std::time::Duration;

use indicatif::{DecimalBytes, HumanCount};
use serde::Serialize;

use super::outcome::{End, Outcome};
use super::walk::{Found, Walked};
use crate::client::api::Report;

/// How many failures are told of in full; the rest is counted.
const TOLD: usize = 50;

/// What a run has come to. `Display` is for people, `Serialize` for machines.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// Files that were found, whatever became of them.
    pub(crate) files: u64,
    /// Bytes of the files found.
    pub(crate) bytes: u64,
    /// Files whose bytes the org did not have.
    pub(crate) uploaded: u64,
    /// Their bytes.
    pub(crate) bytes_uploaded: u64,
    /// Files whose bytes the org had.
    pub(crate) duplicates: u64,
    /// Their bytes, which are not kept twice.
    pub(crate) bytes_saved: u64,
    /// Files that an earlier run had uploaded.
    pub(crate) already_there: u64,
    /// Links and special files that were passed over.
    pub(crate) skipped: u64,
    /// Files that are not there, with reasons.
    pub(crate) failures: Vec<Failure>,
    /// Why the run ended before its end; `None` when it did not.
    pub(crate) broken_off: Option<String>,
    /// How long it took until the last file was done.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub(crate) elapsed: Duration,
    /// The org's report afterwards; `None` when it could not be had.
    pub(crate) report: Option<Report>,
}

/// A file that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// What it is called, or where it is.
    pub(crate) path: String,
    /// For a human.
    pub(crate) reason: String,
}

fn as_seconds<S: serde::Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((length.as_secs_f64() * 1e3).round() / 1e3)
}

impl Summary {
    /// Whether every file is there.
    pub(crate) fn is_complete(&self) -> bool {
        self.failures.is_empty() && self.broken_off.is_none()
    }

    pub(super) fn of_walk(&mut self, walked: Walked) -> Vec<Found> {
        self.files = (walked.files.len() + walked.failures.len()) as u64;
        self.bytes = walked.files.iter().map(|file| file.size).sum();
        self.skipped = walked.skipped;
        self.failures = walked.failures.into_iter().map(|(path, reason)| Failure { path, reason }).collect();
        walked.files
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        match outcome.end {
            End::Uploaded => {
                self.uploaded += 1;
                self.bytes_uploaded += outcome.size;
            }
            End::Duplicate => {
                self.duplicates += 1;
                self.bytes_saved += outcome.size;
            }
            End::AlreadyThere => self.already_there += 1,
            End::Failed { reason } => self.failures.push(Failure { path: outcome.name, reason }),
        }
    }

    /// Files that are there, however they came.
    fn done(&self) -> u64 {
        self.uploaded + self.duplicates + self.already_there
    }

    fn write_failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in self.failures.iter().take(TOLD) {
            writeln!(f, "    {}: {}", failure.path, failure.reason)?;
        }
        match self.failures.len().saturating_sub(TOLD) {
            0 => Ok(()),
            more => writeln!(f, "    and {more} more; --json tells of each"),
        }
    }

    fn write_report(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(report) = &self.report else { return Ok(()) };
        let (count, unique) = (HumanCount(report.count), HumanCount(report.unique_count));
        writeln!(f, "The org has {count} files of {} MB, {unique} distinct of {} MB.", report.size, report.unique_size)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.broken_off {
            writeln!(f, "Broken off: {why}. Run again to go on.")?;
        }
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.done() as f64 / seconds.max(0.001);
        let (done, files) = (HumanCount(self.done()), HumanCount(self.files));
        writeln!(f, "{done} of {files} files done, {} in {seconds:.1} s, {rate:.0} files/s", DecimalBytes(self.bytes))?;
        let line = |f: &mut fmt::Formatter<'_>, what: &str, count: u64, more: String| {
            if count == 0 { Ok(()) } else { writeln!(f, "  {what:<14}{:>9}{more}", HumanCount(count).to_string()) }
        };
        line(f, "uploaded", self.uploaded, format!("  {}", DecimalBytes(self.bytes_uploaded)))?;
        line(f, "duplicates", self.duplicates, format!("  {} saved", DecimalBytes(self.bytes_saved)))?;
        line(f, "already there", self.already_there, String::new())?;
        line(f, "passed over", self.skipped, "  links and special files".to_owned())?;
        line(f, "failed", self.failures.len() as u64, String::new())?;
        self.write_failures(f)?;
        self.write_report(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_tells_what_became_of_every_file() {
        let report = Report { count: 1_200, size: 3.5, unique_count: 900, unique_size: 2.0, as_of: None };
        let failure = |n| Failure { path: format!("f{n}"), reason: "permission denied".to_owned() };
        let summary = Summary {
            files: 1_060,
            bytes: 5_000_000,
            uploaded: 900,
            bytes_uploaded: 4_000_000,
            duplicates: 95,
            bytes_saved: 950_000,
            already_there: 5,
            failures: (0..60).map(failure).collect(),
            elapsed: Duration::from_millis(2_500),
            report: Some(report),
            ..Summary::default()
        };

        let told = summary.to_string();

        for part in [
            "1,000 of 1,060 files done, 5.00 MB in 2.5 s, 400 files/s",
            "  uploaded            900  4.00 MB",
            "  duplicates           95  950.00 kB saved",
            "  failed               60",
            "    f0: permission denied",
            "    and 10 more",
            "The org has 1,200 files of 3.5 MB, 900 distinct of 2 MB.",
        ] {
            assert!(told.contains(part), "{part:?} is missing in:\n{told}");
        }
        assert!(!told.contains("passed over") && !told.contains("f50"), "{told}");
        assert!(!summary.is_complete());
    }

    #[test]
    fn an_empty_folder_is_complete() {
        assert!(Summary::default().is_complete());
    }
}
