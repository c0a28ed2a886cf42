//! The command line: one file per command, the flags that all share, and how errors end.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. Results go to stdout, everything else to stderr.

mod bench;
mod doctor;
mod failure;
mod health;
mod ingest;
mod intake;
mod jobs;
mod key;
mod ledger;
mod migrate;
mod org;
mod output;
mod pool;
mod report;
mod serve;
mod status;
mod sweep;
mod up;
mod uploads;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::telemetry::{self, Talk};
pub(crate) use failure::Failure;
pub(crate) use ledger::{existing_ledger, open_ledger};
pub(crate) use output::{remark, say};

/// Takes in uploads at high volume: signs, verifies, deduplicates, reports.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

/// The settings that have a flag of their own; they win over file and environment.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// A configuration file; default: longshore.toml, where there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder for everything that no URL puts elsewhere.
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// The ledger, for example sqlite://data/longshore.db.
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// The queue; default: in the database.
    #[arg(long, global = true, value_name = "URL")]
    queue_url: Option<String>,
    /// The bucket, for example file://data/bucket.
    #[arg(long, global = true, value_name = "URL")]
    bucket_url: Option<String>,
    /// Where notices of new objects come from.
    #[arg(long, global = true, value_name = "URL")]
    inbox_url: Option<String>,
    /// The address to serve on.
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// How clients reach this service.
    #[arg(long, global = true, value_name = "URL")]
    public_url: Option<String>,
    /// human or json.
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// What to log, for example info,longshore_jobs=debug.
    #[arg(long, global = true, value_name = "DIRECTIVES")]
    log_filter: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process: intake, workers, schedule, local bucket.
    Up(up::UpArgs),
    /// Uploads files and folders through the API.
    Ingest(ingest::IngestArgs),
    /// The HTTP door alone; workers run elsewhere.
    Intake(intake::IntakeArgs),
    /// Workers alone.
    Worker(worker::WorkerArgs),
    /// Brings the ledger's schema to head.
    Migrate,
    /// Orgs.
    #[command(subcommand)]
    Org(org::OrgCommand),
    /// API keys.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Where an upload or a batch stands, what it waits for, and what went wrong; without an id, what jobs fail of.
    Status(status::StatusArgs),
    /// Uploads by where they stand, newest first: those that were rejected, unless --status says otherwise.
    Uploads(uploads::UploadsArgs),
    /// The reports of the orgs.
    Report(report::ReportArgs),
    /// Dead letters: jobs that ended badly.
    #[command(subcommand)]
    Jobs(jobs::JobsCommand),
    /// Compares the bucket with the ledger, and removes on request what nothing needs.
    Sweep(sweep::SweepArgs),
    /// Groups of workers.
    #[command(subcommand)]
    Pool(pool::PoolCommand),
    /// Whether this installation works, check by check, and how to mend what does not.
    Doctor(doctor::DoctorArgs),
    /// Asks a process that runs whether it lives; for the health checks of containers.
    Health(health::HealthArgs),
    /// The effective configuration, secrets hidden.
    Config,
    /// The API as an OpenAPI 3.1 document in JSON; needs no configuration.
    Openapi,
    /// Measures this machine.
    Bench(bench::BenchArgs),
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn start(cli: Cli) -> Result<(), Failure> {
    if matches!(cli.command, Command::Openapi) {
        say(crate::http::openapi::text(longshore_jobs::model::upload::MAX_SIZE));
        return Ok(());
    }
    let config = cli.settings.load(cli.command.flags())?;
    telemetry::start(&config.log, cli.command.talk());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("the program cannot start its threads").because(&error))?;
    let ended = runtime.block_on(run(cli.command, config));
    // A thread that still hashes for nobody is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

async fn run(command: Command, config: Config) -> Result<(), Failure> {
    match command {
        Command::Up(args) => up::run(config, args).await,
        Command::Ingest(args) => ingest::run(config, args).await,
        Command::Intake(args) => intake::run(config, args).await,
        Command::Worker(args) => worker::run(config, args).await,
        Command::Migrate => migrate::run(config).await,
        Command::Org(command) => org::run(config, command).await,
        Command::Key(command) => key::run(config, command).await,
        Command::Status(args) => status::run(config, args).await,
        Command::Uploads(args) => uploads::run(config, args).await,
        Command::Report(args) => report::run(config, args).await,
        Command::Jobs(command) => jobs::run(config, command).await,
        Command::Sweep(args) => sweep::run(config, args).await,
        Command::Pool(command) => pool::run(config, command).await,
        Command::Doctor(args) => Box::pin(doctor::run(config, args)).await,
        Command::Health(args) => health::run(&config, args).await,
        Command::Config => {
            say(config.effective);
            Ok(())
        }
        Command::Openapi => unreachable!("it is answered before there is a configuration"),
        Command::Bench(args) => bench::run(config, args).await,
    }
}

impl Settings {
    /// The configuration of this process, with these flags and those of the command over it.
    fn load(self, of_command: Vec<(String, String)>) -> Result<Config, Failure> {
        let own = [
            ("data_dir", self.data_dir),
            ("database_url", self.database_url),
            ("queue_url", self.queue_url),
            ("bucket_url", self.bucket_url),
            ("inbox_url", self.inbox_url),
            ("listen", self.listen),
            ("public_url", self.public_url),
            ("log.format", self.log_format),
            ("log.filter", self.log_filter),
        ];
        let given = own.into_iter().filter_map(|(path, value)| Some((path.to_owned(), value?)));
        Config::of_process(self.config, given.chain(of_command).collect())
            .map_err(|error| Failure::usage(error.to_string()))
    }
}

impl Command {
    /// Settings that the command has flags for.
    fn flags(&self) -> Vec<(String, String)> {
        match self {
            Self::Worker(args) => args.settings(),
            _ => Vec::new(),
        }
    }

    fn talk(&self) -> Talk {
        match self {
            Self::Up(_) | Self::Intake(_) | Self::Worker(_) => Talk::Service,
            Self::Doctor(_) => Talk::Report,
            _ => Talk::Command,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_may_stand_before_or_behind_the_command() {
        for line in
            [["longshore", "--listen", "127.0.0.1:0", "config"], ["longshore", "config", "--listen", "127.0.0.1:0"]]
        {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.settings.listen.as_deref(), Some("127.0.0.1:0"));
        }
    }

    #[test]
    fn concurrency_of_a_worker_is_a_setting() {
        let cli = Cli::try_parse_from(["longshore", "worker", "--pools", "verify,store", "--concurrency", "verify=3"])
            .unwrap();
        assert_eq!(cli.command.flags(), [("pools.verify".to_owned(), "3".to_owned())]);
        assert!(Cli::try_parse_from(["longshore", "worker", "--concurrency", "verfy=3"]).is_err());
    }

    #[test]
    fn the_document_needs_no_configuration() {
        let cli = Cli::try_parse_from(["longshore", "openapi", "--config", "/there/is/none.toml"]).unwrap();
        assert!(start(cli).is_ok());
    }

    #[test]
    fn a_target_needs_its_number() {
        assert!(Cli::try_parse_from(["longshore", "ingest", "a", "--target", "order"]).is_err());
        assert!(Cli::try_parse_from(["longshore", "ingest", "a", "--target", "order", "--number", "A-100"]).is_ok());
        assert!(Cli::try_parse_from(["longshore", "ingest"]).is_err());
    }
}
