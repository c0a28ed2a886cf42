//! `longshore bench`

use clap::{Args, Subcommand};

use super::{Failure, say};
use crate::bench;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum BenchCommand {
    /// No-op jobs per second, pushed and drained, and the latency from push to start.
    Queue,
    /// Small files per second, end to end.
    Files(FilesArgs),
    /// Latency of POST /api/uploads with its policy in the answer.
    Intake(IntakeLoadArgs),
    /// Verify of a large object against raw SHA-256 over the same file.
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(super) struct FilesArgs {
    /// How many files.
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    pub(super) files: u64,
    /// Bytes of each.
    #[arg(long, default_value_t = 10_240, value_name = "BYTES")]
    pub(super) size: usize,
    /// How many at once.
    #[arg(long, default_value_t = 512, value_name = "N")]
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

pub(super) async fn run(config: Config, command: BenchCommand) -> Result<(), Failure> {
    let measured = match command {
        BenchCommand::Queue => bench::queue(&config).await.map(|figures| figures.to_string()),
        BenchCommand::Files(args) => {
            bench::files(&config, args.files, args.size, args.concurrency).await.map(|figures| figures.to_string())
        }
        BenchCommand::Intake(args) => {
            bench::intake(&config, args.rate, args.seconds).await.map(|figures| figures.to_string())
        }
        BenchCommand::Verify(args) => {
            bench::verify(&config, args.size, args.rounds).await.map(|figures| figures.to_string())
        }
    };
    let figures = measured.map_err(|error| Failure::new("nothing was measured").because(&*error))?;
    say(figures);
    Ok(())
}
