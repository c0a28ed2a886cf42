//! `longshore ingest PATH…`

use std::future::Future;
use std::io::stdin;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use clap::Args;
use longshore_jobs::ledger::{Db, api_keys};
use longshore_jobs::model::org::{ApiKey, Scope, Scopes, Token};
use longshore_jobs::model::target::TargetKind;
use longshore_jobs::model::{Target, Timestamp};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::output::remark;
use super::serve::{cannot_start, make_first_key};
use super::{Failure, open_ledger, say};
use crate::app::{App, Roles};
use crate::client::Api;
use crate::client::ingest::{self, CONCURRENCY, IngestOptions, Mode, Pins, Progress, Summary};
use crate::config::Config;
use crate::{first_key, folder, metrics};

#[derive(Debug, Args)]
pub(super) struct IngestArgs {
    /// Files and folders; links are not followed.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The server to talk to; default: the one that runs on the data folder, else one for this run alone, where the ledger is a file.
    #[arg(long, env = "LONGSHORE_SERVER", value_name = "URL")]
    server: Option<Url>,
    /// The token to come in with.
    #[arg(long, env = "LONGSHORE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// What the files are for: order or style.
    #[arg(long, requires = "number", value_name = "KIND")]
    target: Option<TargetKind>,
    /// The number of the order or style.
    #[arg(long, requires = "target", value_name = "NUMBER")]
    number: Option<String>,
    /// How many files at once.
    #[arg(long, default_value_t = CONCURRENCY, value_name = "N", value_parser = at_once)]
    concurrency: usize,
    /// How the files are asked for: each with a policy of its own, or all under one policy for a prefix.
    ///
    /// With each, a later run finds whatever is there already, however the folder has changed. With prefix, a run that was broken off
    /// goes on within 24 hours, as long as the folder is the same.
    #[arg(long, default_value_t = Mode::Each, value_name = "each|prefix")]
    batch_mode: Mode,
    /// Takes in only the files that this one names, and says their hashes: lines of sha256sum, relative to PATH; - is stdin.
    ///
    /// PATH is one folder then. A file that is named and not there is a failure, and so is one whose bytes hash to something else.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// A JSON object for each file, and the summary as the last line.
    #[arg(long)]
    json: bool,
}

/// A server to talk to.
pub(super) struct Served {
    /// Where, and the token.
    pub(super) api: Api,
    /// To be awaited when the run is over: ends a server that was brought up for it. `None` for one that runs anyway.
    pub(super) end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

fn at_once(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=1024).contains(n)).ok_or_else(|| "a number from 1 to 1024".to_owned())
}

pub(super) async fn run(config: Config, args: IngestArgs) -> Result<(), Failure> {
    let (target, pins) = (target(&args)?, pins(&args)?);
    let served = resolve_server(&config, &args).await?;
    let progress = if args.json { Progress::for_machines() } else { Progress::for_people() };
    let options =
        IngestOptions { target, pins, mode: args.batch_mode, ..IngestOptions::of(args.paths, args.concurrency) };
    let run = (served.api, options);
    let summary = ingest::run_without(config.own_places(), run, progress, stopped_by_signal()).await;
    if let Some(end) = served.end {
        end.await;
    }
    show(&summary, args.json);
    if summary.is_complete() { Ok(()) } else { Err(Failure::told()) }
}

fn target(args: &IngestArgs) -> Result<Option<Target>, Failure> {
    let (Some(kind), Some(number)) = (args.target, args.number.clone()) else { return Ok(None) };
    let target = Target { kind, number };
    match target.fault() {
        Some(fault) => Err(Failure::usage(format!("--number {fault}"))),
        None => Ok(Some(target)),
    }
}

/// What the manifest names, where there is one.
fn pins(args: &IngestArgs) -> Result<Option<Pins>, Failure> {
    let Some(file) = &args.manifest else { return Ok(None) };
    if args.paths.len() != 1 || !args.paths[0].is_dir() {
        return Err(Failure::usage("a manifest's paths are relative to one folder")
            .hint("give that folder as the only PATH beside --manifest"));
    }
    let read = if file.as_os_str() == "-" { Pins::read(stdin().lock()) } else { Pins::open(file) };
    read.map(Some).map_err(|fault| {
        Failure::usage(format!("the manifest {} will not do", file.display()))
            .because(&fault)
            .hint("it has lines as sha256sum prints them, run within the folder")
    })
}

/// The server that was named, or else one that serves the data folder.
async fn resolve_server(config: &Config, args: &IngestArgs) -> Result<Served, Failure> {
    match (&args.server, &args.token) {
        (Some(server), Some(token)) => named(server, token),
        (Some(_), None) => Err(Failure::usage("--server needs a token").hint("--token T, or LONGSHORE_TOKEN")),
        (None, token) => serve_data_folder(config, token.as_deref()).await,
    }
}

