//! `longshore report`

use clap::Args;
use longshore_jobs::ledger::{Db, LedgerError, orgs, reports};
use longshore_jobs::model::Timestamp;
use longshore_jobs::model::org::Org;
use longshore_jobs::model::report::{Delta, megabytes};

use super::output::{Columns, remark};
use super::{Failure, existing_ledger, say};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Of this org alone; default: of all.
    #[arg(long, value_name = "NAME")]
    pub(super) org: Option<String>,
    /// Recounts from the files first, and says what differed.
    #[arg(long)]
    pub(super) rebuild: bool,
}

pub(super) async fn run(config: Config, args: ReportArgs) -> Result<(), Failure> {
    let db = existing_ledger(&config).await?;
    let shown = show(&db, &args).await;
    db.close().await;
    shown
}

async fn show(db: &Db, args: &ReportArgs) -> Result<(), Failure> {
    let mut columns = Columns::with_heads(&["org", "files", "MB", "unique files", "unique MB", "as of"]);
    for org in chosen(db, args.org.as_deref()).await? {
        if args.rebuild {
            rebuild(db, &org).await?;
        }
        let report = reports::find(db, org.id).await?;
        let totals = report.totals;
        columns.row(vec![
            org.name,
            totals.files.to_string(),
            megabytes(totals.bytes).to_string(),
            totals.unique_files.to_string(),
            megabytes(totals.unique_bytes).to_string(),
            report.as_of.map_or_else(|| "never".to_owned(), |at| at.to_string()),
        ]);
    }
    say(columns);
    Ok(())
}

async fn chosen(db: &Db, name: Option<&str>) -> Result<Vec<Org>, Failure> {
    let Some(name) = name else { return Ok(orgs::list(db).await?) };
    match orgs::by_name(db, name).await? {
        Some(org) => Ok(vec![org]),
        None => Err(Failure::new(format!("there is no org {name}")).hint("`longshore org list` shows them")),
    }
}

/// What the job `rebuild_reports` does, and the fold behind it, here and now.
async fn rebuild(db: &Db, org: &Org) -> Result<(), LedgerError> {
    let now = Timestamp::system_now();
    let drift = reports::rebuild(db, org.id, now).await?;
    if drift != Delta::NONE {
        remark(format_args!("{}: the report was off by {} files and {} bytes", org.name, drift.files, drift.bytes));
    }
    while reports::fold(db, org.id, now).await?.more {}
    Ok(())
}
