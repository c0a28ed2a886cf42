//! The door as clients see it.

mod access;
mod errors;
mod files;
mod notices;
mod operations;
mod prefix;
mod uploads;
