//! `longshore sweep`
//!
//! A dry run unless `--apply` is given: what it finds it notes in the ledger, so that the next one knows how long it has been
//! there, and in the bucket it touches nothing. It may run beside the service.

mod report;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use longshore_jobs::job::{Context, JobError, Limits};
use longshore_jobs::ledger::Db;
use longshore_jobs::outside::{Clock, SystemClock};
use longshore_jobs::sweep_bucket::{Page, SAFE_AGE, Sweep, Terms};

use self::report::Report;
use super::output::remark;
use super::serve::cannot_start;
use super::{Failure, existing_ledger};
use crate::app;
use crate::config::{self, Config};

/// A shorter restore window is more likely a slip of the pen than meant.
const SHORT_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// How often in a row the bucket may ask for fewer requests.
const THROTTLED: u32 = 20;
/// After how many objects it says how far it is.
const REMARK: usize = 100_000;

#[derive(Debug, Args)]
pub(super) struct SweepArgs {
    /// Removes what may be removed: in staging what no upload needs, below blobs/ what has been an orphan for longer than the
    /// restore window. Without it nothing is removed.
    #[arg(long)]
    apply: bool,
    /// Lets be what is younger; default: limits.sweep_min_age, and below blobs/ at least 3h.
    #[arg(long, value_name = "LENGTH", value_parser = config::parse_duration)]
    min_age: Option<Duration>,
    /// How long an object below blobs/ has to have been known as an orphan; default: limits.sweep_restore_window.
    #[arg(long, value_name = "LENGTH", value_parser = config::parse_duration)]
    restore_window: Option<Duration>,
    /// Applies a minimum age below 3h, or a restore window below 24h, all the same.
    #[arg(long, requires = "apply")]
    yes: bool,
    /// Shows everything, not only the first 20 of each kind.
    #[arg(long)]
    list: bool,
    /// A JSON object for each object that is shown, and the summary as the last line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(config: Config, args: SweepArgs) -> Result<(), Failure> {
    let (staging, blobs) = args.terms(&config.limits)?;
    let db = existing_ledger(&config).await?;
    let swept = sweep(&db, &config, (&args, staging, blobs)).await;
    db.close().await;
    swept
}

impl SweepArgs {
    /// How to go about staging and blobs; refuses what is dangerous and looks like a mistake.
    fn terms(&self, limits: &Limits) -> Result<(Terms, Terms), Failure> {
        let given = Terms {
            applies: self.apply,
            min_age: self.min_age.unwrap_or(limits.sweep_min_age),
            restore_window: self.restore_window.unwrap_or(limits.sweep_restore_window),
        };
        let hasty = self.min_age.is_some_and(|age| age < SAFE_AGE)
            || self.restore_window.is_some_and(|window| window < SHORT_WINDOW);
        if hasty && self.apply && !self.yes {
            return Err(Failure::usage("--min-age below 3h or --restore-window below 24h may remove what is needed").hint(
                "a store that runs may still name a young copy, and a better backup an old one; add --yes if no worker \
                 runs and the ledger is the right one",
            ));
        }
        // What is given holds as it is; what is configured is for staging first.
        Ok((given, if self.min_age.is_some() { given } else { given.past_all_stores() }))
    }
}

async fn sweep(db: &Db, config: &Config, (args, staging, blobs): (&SweepArgs, Terms, Terms)) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let queue = app::open_queue(config, db, &clock, &[]).await.map_err(|error| cannot_start(&error))?;
    let store = app::open_bucket_beside(config).await.map_err(|error| cannot_start(&error))?;
    let (bucket, queue) = (store.bucket(), app::as_queue(&queue));
    let ctx = Context { db: db.clone(), bucket, queue, clock, limits: config.limits };
    let mut report = Report::new(args, blobs.restore_window, config.limits.sweep_applies);
    let ended = go(&ctx, Sweep::whole(staging, blobs), &mut report).await;
    store.close().await;
    ended.map_err(|error| {
        Failure::new("the sweep broke off").because(&error).hint("what is said to be removed is gone; run it again")
    })?;
    Ok(report.tell(&ctx).await?)
}

async fn go(ctx: &Context, mut sweep: Sweep, report: &mut Report) -> Result<(), JobError> {
    let mut told = 0;
    while let Some(page) = patiently(ctx, &mut sweep).await? {
        report.add(&page);
        if report.looked_at() / REMARK > told {
            told = report.looked_at() / REMARK;
            remark(format_args!("{} objects looked at", report.looked_at()));
        }
    }
    Ok(())
}

/// The next page; a bucket that asks for fewer requests is given time.
async fn patiently(ctx: &Context, sweep: &mut Sweep) -> Result<Option<Page>, JobError> {
    for _ in 0..THROTTLED {
        match sweep.next(ctx).await {
            Err(JobError::Snooze { wait, .. }) => tokio::time::sleep(wait).await,
            ended => return ended,
        }
    }
    sweep.next(ctx).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SweepArgs,
    }

    fn terms(flags: &str) -> Result<(Terms, Terms), Failure> {
        let line = Line::try_parse_from(format!("sweep {flags}").split_whitespace()).unwrap();
        line.args.terms(&Limits { sweep_min_age: Duration::ZERO, ..Limits::default() })
    }

    #[test]
    fn a_dangerous_removal_has_to_be_meant() {
        for flags in ["--apply --min-age 0s", "--apply --min-age 2h59m", "--apply --restore-window 0s"] {
            let refused = terms(flags).err().unwrap().to_string();
            assert!(refused.contains("--yes"), "{refused}");
            assert!(terms(&format!("{flags} --yes")).is_ok());
        }
        for flags in ["", "--apply", "--min-age 0s --restore-window 0s", "--apply --min-age 3h --restore-window 24h"] {
            assert!(terms(flags).is_ok(), "{flags}");
        }
    }

    #[test]
    fn a_minimum_age_that_is_configured_for_staging_is_none_for_blobs() {
        let (staging, blobs) = terms("--apply").unwrap();
        assert_eq!((staging.min_age, blobs.min_age), (Duration::ZERO, SAFE_AGE));
        let (staging, blobs) = terms("--apply --min-age 1s --yes").unwrap();
        assert_eq!((staging.min_age, blobs.min_age), (Duration::from_secs(1), Duration::from_secs(1)));
    }
}
