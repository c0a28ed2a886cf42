//! What a check has found: a value, in words for a person and in JSON for a machine.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::SERVICE;

/// One check and how it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at; stays the same from release to release.
    pub(crate) name: &'static str,
    /// How it came out.
    pub(crate) outcome: Outcome,
}

/// How a check came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it should be; with what was seen.
    Ok(String),
    /// It works, and somebody should know something.
    Warning(Trouble),
    /// It does not work.
    Failed(Trouble),
    /// It was not looked at, and why.
    Skipped(String),
}

/// What is wrong, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What is wrong.
    pub(crate) detail: String,
    /// What to do: commands or settings.
    pub(crate) mend: String,
}

/// The word for an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// It works, but.
    Warning,
    /// It does not work.
    Failed,
    /// Not looked at.
    Skipped,
}

impl Outcome {
    /// As it should be.
    pub(crate) fn ok(seen: impl Into<String>) -> Self {
        Self::Ok(line(&seen.into()))
    }

    /// It works, and this should be known.
    pub(crate) fn warning(detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::Warning(Trouble { detail: line(&detail.into()), mend: mend.into() })
    }

    /// It does not work.
    pub(crate) fn failed(detail: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::Failed(Trouble { detail: line(&detail.into()), mend: mend.into() })
    }

    /// It was not looked at.
    pub(crate) fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped(line(&why.into()))
    }

    /// With the name of the bucket, or whatever it is about, in the commands that mend it, where they say `NAME`.
    pub(crate) fn naming(self, name: &str) -> Self {
        let named = |trouble: Trouble| Trouble { mend: trouble.mend.replace("NAME", name), ..trouble };
        match self {
            Self::Warning(trouble) => Self::Warning(named(trouble)),
            Self::Failed(trouble) => Self::Failed(named(trouble)),
            fine => fine,
        }
    }

    /// As a finding of that check.
    pub(crate) const fn of(self, name: &'static str) -> Finding {
        Finding { name, outcome: self }
    }
}

/// As one line that can be read to its end: what servers say has several, and may be a page.
fn line(text: &str) -> String {
    const LONGEST: usize = 600;
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

impl Finding {
    /// The word for its outcome.
    pub(crate) const fn status(&self) -> Status {
        match self.outcome {
            Outcome::Ok(_) => Status::Ok,
            Outcome::Warning(_) => Status::Warning,
            Outcome::Failed(_) => Status::Failed,
            Outcome::Skipped(_) => Status::Skipped,
        }
    }

    fn parts(&self) -> (&str, Option<&str>) {
        match &self.outcome {
            Outcome::Ok(detail) | Outcome::Skipped(detail) => (detail, None),
            Outcome::Warning(trouble) | Outcome::Failed(trouble) => (&trouble.detail, Some(&trouble.mend)),
        }
    }

    fn to_json(&self) -> Value {
        let (detail, mend) = self.parts();
        json!({ "name": self.name, "status": self.status(), "detail": detail, "mend": mend })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

/// One line, and below it how to mend it.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (detail, mend) = self.parts();
        writeln!(f, "{:<8} {:<20} {detail}", self.status(), self.name)?;
        for line in mend.unwrap_or_default().lines() {
            writeln!(f, "{:<8} {:<20} → {line}", "", "")?;
        }
        Ok(())
    }
}

/// All that was found, in the order in which it was looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// Whether nothing has failed; warnings are allowed.
    pub(crate) fn are_good(&self) -> bool {
        self.count(Status::Failed) == 0
    }

    /// Whether a check was made and has not failed.
    pub(crate) fn passed(&self, name: &str) -> bool {
        let found = self.0.iter().find(|finding| finding.name == name);
        found.is_some_and(|finding| matches!(finding.status(), Status::Ok | Status::Warning))
    }

    /// Whether a check was made and has failed.
    pub(crate) fn failed(&self, name: &str) -> bool {
        self.count_of(name, Status::Failed) > 0
    }

    /// `{"ok": …, "checks": […]}`
    pub(crate) fn to_json(&self) -> Value {
        json!({ "ok": self.are_good(), "checks": self.0.iter().map(Finding::to_json).collect::<Vec<_>>() })
    }

    /// The last line.
    pub(crate) fn sum(&self) -> String {
        let of = |status| self.count(status);
        let (ok, warnings) = (of(Status::Ok), of(Status::Warning));
        let (failed, skipped) = (of(Status::Failed), of(Status::Skipped));
        let verdict = match (failed, warnings) {
            (0, _) if self.count_of(SERVICE, Status::Warning) > 0 => "It would work, but nobody serves now",
            (0, 0) => "All is well",
            (0, _) => "It works",
            _ => "It does not work",
        };
        let plural = if warnings == 1 { "warning" } else { "warnings" };
        format!("{verdict}: {ok} ok, {warnings} {plural}, {failed} failed, {skipped} skipped.")
    }

    fn count_of(&self, name: &str, status: Status) -> usize {
        self.0.iter().filter(|finding| finding.name == name && finding.status() == status).count()
    }

    fn count(&self, status: Status) -> usize {
        self.0.iter().filter(|finding| finding.status() == status).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        Findings(vec![
            Outcome::ok("it answers").of("ledger"),
            Outcome::warning("it may lose hints", "set appendonly yes").of("redis"),
            Outcome::skipped("the bucket is a folder").of("cors"),
        ])
    }

    #[test]
    fn a_finding_is_a_line_with_its_mend_below() {
        let lines: String = findings().0.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            "ok       ledger               it answers\n\
             warning  redis                it may lose hints\n                              → set appendonly yes\n\
             skipped  cors                 the bucket is a folder\n"
        );
    }

    #[test]
    fn what_a_server_said_is_cut_to_one_line() {
        let Outcome::Ok(seen) = Outcome::ok(format!("a\n  b {}", "é".repeat(1000))) else { panic!("it is ok") };
        assert!(seen.starts_with("a b é") && seen.ends_with('…') && seen.chars().count() == 601, "{seen}");
    }

    #[test]
    fn what_would_work_is_not_said_to_work() {
        let gone = Outcome::warning("nobody serves now", "longshore up").of(SERVICE);
        let findings = Findings(vec![Outcome::ok("it went through").of("round trip"), gone]);
        assert_eq!(findings.sum(), "It would work, but nobody serves now: 1 ok, 1 warning, 0 failed, 0 skipped.");
        assert!(findings.are_good());
    }

    #[test]
    fn warnings_are_allowed_and_failures_are_not() {
        let mut findings = findings();
        assert!(findings.are_good());
        assert_eq!(findings.sum(), "It works: 1 ok, 1 warning, 0 failed, 1 skipped.");

        findings.0.push(Outcome::failed("it is full", "free some space").of("disk"));
        assert!(!findings.are_good());
        assert!(findings.passed("redis") && !findings.passed("disk") && !findings.passed("cors"));
        let json = findings.to_json();
        assert_eq!(json["ok"], false);
        assert_eq!(
            json["checks"][3],
            json!({ "name": "disk", "status": "failed", "detail": "it is full", "mend": "free some space" })
        );
        assert_eq!(json["checks"][0]["mend"], Value::Null);
    }
}
