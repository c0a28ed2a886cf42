//! An org's report as clients see it.

use longshore_jobs::model::Timestamp;
use longshore_jobs::model::report::{Report, megabytes};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::openapi::shapes;

/// The org's report.
#[derive(Serialize, ToSchema)]
pub struct ReportAnswer {
    pub message: &'static str,
    pub files: [ReportEntry; 1],
}

/// What the org's files come to. `unique` counts the same bytes once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportEntry {
    /// Files.
    #[schema(example = 3324)]
    count: i64,
    /// In MB of 1,000,000 bytes, with two decimals at most.
    #[schema(example = 98372)]
    size: f64,
    size_bytes: i64,
    unique_count: i64,
    /// In MB of 1,000,000 bytes, with two decimals at most.
    unique_size: f64,
    unique_size_bytes: i64,
    /// Until when changes are counted in; null before the first.
    #[schema(required, value_type = Option<shapes::Timestamp>)]
    as_of: Option<Timestamp>,
}

impl From<Report> for ReportEntry {
    fn from(report: Report) -> Self {
        let totals = report.totals;
        Self {
            count: totals.files,
            size: megabytes(totals.bytes),
            size_bytes: totals.bytes,
            unique_count: totals.unique_files,
            unique_size: megabytes(totals.unique_bytes),
            unique_size_bytes: totals.unique_bytes,
            as_of: report.as_of,
        }
    }
}
