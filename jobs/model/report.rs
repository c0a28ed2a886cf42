//! An org's report: how many files it has and how much they weigh.

use super::Timestamp;

/// A change to a report, appended by whoever changes a file. Also the sum of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Delta {
    /// Entries.
    pub files: i64,
    /// Bytes of all entries.
    pub bytes: i64,
    /// Distinct contents.
    pub unique_files: i64,
    /// Bytes of the distinct contents.
    pub unique_bytes: i64,
}

impl Delta {
    /// Nothing changes.
    pub const NONE: Self = Self { files: 0, bytes: 0, unique_files: 0, unique_bytes: 0 };

    /// A file entry of `size` bytes more; `new` when its content is new to the org.
    #[must_use]
    pub const fn stored(size: i64, new: bool) -> Self {
        let unique = if new { 1 } else { 0 };
        Self { files: 1, bytes: size, unique_files: unique, unique_bytes: size * unique }
    }

    /// A file entry of `size` bytes less; `last` when it was the last one with its content.
    #[must_use]
    pub const fn deleted(size: i64, last: bool) -> Self {
        Self::NONE.minus(Self::stored(size, last))
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
            unique_files: self.unique_files + other.unique_files,
            unique_bytes: self.unique_bytes + other.unique_bytes,
        }
    }

    /// What must be added to `other` to reach this.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self {
            files: self.files - other.files,
            bytes: self.bytes - other.bytes,
            unique_files: self.unique_files - other.unique_files,
            unique_bytes: self.unique_bytes - other.unique_bytes,
        }
    }
}

/// The materialized report of one org.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Report {
    /// The totals.
    #[sqlx(flatten)]
    pub totals: Delta,
    /// When the last fold or rebuild wrote it; `None` before the first.
    pub as_of: Option<Timestamp>,
}

/// Bytes as megabytes (10^6), rounded to two decimals.
#[must_use]
pub fn megabytes(bytes: i64) -> f64 {
    let hundredths = (i128::from(bytes) + 5_000).div_euclid(10_000);
    #[expect(clippy::cast_precision_loss, reason = "2^53 hundredths of a megabyte are 90 exabytes")]
    let value = hundredths as f64 / 100.0;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn megabytes_have_two_decimals_at_most() {
        for (bytes, expected) in
            [(0, 0.0), (4_999, 0.0), (5_000, 0.01), (3_574_392, 3.57), (1_000_000, 1.0), (98_372_004_999, 98_372.0)]
        {
            assert!((megabytes(bytes) - expected).abs() < f64::EPSILON, "{bytes}");
        }
    }
}
