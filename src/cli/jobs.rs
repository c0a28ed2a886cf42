//! `longshore jobs list|explain|retry|discard`

use std::sync::Arc;

use clap::{Args, Subcommand};
use longshore_jobs::job::Pool;
use longshore_jobs::ledger::{Db, dead_letters, orgs};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::{Clock, SystemClock};
use uuid::Uuid;

use super::output::{Columns, about, first_line};
use super::{Failure, existing_ledger, say};
use crate::app;
use crate::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum JobsCommand {
    /// Dead letters, newest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many at most.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: u32,
    },
    /// One dead letter in full: what it was about, every attempt, what to do.
    Explain {
        /// Its id, as `jobs list` shows it.
        id: Uuid,
    },
    /// Puts dead letters back on the queue.
    Retry(Selection),
    /// Throws dead letters away.
    Discard(Selection),
}

/// Which dead letters; all that are given must fit.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Of this kind of job, for example verify_upload.
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// Dead for this reason: attempts, gave_up, undecodable, unknown_kind, crashed.
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Of this pool.
    #[arg(long)]
    pub(super) pool: Option<Pool>,
    /// Of jobs of this org, by its name.
    #[arg(long, value_name = "NAME")]
    pub(super) org: Option<String>,
    /// With this in the error, in whichever case.
    #[arg(long, value_name = "TEXT")]
    pub(super) error: Option<String>,
    /// Of the job about this upload, batch or org.
    #[arg(long, value_name = "ID")]
    pub(super) subject: Option<Uuid>,
}

/// One by its id, or several by a filter.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Ids, as `jobs list` shows them.
    #[arg(required_unless_present_any = ["kind", "reason", "pool", "org", "error", "subject", "all"])]
    pub(super) ids: Vec<Uuid>,
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Every one there is.
    #[arg(long, conflicts_with_all = ["ids", "kind", "reason", "pool", "org", "error", "subject"])]
    pub(super) all: bool,
}

pub(super) async fn run(config: Config, command: JobsCommand) -> Result<(), Failure> {
    let db = existing_ledger(&config).await?;
    let ended = match command {
        JobsCommand::List { filter, limit } => list(&db, filter, limit).await,
        JobsCommand::Explain { id } => explain(&db, id).await,
        JobsCommand::Retry(selection) => retry(&db, &config, selection).await,
        JobsCommand::Discard(selection) => discard(&db, selection).await,
    };
    db.close().await;
    ended
}

async fn list(db: &Db, filter: Filter, limit: u32) -> Result<(), Failure> {
    let letters = dead_letters::list(db, &filter.of_letters(db).await?, limit.into()).await?;
    if letters.is_empty() {
        say("No dead letters.\n");
        return Ok(());
    }
    let mut columns = Columns::with_heads(&["id", "kind", "about", "reason", "attempts", "died", "error"]);
    for letter in letters {
        let error = first_line(&letter.error);
        columns.row(vec![
            letter.id.to_string(),
            letter.kind,
            about(letter.subject),
            letter.reason,
            letter.attempts.to_string(),
            letter.died_at.to_string(),
            error,
        ]);
    }
    say(columns);
    Ok(())
}

async fn explain(db: &Db, id: Uuid) -> Result<(), Failure> {
    let Some(letter) = dead_letters::find(db, id).await? else {
        return Err(Failure::new(format!("there is no dead letter {id}")).hint("`longshore jobs list` shows them"));
    };
    say(format_args!(
        "id        {}\nkind      {}\nabout     {}\npool      {} ({})\nreason    {}\nattempts  {} ({} crashes)\ndied      {}\n\
         payload   {}\nerror     {}\n\n{}\n",
        letter.id,
        letter.kind,
        letter.subject,
        letter.pool,
        letter.lane,
        letter.reason,
        letter.attempts,
        letter.crashes,
        letter.died_at,
        letter.payload,
        letter.error,
        letter.advice(),
    ));
    Ok(())
}

async fn retry(db: &Db, config: &Config, selection: Selection) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let queue = app::open_queue(config, db, &clock, &[])
        .await
        .map_err(|error| Failure::new("the queue cannot be reached").because(&error).hint("check queue_url"))?;
    let (filter, mut put_on) = (selection.filter(db).await?.bounded(db).await?, 0);
    let unknown = loop {
        let retried = dead_letters::retry(db, &*queue, &filter, Timestamp::system_now())
            .await
            .map_err(|error| Failure::new("the dead letters were not put on again").because(&error))?;
        put_on += retried.put_on;
        if !retried.more {
            break retried.unknown;
        }
    };
    say(format_args!("{put_on} put on again.\n"));
    if unknown > 0 {
        return Err(Failure::new(format!("{unknown} stay: this version knows no such job")));
    }
    found_any(put_on > 0)
}

async fn discard(db: &Db, selection: Selection) -> Result<(), Failure> {
    let gone = dead_letters::discard(db, selection.filter(db).await?).await?;
    say(format_args!("{gone} discarded.\n"));
    found_any(gone > 0)
}

fn found_any(any: bool) -> Result<(), Failure> {
    if any { Ok(()) } else { Err(Failure::new("no dead letter fits").hint("`longshore jobs list` shows them")) }
}

impl Filter {
    async fn of_letters(self, db: &Db) -> Result<dead_letters::Filter, Failure> {
        let Self { kind, reason, pool, org, error, subject } = self;
        let org = match org {
            Some(name) => Some(org_of(db, &name).await?),
            None => None,
        };
        Ok(dead_letters::Filter { ids: None, pool, kind, reason, subject, org, error, before: None })
    }
}

async fn org_of(db: &Db, name: &str) -> Result<Uuid, Failure> {
    let found = orgs::by_name(db, name).await?;
    let org =
        found.ok_or_else(|| Failure::new(format!("there is no org {name}")).hint("`longshore org list` shows them"))?;
    Ok(org.id)
}

impl Selection {
    /// The letters that are named, of those that fit.
    async fn filter(self, db: &Db) -> Result<dead_letters::Filter, Failure> {
        let ids = (!self.ids.is_empty()).then_some(self.ids);
        Ok(dead_letters::Filter { ids, ..self.filter.of_letters(db).await? })
    }
}
