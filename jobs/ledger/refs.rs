//! When a `ref` stands for an upload.
//!
//! It is the condition of the index `uploads_by_ref`, part by part. A query that leaves a part out is not answered by that index:
//! it reads the org from end to end, and takes an upload for one that holds its ref.

/// The condition, of the table at hand or of one by its name.
macro_rules! ref_stands {
    () => {
        "status not in ('rejected', 'expired', 'cancelled') and file_deleted_at is null"
    };
    ($table:literal) => {
        concat!($table, ".status not in ('rejected', 'expired', 'cancelled') and ", $table, ".file_deleted_at is null")
    };
}
pub(super) use ref_stands;
