//! The door as clients see it.

mod access;
mod batches;
mod errors;
mod files;
mod notices;
mod operations;
mod uploads;
