//! The door as clients see it.

mod access;
mod admin;
mod admin_timeline;
mod batches;
mod deletes;
mod errors;
mod files;
mod idempotency;
mod lists;
mod notices;
mod operations;
mod prefix;
mod uploads;
mod workers;
