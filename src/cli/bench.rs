//! `longshore bench`

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use url::Url;

use super::{Failure, say};
use crate::bench::{self, Uploads, light};
use crate::client::Api;
use crate::config::{Config, units};
use crate::queue::bench::Load;

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
    /// Prints the figures as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// No-op jobs per second, pushed and drained, and the latency from push to start.
    Queue(QueueArgs),
    /// Small files per second, end to end.
    Files(FilesArgs),
    /// Uploads per second against a running service, or one of the bench's own.
    Pipeline(PipelineArgs),
    /// Very many small files through one policy: files per second, and whether memory stays flat.
    Prefix(PrefixArgs),
    /// Latency of POST /api/uploads with its policy in the answer.
    Intake(IntakeLoadArgs),
    /// Ten thousand uploads by one call, and single uploads in the midst of it.
    Batch(BatchLoadArgs),
    /// Verify of a large object against raw SHA-256 over the same file.
    Verify(VerifyArgs),
    /// Reports over very many files: read, recounted, folded, and uploads beside that. On PostgreSQL as a superuser.
    Reports(ReportsArgs),
    /// A scrape of /metrics with very many uploads and jobs in the ledger. On PostgreSQL as a superuser.
    Scrape(ScrapeArgs),
    /// A light S3 and SQS in memory, for benches and drills. It checks no signature and no policy.
    ///
    /// It serves on --listen, for example 127.0.0.1:0 for a free port, and prints its URL. Any bucket is there; the one queue is
    /// /000000000000/notices.
    Cloud(CloudArgs),
}

#[derive(Debug, Args)]
struct QueueArgs {
    /// How many jobs to push and drain, one round for each number.
    #[arg(long, default_value = "20000,500000", value_delimiter = ',', value_name = "N,…")]
    jobs: Vec<usize>,
    /// Single pushes onto the idle queue.
    #[arg(long, default_value_t = 500, value_name = "N")]
    singles: usize,
    /// Bytes of a job's payload.
    #[arg(long, default_value_t = 200, value_name = "BYTES")]
    payload: usize,
}

#[derive(Debug, Args)]
struct FilesArgs {
    /// How many files.
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    files: u64,
    /// Bytes of each.
    #[arg(long, default_value_t = 10_240, value_name = "BYTES")]
    size: usize,
    /// How many at once.
    #[arg(long, default_value_t = 512, value_name = "N")]
    concurrency: usize,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("service").args(["server"]).requires("token"))]
struct PipelineArgs {
    /// The service; without it the bench starts one in its own process.
    #[arg(long, env = "LONGSHORE_SERVER", value_name = "URL")]
    server: Option<Url>,
    /// The token for the service.
    #[arg(long, env = "LONGSHORE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// How many uploads.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    uploads: u64,
    /// Bytes of each.
    #[arg(long, default_value_t = 10_240, value_name = "BYTES")]
    size: usize,
    /// How many at once.
    #[arg(long, default_value_t = 512, value_name = "N")]
    concurrency: usize,
}

#[derive(Debug, Args)]
struct PrefixArgs {
    /// How many files.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    files: u64,
    /// Bytes of each.
    #[arg(long, default_value_t = 1_024, value_name = "BYTES")]
    size: usize,
    /// Over how many connections.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = connections)]
    connections: usize,
}

#[derive(Debug, Args)]
struct IntakeLoadArgs {
    /// Requests per second.
    #[arg(long, default_value_t = 100, value_name = "N")]
    rate: u32,
    /// For so long.
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    seconds: u32,
}

#[derive(Debug, Args)]
struct BatchLoadArgs {
    /// How many uploads in one batch.
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    lines: usize,
    /// Single uploads per second beside it.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// How many batches, one after the other.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: u32,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    /// From a slow S3 server instead, against one plain stream.
    #[arg(long)]
    server: bool,
    /// Bytes of the object; default: 1 GiB, from a server 512 MiB.
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    /// How often to measure; the median counts.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

#[derive(Debug, Args)]
struct ReportsArgs {
    /// How many files.
    #[arg(long, default_value_t = 10_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    files: u64,
    /// Of how many orgs; one of them has a tenth of the files.
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    orgs: u64,
}

#[derive(Debug, Args)]
struct ScrapeArgs {
    /// How many uploads.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    uploads: u64,
    /// How many jobs that wait.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    jobs: usize,
}

#[derive(Debug, Args)]
struct CloudArgs {
    /// How long S3 takes before it answers.
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "LENGTH")]
    first_byte: Duration,
    /// How fast S3 sends one object, for example 80MB/s; default: as fast as can be.
    #[arg(long, value_parser = bandwidth, value_name = "BYTES/s")]
    bandwidth: Option<u64>,
    /// The most bytes of all objects together; what goes beyond is refused with 507.
    #[arg(long, default_value = "2GiB", value_parser = size, value_name = "BYTES")]
    max_memory: u64,
    /// The share of notices that are lost.
    #[arg(long, default_value = "0", value_parser = share, value_name = "0..1")]
    drop_notices: f64,
    /// The share of the other notices that come twice.
    #[arg(long, default_value = "0", value_parser = share, value_name = "0..1")]
    duplicate_notices: f64,
    /// Puts each notice at a random place among those that wait.
    #[arg(long)]
    shuffle_notices: bool,
    /// Of the dice that decide about notices.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
}

