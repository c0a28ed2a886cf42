//! `longshore key create|list|revoke`

use std::time::Duration;

use clap::{Args, Subcommand};
use longshore_jobs::ledger::{Db, api_keys};
use longshore_jobs::model::Timestamp;
use longshore_jobs::model::org::{ApiKey, Scopes, Token};
use uuid::Uuid;

use super::output::{Columns, remark};
use super::{Failure, existing_ledger, open_ledger, org, say};
use crate::config::{Config, parse_duration};

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Makes a key and prints its token, once.
    Create(CreateArgs),
    /// The keys of an org, without their secrets.
    List {
        /// Whose; default: the only org there is.
        #[arg(long, value_name = "NAME")]
        org: Option<String>,
    },
    /// Takes a key back for good.
    Revoke {
        /// Its public half, as `key list` shows it, or the whole token.
        key: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// Whose files it reaches; default: the only org there is.
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// What to call it.
    #[arg(long, default_value = "key")]
    name: String,
    /// What it may do: upload, read, report, admin.
    #[arg(long, default_value = "upload,read,report", value_name = "LIST")]
    scopes: Scopes,
    /// Who is shown as the owner of what it uploads; default: a new user.
    #[arg(long, value_name = "UUID")]
    user: Option<Uuid>,
    /// From when on it is refused, for example 90d; default: never.
    #[arg(long, value_name = "LENGTH", value_parser = parse_duration)]
    expires: Option<Duration>,
}

pub(super) async fn run(config: Config, command: KeyCommand) -> Result<(), Failure> {
    let db = match command {
        KeyCommand::Create(_) => open_ledger(&config).await?,
        _ => existing_ledger(&config).await?,
    };
    let ended = match command {
        KeyCommand::Create(args) => create(&db, args).await,
        KeyCommand::List { org } => list(&db, org.as_deref()).await,
        KeyCommand::Revoke { key } => revoke(&db, key).await,
    };
    db.close().await;
    ended
}

async fn create(db: &Db, args: CreateArgs) -> Result<(), Failure> {
    let org = org::chosen(db, args.org.as_deref()).await?;
    let (token, now) = (Token::random(), Timestamp::system_now());
    let key = ApiKey {
        key: token.key.clone(),
        org_id: org.id,
        user_id: args.user.unwrap_or_else(Uuid::now_v7),
        name: args.name,
        scopes: args.scopes,
        secret_hash: token.secret_hash(),
        created_at: now,
        expires_at: args.expires.map(|life| now + life),
        revoked_at: None,
    };
    let scopes = key.scopes.to_string();
    api_keys::insert(db, key).await?;
    say(format_args!("{token}\n"));
    remark(format_args!("A token of {:?} for {scopes}. It is shown this once and cannot be had again.", org.name));
    Ok(())
}

async fn list(db: &Db, org: Option<&str>) -> Result<(), Failure> {
    let org = org::chosen(db, org).await?;
    let now = Timestamp::system_now();
    let mut columns = Columns::with_heads(&["key", "name", "scopes", "created", "state"]);
    for key in api_keys::list(db, org.id).await? {
        let state = state(&key, now);
        columns.row(vec![key.key, key.name, key.scopes.to_string(), key.created_at.to_string(), state]);
    }
    say(columns);
    Ok(())
}

fn state(key: &ApiKey, now: Timestamp) -> String {
    match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {at}"),
        (None, Some(at)) if at <= now => format!("expired {at}"),
        (None, Some(at)) => format!("stands until {at}"),
        (None, None) => "stands".to_owned(),
    }
}

async fn revoke(db: &Db, key: String) -> Result<(), Failure> {
    let key = key.parse::<Token>().map_or(key, |token| token.key);
    if api_keys::revoke(db, key.clone(), Timestamp::system_now()).await? {
        say(format_args!("{key} is revoked. Running services forget it within seconds.\n"));
        return Ok(());
    }
    Err(Failure::new(format!("there is no key {key:?} that stands")).hint("see `longshore key list`"))
}
