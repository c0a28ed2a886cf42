//! The one place that prints results.

use std::fmt;
use std::io::Write as _;

use uuid::Uuid;

/// Writes a result to stdout as it is. A reader that has gone away is no failure.
pub(crate) fn say(text: impl fmt::Display) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = write!(out, "{text}").and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads the result");
    }
}

/// Writes a remark to stderr, so that stdout holds the result alone.
pub(crate) fn remark(text: impl fmt::Display) {
    if let Err(error) = writeln!(std::io::stderr().lock(), "{text}") {
        tracing::debug!(%error, "nobody reads the remark");
    }
}

/// How much of an error stands in a row, in characters.
const LONGEST: usize = 120;

/// Of an error, what a row has room for.
pub(crate) fn first_line(error: &str) -> String {
    error.lines().next().unwrap_or_default().chars().take(LONGEST).collect()
}

/// What a job was about, as `longshore status` takes it.
pub(crate) fn about(subject: Uuid) -> String {
    if subject.is_nil() { "everything".to_owned() } else { subject.to_string() }
}

/// Rows in columns as wide as their widest cell, below their heads.
pub(crate) struct Columns {
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// Without rows yet.
    pub(crate) fn with_heads(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(ToString::to_string).collect()] }
    }

    /// One row more, as many cells as there are heads.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.rows[0].len()).map(width).collect();
        for row in &self.rows {
            let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut columns = Columns::with_heads(&["name", "id"]);
        columns.row(vec!["a".to_owned(), "1".to_owned()]);
        columns.row(vec!["longer".to_owned(), "2".to_owned()]);
        assert_eq!(columns.to_string(), "name    id\na       1\nlonger  2\n");
    }
}
