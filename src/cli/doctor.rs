//! `longshore doctor`: whether this installation works, and how to mend it.

use std::time::Duration;

use clap::Args;
use longshore_jobs::ledger::Db;
use tempfile::TempDir;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::ingest::{BorrowedKey, OwnServer, Served, bring_up, named, stopped_by_signal};
use super::{Failure, say};
use crate::client::Api;
use crate::config::{Config, parse_duration};
use crate::doctor::round_trip::{ORG, Trip};
use crate::doctor::{Doctor, Finding, Outcome};

/// How long a server of the run's own may take to start.
const STARTING: Duration = Duration::from_secs(30);
/// And to end.
const ENDING: Duration = Duration::from_secs(40);

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// The server to make an upload on; default: the one that serves here, else one for this run alone, where the ledger is a file.
    #[arg(long, env = "LONGSHORE_SERVER", value_name = "URL")]
    server: Option<Url>,
    /// The token to come in with; default: one of an org of its own, for this run.
    #[arg(long, env = "LONGSHORE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// How long the bucket's notice of the upload may take. What the poller finds meanwhile (limits.first_poll) is none.
    #[arg(long, default_value = "20s", value_parser = parse_duration, value_name = "TIME")]
    notice_within: Duration,
    /// One JSON object: `ok`, and `checks` with name, status, detail and mend.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Config, args: DoctorArgs) -> Result<(), Failure> {
    let (json, stop) = (args.json, stopped_by_signal());
    let mut doctor = Doctor::new(config.clone(), move |finding| {
        if !json {
            say(finding);
        }
    });
    let looked = stop.run_until_cancelled(Box::pin(doctor.look())).await;
    doctor.clear().await;
    if looked.is_some() {
        for finding in round_trip(&doctor, (&config, &args), &stop).await {
            doctor.add(finding);
        }
    }
    let findings = doctor.finish().await;
    if looked.is_none() {
        return Err(Failure::new("stopped before everything was looked at"));
    }
    if json {
        say(format_args!("{:#}\n", findings.to_json()));
    } else {
        say(format_args!("\n{}\n", findings.sum()));
    }
    if findings.are_good() { Ok(()) } else { Err(Failure::told()) }
}

/// The upload, on whichever server there is.
async fn round_trip(doctor: &Doctor, (config, args): (&Config, &DoctorArgs), stop: &CancellationToken) -> Vec<Finding> {
    let trip = Trip::of(&config.inbox, &config.limits, args.notice_within).with_ledger(doctor.ledger().cloned());
    let (server, _folder) = match choose(doctor, config, args).await {
        Ok(chosen) => chosen,
        Err(outcome) => return vec![outcome.of("round trip")],
    };
    let findings = trip.make(&server.api, stop).await;
    if let Some(end) = server.end {
        drop(timeout(ENDING, end).await);
    }
    findings
}

type Chosen = (Served, Option<TempDir>);

async fn choose(doctor: &Doctor, config: &Config, args: &DoctorArgs) -> Result<Chosen, Outcome> {
    let token = args.token.as_deref();
    match (&args.server, doctor.serving()) {
        (Some(server), _) => far(doctor, server, token).await,
        (None, Some(url)) => running(doctor, url, token).await,
        (None, None) if config.database.file().is_none() => fleet(doctor, config, token).await,
        (None, None) => own(doctor, config, token).await,
    }
}

async fn far(doctor: &Doctor, server: &Url, token: Option<&str>) -> Result<Chosen, Outcome> {
    match token {
        Some(token) => Ok((named(server, token).map_err(|failure| unusable(&failure))?, None)),
        None => running(doctor, server.as_str(), None).await,
    }
}

/// A server that runs anyway; without a token, a key is made in its ledger, which is ours too.
async fn running(doctor: &Doctor, url: &str, token: Option<&str>) -> Result<Chosen, Outcome> {
    if doctor.lacks_workers() {
        return Err(Outcome::skipped("it needs workers for the pools that have none: see `workers` above"));
    }
    let Some(db) = doctor.ledger().cloned() else {
        return Err(Outcome::skipped("it needs the ledger, or --server with --token"));
    };
    let own = OwnServer { url: url.to_owned(), db, end: Box::pin(async {}) };
    served(own, token).await.map(|served| (served, None))
}

/// A server of the fleet, where its settings say that one answers.
async fn fleet(doctor: &Doctor, config: &Config, token: Option<&str>) -> Result<Chosen, Outcome> {
    if doctor.is_reached() {
        return running(doctor, &config.public_url(config.listen), token).await;
    }
    Err(Outcome::skipped("no server of the fleet answers at its public URL: start one, or name one by --server URL"))
}

/// Everything in this process, until the run is over. Where there is no ledger yet, in a folder that goes with it.
async fn own(doctor: &Doctor, config: &Config, token: Option<&str>) -> Result<Chosen, Outcome> {
    if !doctor.is_owner() {
        return Err(Outcome::skipped(
            "nobody serves here, and what a server of ours made would not be the service's: run this beside it, or as its user",
        ));
    }
    let (config, folder) =
        match (doctor.ledger().is_some(), config.database.file().is_some_and(std::path::Path::exists)) {
            (true, _) => (config.clone(), None),
            (false, true) => return Err(Outcome::skipped("it needs the ledger")),
            // It would take notices from whoever else reads them, and know none of their uploads.
            (false, false) if config.bucket.folder().is_none() => {
                return Err(Outcome::skipped("it needs a ledger: `longshore migrate` makes it"));
            }
            (false, false) => {
                let folder = TempDir::new()
                    .map_err(|error| Outcome::failed(error.to_string(), "see the disk of temporary files"))?;
                (config.clone().moved_to(folder.path()), Some(folder))
            }
        };
    match timeout(STARTING, Box::pin(bring_up(config))).await {
        Ok(Ok(own)) => served(own, token.filter(|_| folder.is_none())).await.map(|served| (served, folder)),
        Ok(Err(failure)) => Err(unusable(&failure)),
        Err(_) => Err(Outcome::failed(format!("no server was up within {STARTING:?}"), "see the checks above")),
    }
}

/// An API to come in by, and how it ends.
async fn served(own: OwnServer, token: Option<&str>) -> Result<Served, Outcome> {
    let url = Url::parse(&own.url).map_err(|_| Outcome::failed(format!("{} is no URL", own.url), "set public_url"));
    let made = match token {
        Some(token) => Ok(BorrowedKey::given(token)),
        None => borrow_key(own.db).await,
    };
    match (url, made) {
        (Ok(url), Ok(key)) => {
            let api = Api::new(url, key.token.clone());
            let end = async move {
                key.give_back().await;
                own.end.await;
            };
            Ok(Served { api, end: Some(Box::pin(end)) })
        }
        (Err(outcome), _) | (_, Err(outcome)) => {
            own.end.await;
            Err(outcome)
        }
    }
}

async fn borrow_key(db: Db) -> Result<BorrowedKey, Outcome> {
    BorrowedKey::make(db, (ORG, "a doctor's run")).await.map_err(|failure| unusable(&failure))
}

fn unusable(failure: &Failure) -> Outcome {
    let (what, mend) = failure.in_words();
    Outcome::failed(what, mend.unwrap_or("see the checks above"))
}
