//! What can be wrong with a configuration, and how it is told.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `ops/longshore.toml`.
    Default,
    /// A file of the operator's.
    File(PathBuf),
    /// A variable of this name.
    Environment(String),
    /// A flag of the command line.
    Flag,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// Where it was made.
    pub(crate) source: Source,
    /// The setting, for example `limits.max_size`; empty when it is about the whole file.
    pub(crate) path: String,
    /// What it was set to; `None` for secrets and where there is no value.
    pub(crate) text: Option<String>,
    /// What is wrong, and what to do.
    pub(crate) wrong: Wrong,
}

/// What is wrong with a value, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    what: String,
    hint: String,
}

impl Wrong {
    /// `what` continues a sentence that starts with the setting; `hint` is an order.
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.hint)
    }
}

/// Everything that is wrong with a configuration, at once.
#[derive(Debug, thiserror::Error)]
pub(crate) struct ConfigError {
    /// Never empty.
    pub(crate) mistakes: Vec<Mistake>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mistakes.len() {
            1 => f.write_str("the configuration has a mistake")?,
            several => write!(f, "the configuration has {several} mistakes")?,
        }
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Default => f.write_str(&self.path)?,
            Source::File(file) if self.path.is_empty() => write!(f, "{}", file.display())?,
            Source::File(file) => write!(f, "{}: {}", file.display(), self.path)?,
            Source::Environment(name) => f.write_str(name)?,
            Source::Flag => f.write_str(&flag(&self.path))?,
        }
        if let Some(text) = &self.text {
            write!(f, " = {text:?}")?;
        }
        write!(f, " {}", self.wrong)
    }
}

/// The flag that sets a path.
fn flag(path: &str) -> String {
    match path.strip_prefix("pools.") {
        Some(pool) => format!("--concurrency {pool}"),
        None => format!("--{}", path.replace(['_', '.'], "-")),
    }
}