pub(super) async fn run(config: Config, args: BenchArgs) -> Result<(), Failure> {
    let measured = match args.bench {
        Bench::Queue(args) => bench::queue(&config, &args.load()).await,
        Bench::Files(args) => bench::files(&config, args.files, args.size, args.concurrency).await,
        Bench::Pipeline(args) => bench::pipeline(&config, args.api(), args.uploads()).await,
        Bench::Prefix(args) => bench::prefix(&config, args.uploads()).await,
        Bench::Intake(args) => bench::intake(&config, args.rate, args.seconds).await,
        Bench::Batch(args) => bench::batch(&config, args.lines, args.rate, args.rounds).await,
        Bench::Reports(args) => bench::reports(&config, args.files, args.orgs).await,
        Bench::Scrape(args) => bench::scrape(&config, args.uploads, args.jobs).await,
        Bench::Verify(args) if args.server => {
            bench::verify_far(&config, args.size.unwrap_or(512 << 20), args.rounds).await
        }
        Bench::Verify(args) => bench::verify(&config, args.size.unwrap_or(1 << 30), args.rounds).await,
        Bench::Cloud(cloud) => {
            let served = bench::cloud(config.listen, cloud.options()).await;
            return served.map_err(|error| Failure::new("the light server did not serve").because(&*error));
        }
    };
    let figures = measured.map_err(|error| Failure::new("nothing was measured").because(&*error))?;
    say(if args.json { figures.to_json() } else { figures.to_string() });
    Ok(())
}

impl QueueArgs {
    fn load(self) -> Load {
        Load { rounds: self.jobs, singles: self.singles, payload: self.payload }
    }
}

impl PipelineArgs {
    fn api(&self) -> Option<Api> {
        self.server.clone().zip(self.token.clone()).map(|(server, token)| Api::new(server, token))
    }

    fn uploads(&self) -> Uploads {
        Uploads { count: self.uploads, size: self.size, concurrency: self.concurrency }
    }
}

impl PrefixArgs {
    fn uploads(&self) -> Uploads {
        Uploads { count: self.files, size: self.size, concurrency: self.connections }
    }
}

impl CloudArgs {
    fn options(&self) -> light::Options {
        light::Options {
            max_memory: self.max_memory,
            slowness: light::Slowness { first_byte: self.first_byte, bandwidth: self.bandwidth },
            faults: light::Faults {
                drop: self.drop_notices,
                duplicate: self.duplicate_notices,
                shuffle: self.shuffle_notices,
                seed: self.seed,
            },
        }
    }
}

/// None would post nothing, and wait for it.
fn connections(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&count| count > 0).ok_or_else(|| "is not a number from 1 on".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration(text).map_err(|wrong| wrong.to_string())
}

fn size(text: &str) -> Result<u64, String> {
    units::size(text).map_err(|wrong| wrong.to_string())
}

/// With or without `/s`; never nothing, which would not end.
fn bandwidth(text: &str) -> Result<u64, String> {
    match size(text.strip_suffix("/s").unwrap_or(text))? {
        0 => Err("is nothing; write for example 80MB/s".to_owned()),
        bytes => Ok(bytes),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "is not a share; write 0 to 1, for example 0.05".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_is_a_size_in_a_second() {
        assert_eq!(bandwidth("80MB/s"), Ok(80_000_000));
        assert_eq!(bandwidth("1MiB"), Ok(1 << 20));
        assert!(bandwidth("0").is_err() && bandwidth("fast").is_err());
    }

    #[test]
    fn a_share_is_between_nothing_and_all() {
        assert_eq!(share("0.05"), Ok(0.05));
        assert!(share("1.1").is_err() && share("-1").is_err() && share("NaN").is_err());
    }
}
