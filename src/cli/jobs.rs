//! `longshore jobs list|explain|retry|discard`

use std::sync::Arc;

use clap::{Args, Subcommand};
use longshore_jobs::ledger::Db;
use longshore_jobs::ledger::dead_letters;
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::{Clock, SystemClock};
use uuid::Uuid;

use super::output::Columns;
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
}

/// One by its id, or several by a filter.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Ids, as `jobs list` shows them.
    #[arg(required_unless_present_any = ["kind", "reason", "all"])]
    pub(super) ids: Vec<Uuid>,
    #[command(flatten)]
    pub(super) filter: Filter,
    /// Every one there is.
    #[arg(long, conflicts_with_all = ["ids", "kind", "reason"])]
    pub(super) all: bool,
}

pub(super) async fn run(config: Config, command: JobsCommand) -> Result<(), Failure> {
    let db = existing_ledger(&config).await?;
    let ended = match command {
        JobsCommand::List { filter, limit } => list(&db, &filter, limit).await,
        JobsCommand::Explain { id } => explain(&db, id).await,
        JobsCommand::Retry(selection) => retry(&db, &config, selection).await,
        JobsCommand::Discard(selection) => discard(&db, selection).await,
    };
    db.close().await;
    ended
}

async fn list(db: &Db, filter: &Filter, limit: u32) -> Result<(), Failure> {
    let letters = dead_letters::list(db, &filter.of_letters(), limit.into()).await?;
    if letters.is_empty() {
        say("No dead letters.\n");
        return Ok(());
    }
    let mut columns = Columns::with_heads(&["id", "kind", "reason", "attempts", "died", "error"]);
    for letter in letters {
        let error: String = letter.error.lines().next().unwrap_or_default().chars().take(80).collect();
        columns.row(vec![
            letter.id.to_string(),
            letter.kind,
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
    let (mut put_on, mut unknown) = (0, 0);
    for filter in selection.filters() {
        let retried = dead_letters::retry(db, &*queue, &filter, Timestamp::system_now())
            .await
            .map_err(|error| Failure::new("the dead letters were not put on again").because(&error))?;
        put_on += retried.put_on;
        unknown += retried.unknown;
    }
    say(format_args!("{put_on} put on again.\n"));
    if unknown > 0 {
        return Err(Failure::new(format!("{unknown} stay: this version knows no such job")));
    }
    found_any(put_on > 0)
}

async fn discard(db: &Db, selection: Selection) -> Result<(), Failure> {
    let mut gone = 0;
    for filter in selection.filters() {
        gone += dead_letters::discard(db, filter).await?;
    }
    say(format_args!("{gone} discarded.\n"));
    found_any(gone > 0)
}

fn found_any(any: bool) -> Result<(), Failure> {
    if any { Ok(()) } else { Err(Failure::new("no dead letter fits").hint("`longshore jobs list` shows them")) }
}

impl Filter {
    fn of_letters(&self) -> dead_letters::Filter {
        let (kind, reason) = (self.kind.clone(), self.reason.clone());
        dead_letters::Filter { kind, reason, ..dead_letters::Filter::default() }
    }
}

impl Selection {
    /// One filter per id, or the one filter that was given.
    fn filters(&self) -> Vec<dead_letters::Filter> {
        if self.ids.is_empty() {
            return vec![self.filter.of_letters()];
        }
        let one = |id: &Uuid| dead_letters::Filter { id: Some(*id), ..self.filter.of_letters() };
        self.ids.iter().map(one).collect()
    }
}
