//! `longshore org create|list`

use clap::Subcommand;
use longshore_jobs::ledger::{Db, LedgerError, orgs};
use longshore_jobs::model::Timestamp;
use longshore_jobs::model::org::Org;

use super::output::{Columns, remark};
use super::{Failure, existing_ledger, open_ledger, say};
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum OrgCommand {
    /// Creates an org and prints its id.
    Create {
        /// Unique; at most 200 letters.
        name: String,
    },
    /// Every org by name.
    List,
}

pub(super) async fn run(config: Config, command: OrgCommand) -> Result<(), Failure> {
    let db = match command {
        OrgCommand::Create { .. } => open_ledger(&config).await?,
        _ => existing_ledger(&config).await?,
    };
    let ended = match command {
        OrgCommand::Create { name } => create(&db, name).await,
        OrgCommand::List => list(&db).await,
    };
    db.close().await;
    ended
}

async fn create(db: &Db, name: String) -> Result<(), Failure> {
    let name = name.trim().to_owned();
    if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
        return Err(Failure::usage("an org's name has 1 to 200 letters, none of them control characters"));
    }
    let org = orgs::create(db, name.clone(), Timestamp::system_now()).await.map_err(|error| taken(error, &name))?;
    say(format_args!("{}\n", org.id));
    remark(format_args!("Next: longshore key create --org {name:?}"));
    Ok(())
}

fn taken(error: LedgerError, name: &str) -> Failure {
    if error.is_taken() {
        return Failure::new(format!("there is an org {name:?} already"))
            .hint("take another name; `longshore org list`");
    }
    error.into()
}

async fn list(db: &Db) -> Result<(), Failure> {
    let mut columns = Columns::with_heads(&["id", "name", "created"]);
    for org in orgs::list(db).await? {
        columns.row(vec![org.id.to_string(), org.name, org.created_at.to_string()]);
    }
    say(columns);
    Ok(())
}

/// The org of that name, or the only one there is when no name is given.
pub(super) async fn chosen(db: &Db, name: Option<&str>) -> Result<Org, Failure> {
    let Some(name) = name else {
        let mut all = orgs::list(db).await?;
        return match (all.pop(), all.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => Err(Failure::new("there is no org yet").hint("longshore org create NAME")),
            _ => Err(Failure::usage("there are several orgs").hint("say which: --org NAME; `longshore org list`")),
        };
    };
    let found = orgs::by_name(db, name).await?;
    found.ok_or_else(|| Failure::new(format!("there is no org {name:?}")).hint("see `longshore org list`"))
}