pub(super) fn named(server: &Url, token: &str) -> Result<Served, Failure> {
    if !matches!(server.scheme(), "http" | "https") || !server.has_host() {
        return Err(
            Failure::usage(format!("{server} is not a server's URL")).hint("write for example http://127.0.0.1:8080")
        );
    }
    Ok(Served { api: Api::new(server.clone(), token.to_owned()), end: None })
}

/// The server that runs on the same data folder, or one brought up for this run.
async fn serve_data_folder(config: &Config, token: Option<&str>) -> Result<Served, Failure> {
    let serving = folder::serving(&config.data_dir).map_err(|error| {
        Failure::new(format!("the data folder {} cannot be read", config.data_dir.display())).because(&error)
    })?;
    let own = own_server(config, serving.map(|serving| serving.url)).await?;
    let key = match token {
        Some(token) => BorrowedKey::given(token),
        None => BorrowedKey::make(own.db, (first_key::FIRST_ORG, "an ingest run")).await?,
    };
    let url = Url::parse(&own.url).map_err(|error| Failure::new(format!("{} is no URL", own.url)).because(&error))?;
    let api = Api::new(url, key.token.clone());
    let end = async move {
        key.give_back().await;
        own.end.await;
    };
    Ok(Served { api, end: Some(Box::pin(end)) })
}

/// A server on this machine's data folder.
pub(super) struct OwnServer {
    pub(super) url: String,
    pub(super) db: Db,
    pub(super) end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

async fn own_server(config: &Config, running: Option<String>) -> Result<OwnServer, Failure> {
    match running {
        Some(url) => {
            let db = open_ledger(config).await?;
            let closing = db.clone();
            Ok(OwnServer { url, db, end: Box::pin(async move { closing.close().await }) })
        }
        // A ledger on a server has its fleet, of which this run would become a part.
        None if config.database.file().is_none() => {
            Err(Failure::usage(format!("the ledger {} is a fleet's: ingest needs one of its servers", config.database))
                .hint("--server URL --token T, or LONGSHORE_SERVER and LONGSHORE_TOKEN"))
        }
        None => bring_up(config.clone()).await,
    }
}

/// Everything in this process, on a free port, until the run is over.
pub(super) async fn bring_up(config: Config) -> Result<OwnServer, Failure> {
    let config = config.on_free_port();
    let bootstrap = config.bootstrap_token.clone();
    let metrics = metrics::install().map_err(|error| cannot_start(&error.into()))?;
    let app = App::open(config, Roles::all(), metrics).await.map_err(|error| cannot_start(&error))?;
    if bootstrap.is_some() {
        // Whoever comes with that token would be a stranger to a fresh ledger.
        make_first_key(&app, bootstrap).await?;
    }
    let (url, db, stop) = (app.url().to_owned(), app.context().db.clone(), CancellationToken::new());
    let serving = tokio::spawn(app.run(stop.clone()));
    let end = async move {
        stop.cancel();
        match serving.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => remark(format_args!("The server of this run did not end well: {error}")),
            Err(error) => remark(format_args!("The server of this run did not end well: {error}")),
        }
    };
    Ok(OwnServer { url, db, end: Box::pin(end) })
}

/// How long a key of a run is good for if the run cannot give it back.
const KEY_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A token for the length of a run; where none was given, one of our own that is revoked at its end.
pub(super) struct BorrowedKey {
    pub(super) token: String,
    made: Option<(Db, String)>,
}

impl BorrowedKey {
    pub(super) fn given(token: &str) -> Self {
        Self { token: token.to_owned(), made: None }
    }

    /// In the org of that name, made if it is not there, and under that name.
    pub(super) async fn make(db: Db, (org, name): (&str, &str)) -> Result<Self, Failure> {
        let (token, now) = (Token::random(), Timestamp::system_now());
        let org = first_key::org_named(&db, org, now).await?;
        let key = ApiKey {
            scopes: Scopes::of(&[Scope::Upload, Scope::Read, Scope::Report]),
            expires_at: Some(now + KEY_LIFE),
            ..first_key::key_row(&token, &org, name, now)
        };
        api_keys::insert(&db, key).await?;
        Ok(Self { token: token.to_string(), made: Some((db, token.key)) })
    }

    pub(super) async fn give_back(self) {
        let Some((db, key)) = self.made else { return };
        if let Err(error) = api_keys::revoke(&db, key, Timestamp::system_now()).await {
            remark(format_args!("The key of this run could not be revoked; it ends in seven days: {error}"));
        }
    }
}

/// Cancelled by the first Ctrl-C or SIGTERM.
pub(super) fn stopped_by_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        if let Err(error) = signalled().await {
            tracing::warn!(%error, "signals cannot be listened for");
            return;
        }
        remark("Stopping.");
        stopped.cancel();
    });
    stop
}

#[cfg(unix)]
async fn signalled() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn signalled() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

fn show(summary: &Summary, json: bool) {
    if json {
        say(format_args!("{}\n", serde_json::json!({ "summary": summary })));
    } else {
        say(summary);
    }
}
