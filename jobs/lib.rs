//! The pipeline of longshore.
#[macro_use]
pub mod ledger;
pub mod model;
pub mod job;
pub mod outside;
pub mod roster;
pub mod expire_uploads;
pub mod fold_reports;
pub mod issue_policy;
pub mod noop;
pub mod poll_arrivals;
pub mod rebuild_reports;
pub mod record_arrival;
pub mod resume_stalled;
pub mod store_file;
pub mod sweep_bucket;
pub mod verify_upload;
