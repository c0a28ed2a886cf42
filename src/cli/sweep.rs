//! `longshore sweep`
//!
//! A dry run unless `--apply` is given: what it finds it notes in the ledger, so that the next one knows how long it has been
//! there, and in the bucket it touches nothing. It may run beside the service.

mod report;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use longshore_jobs::job::{Context, JobError, Limits, with_causes};
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
/// How often in a row a page may fail.
const FAILED: u32 = 5;
/// Before a page is tried again; longer with each try.
const PAUSE: Duration = Duration::from_secs(2);
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
    /// Shows everything, not only the first 20 of each kind; of foreign objects never more.
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
    let mut report = Report::new(args, (staging, blobs), config.limits.sweep_applies);
    let mut sweep = Sweep::whole(staging, blobs);
    let ended = go(&ctx, &mut sweep, &mut report).await;
    store.close().await;
    ended.map_err(|error| {
        let place = sweep.reached().unwrap_or("the end").escape_debug().to_string();
        Failure::new(format!("the sweep broke off after {} objects, behind {place}", report.looked_at()))
            .because(&error)
            .hint("what is said to be removed is gone, and what was found is noted; run it again")
    })?;
    Ok(report.tell(&ctx).await?)
}

async fn go(ctx: &Context, sweep: &mut Sweep, report: &mut Report) -> Result<(), JobError> {
    let mut told = 0;
    while let Some(page) = patiently(ctx, sweep, PAUSE).await? {
        report.add(&page);
        if report.looked_at() / REMARK > told {
            told = report.looked_at() / REMARK;
            remark(format_args!("{} objects looked at", report.looked_at()));
        }
    }
    Ok(())
}

/// The next page; a bucket that asks for fewer requests is given time, and a lost connection is made again.
async fn patiently(ctx: &Context, sweep: &mut Sweep, pause: Duration) -> Result<Option<Page>, JobError> {
    let (mut throttled, mut failed) = (0, 0);
    loop {
        match sweep.next(ctx).await {
            Err(JobError::Snooze { wait, .. }) if throttled < THROTTLED => {
                throttled += 1;
                tokio::time::sleep(wait).await;
            }
            Err(JobError::Retry(error)) if failed < FAILED => {
                failed += 1;
                remark(format_args!("a page failed and is tried again: {}", with_causes(&*error)));
                tokio::time::sleep(pause * failed).await;
            }
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use longshore_jobs::model::keys;
    use longshore_jobs::testkit::World;

    use super::*;

    /// Once the first connection that was lost ended a run by hand, which has no place to go on from.
    #[tokio::test]
    async fn a_page_that_fails_is_tried_again_and_not_for_ever() {
        let world = World::new().await;
        let terms = Terms::of(&world.ctx.limits);
        let mut sweep = Sweep::whole(terms, terms);
        world.bucket.break_key(keys::STAGING);
        let (pause, mending) = (Duration::from_millis(1), async { world.bucket.mend_key(keys::STAGING) });

        // The first try fails before the bucket is mended.
        let (page, ()) = tokio::join!(patiently(&world.ctx, &mut sweep, pause), mending);
        assert_eq!(page.unwrap().unwrap().looked_at, 0);

        world.bucket.break_key(keys::BLOBS);
        assert!(patiently(&world.ctx, &mut sweep, pause).await.is_err());
        assert_eq!(sweep.reached(), Some(keys::BLOBS));
    }

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
