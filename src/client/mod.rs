//! The client's side of the API: what `longshore ingest` speaks to a server with.
//!
//! It goes over real HTTP even to a server in the same process, so that what it shows is what any other client would see.

pub(crate) mod api;
mod batches;
mod call;
mod files;
pub(crate) mod form;
pub(crate) mod ingest;
mod transport;

pub(crate) use api::Api;
pub(crate) use transport::{ApiError, build_for, choose_cryptography};
