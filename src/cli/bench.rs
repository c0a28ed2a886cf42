//! `longshore bench`

use clap::{Args, Subcommand};

use super::Failure;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// No-op jobs per second, pushed and drained, and the latency from push to start.
    Queue(QueueArgs),
    /// Small files per second, end to end.
    Files(FilesArgs),
    /// Latency of POST /api/uploads with its policy in the answer.
    Intake(IntakeLoadArgs),
    /// Verify of a large object against raw SHA-256 over the same file.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(super) struct QueueArgs {
    /// Jobs to push and drain.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub(super) jobs: u64,
    /// Jobs that wait already.
    #[arg(long, default_value_t = 500_000, value_name = "N")]
    pub(super) waiting: u64,
}

#[derive(Debug, Args)]
pub(super) struct FilesArgs {
    /// How many files.
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    pub(super) files: u64,
    /// Bytes of each.
    #[arg(long, default_value_t = 10_240, value_name = "BYTES")]
    pub(super) size: u64,
    /// How many at once.
    #[arg(long, default_value_t = 32, value_name = "N")]
    pub(super) concurrency: usize,
}

#[derive(Debug, Args)]
pub(super) struct IntakeLoadArgs {
    /// Requests per second.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub(super) rate: u32,
    /// For so long.
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub(super) seconds: u32,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Bytes of the object.
    #[arg(long, default_value_t = 1 << 30, value_name = "BYTES")]
    pub(super) size: u64,
    /// How often to measure; the median counts.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub(super) rounds: u32,
}

pub(super) async fn run(_config: Config, command: BenchCommand) -> Result<(), Failure> {
    tracing::debug!(?command, "asked for");
    Err(Failure::new("`longshore bench` is not built into this version yet"))
}
