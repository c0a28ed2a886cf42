//! longshore: takes in uploads at high volume.
//!
//! One binary. [`cli`] reads the command line, [`app`] wires the parts, and the parts are: three doors ([`http`], [`notices`],
//! [`schedule`]), the [`queue`] with its workers, the [`bucket`], and the pipeline itself, which is the crate
//! [`longshore_jobs`] and knows nothing of all this.

mod app;
mod aws;
mod bench;
mod bucket;
mod cli;
mod client;
mod config;
mod doctor;
mod first_key;
mod folder;
mod http;
mod inbox;
mod listen;
mod metrics;
mod notices;
mod queue;
mod schedule;
mod shutdown;
mod systemd;
mod telemetry;

use std::process::ExitCode;

/// Many small allocations on several threads: in a profile of an ingest, libc, mostly its allocator, had a fifth of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
