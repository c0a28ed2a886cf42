//! The pipeline of longshore: true with or without HTTP, S3 or a queue engine.
//!
//! An upload is a row that moves through states; a job is what moves it along one edge. The row is the truth and the queue is
//! a hint: whatever a queue loses, [`resume_stalled`] puts back.
//!
//! ```text
//! requested → issued → arrived → verified → done
//!    │          │         │          └──────────→ rejected(reason)   also from arrived
//!    └──────────┴───→ expired                    requested, issued, arrived → cancelled
//! ```
//!
//! # A walk along the way
//!
//! A door writes a row and pushes [`issue_policy`], which signs what the client may put where; for a batch of thousands it
//! writes the lines and pushes [`issue_batch`], which makes uploads of some hundreds at a time. The client puts its bytes; a
//! notice from the bucket, a callback from the client or [`poll_arrivals`] pushes [`record_arrival`], which notes the version
//! that is there. [`verify_upload`] hashes exactly that version. [`store_file`] gives the bytes a place of their own or joins
//! them to the blob that the org has, and writes file, upload and report delta together; a second later [`fold_reports`]
//! brings the org's report up to date. Of a deleted file the entry goes at once; bytes that no entry refers to any more are
//! removed by [`collect_blobs`] after a grace.
//!
//! Under the prefix of a batch, clients put files that nobody has announced. There [`admit_object`] makes an upload of each
//! object that it is told of; [`list_batch`] finds those whose notice was lost, and [`close_batches`] has the last look.
//!
//! # Layout
//!
//! - [`job`]: what a job is, and [`job::perform`], the one wrapper that runs it; [`roster`]: every job there is.
//! - one file per job.
//! - [`model`]: pure types and rules; [`ledger`]: the SQL; [`outside`]: bucket, queue and clock as jobs see them.
//! - `testkit`: what tests use in their place.

#[macro_use]
pub mod ledger;
pub mod job;
pub mod model;
pub mod outside;
pub mod roster;

pub mod admit_object;
pub mod close_batches;
pub mod collect_blobs;
pub mod expire_uploads;
pub mod fold_reports;
pub mod issue_batch;
pub mod issue_policy;
pub mod list_batch;
pub mod noop;
pub mod poll_arrivals;
pub mod rebuild_reports;
pub mod record_arrival;
pub mod resume_stalled;
pub mod store_file;
pub mod sweep_bucket;
pub mod tidy_ledger;
pub mod verify_upload;

#[cfg(feature = "testkit")]
pub mod testkit;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod delete_tests;
#[cfg(test)]
mod move_tests;
