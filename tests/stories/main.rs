//! Stories through the real program: each starts its own server on a free port with its own folder, and ends it.
//!
//! The state is read over HTTP, as a client would, and nothing sleeps: answers are waited for with `Prefer: wait`.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]

mod arrivals;
mod bad_input;
mod crashes;
mod ingest;
mod isolation;
mod server;
mod uploads;
