//! The door as clients see it.

mod access;
mod errors;
mod files;
mod operations;
mod uploads;
