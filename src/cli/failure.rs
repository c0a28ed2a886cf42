//! How a command fails: what, why, what to do, and the exit code.

use std::error::Error;
use std::fmt;
use std::io::Write as _;
use std::process::ExitCode;

use longshore_jobs::job::with_causes;
use longshore_jobs::ledger::LedgerError;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    what: String,
    why: Option<String>,
    hint: Option<String>,
}

impl Failure {
    /// It failed; exit code 1.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { code: 1, what: what.into(), why: None, hint: None }
    }

    /// It was asked for in a wrong way; exit code 2.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { code: 2, ..Self::new(what) }
    }

    /// Failed, and what there is to say has been said.
    pub(crate) fn told() -> Self {
        Self::new("")
    }

    /// Adds the cause, with its own causes.
    pub(crate) fn because(mut self, error: &dyn Error) -> Self {
        self.why = Some(with_causes(error));
        self
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What and why on one line, and what to do, for whoever tells of it in another way.
    pub(super) fn in_words(&self) -> (String, Option<&str>) {
        let why = self.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        (format!("{}{why}", self.what), self.hint.as_deref())
    }

    /// Says it on stderr and ends in its exit code.
    pub(super) fn tell(&self) -> ExitCode {
        let code = ExitCode::from(self.code);
        // When stderr is gone, the exit code has to do.
        if self.what.is_empty() || write!(std::io::stderr(), "{self}").is_err() {
            return code;
        }
        code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "longshore: {}", self.what)?;
        if let Some(why) = &self.why {
            writeln!(f, "  why: {why}")?;
        }
        if let Some(hint) = &self.hint {
            writeln!(f, "  do:  {hint}")?;
        }
        Ok(())
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self::new("the ledger could not do it").because(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_why_and_what_to_do() {
        let error = std::io::Error::other("disk full");
        let failure = Failure::new("the key was not made").because(&error).hint("free some space");
        assert_eq!(failure.to_string(), "longshore: the key was not made\n  why: disk full\n  do:  free some space\n");
    }
}
