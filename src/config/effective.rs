//! The effective configuration as TOML, each setting with where it was made.

use std::fmt;

use super::mistakes::Source;

/// Path, shown text and source of every setting. `Display` is TOML that reads back as itself; secrets are `(hidden)`.
#[derive(Clone, Debug)]
pub(crate) struct Effective(Vec<(String, String, Source)>);

impl Effective {
    /// Settings outside of tables go first, as TOML wants it.
    pub(super) fn new(mut settings: Vec<(String, String, Source)>) -> Self {
        settings.sort_by_key(|(path, ..)| (path.contains('.'), path.clone()));
        Self(settings)
    }

    /// Path and shown text of every setting.
    #[cfg(test)]
    pub(crate) fn settings(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(path, text, _)| (path.as_str(), text.as_str())).collect()
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut open = "";
        for (path, text, source) in &self.0 {
            let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
            if table != open {
                writeln!(f, "\n[{table}]")?;
                open = table;
            }
            let line = format!("{key} = {}", value(text));
            match source {
                Source::Default => writeln!(f, "{line}")?,
                Source::File(file) => writeln!(f, "{line:<48}  # {}", file.display())?,
                Source::Environment(name) => writeln!(f, "{line:<48}  # {name}")?,
                Source::Flag => writeln!(f, "{line:<48}  # command line")?,
            }
        }
        Ok(())
    }
}

/// Whole numbers stay bare. A JSON string is a TOML string too.
fn value(text: &str) -> String {
    if text.parse::<u32>().is_ok_and(|number| number.to_string() == text) {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}
