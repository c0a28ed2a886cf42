//! Gauges that are read from ledger and queue: counts of things, as opposed to counts of doings.
//!
//! They are read when somebody asks, once a second at most, and by nobody's request: a ledger that is slow or away holds up
//! no scrape. Such a scrape shows the figures that were read last, and how old they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryFutureExt as _;
use futures_util::future::join_all;
use longshore_jobs::job::{Context, with_causes};
use longshore_jobs::ledger::{reports, schedules, sweeps, uploads};
use longshore_jobs::model::Status;
use longshore_jobs::outside::BoxError;
use tokio::sync::watch;
use tokio::time::timeout;

use super::operations::Probe;

/// How long gauges are good for.
const FRESH: Duration = Duration::from_secs(1);
/// How long a scrape waits for fresh ones.
const MOMENT: Duration = Duration::from_millis(50);
/// How long one waits that has none to show yet.
const FIRST: Duration = Duration::from_secs(2);

const OPEN: [Status; 4] = [Status::Requested, Status::Issued, Status::Arrived, Status::Verified];

/// Sets some gauges.
pub type Reading = Probe;

/// What sets the gauges, and when it last did. Cheap to clone.
#[derive(Clone)]
pub struct Gauges {
    readings: Arc<[Reading]>,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy)]
struct State {
    under_way: bool,
    /// When the last reading began, whatever became of it.
    begun: Option<Instant>,
    /// When the last one began that could read everything; before the first, when all of this began.
    whole: Instant,
    has_any: bool,
}

impl Gauges {
    /// Those of the ledger, and what these readings set.
    pub fn new(ctx: &Context, mut readings: Vec<Reading>) -> Self {
        readings.extend(of_ledger(ctx));
        let state = State { under_way: false, begun: None, whole: Instant::now(), has_any: false };
        Self { readings: readings.into(), state: watch::Sender::new(state) }
    }

    /// Has the gauges read anew unless they are fresh, and waits for it a moment.
    pub async fn freshen(&self) {
        if self.begins() {
            tokio::spawn(self.clone().read());
        }
        let patience = if self.state.borrow().has_any { MOMENT } else { FIRST };
        let read = timeout(patience, self.state.subscribe().wait_for(|state| !state.under_way).map_ok(drop)).await;
        if read.is_err() {
            tracing::debug!(?patience, "gauges are shown as they were read before");
        }
        let age = self.state.borrow().whole.elapsed();
        metrics::gauge!("longshore_reading_age_seconds", "reading" => "all").set(age.as_secs_f64());
    }

    /// Whether they are to be read now, by whoever is told so.
    fn begins(&self) -> bool {
        self.state.send_if_modified(|state| {
            let stale = state.begun.is_none_or(|at| at.elapsed() >= FRESH);
            let begins = stale && !state.under_way;
            if begins {
                (state.under_way, state.begun) = (true, Some(Instant::now()));
            }
            begins
        })
    }

    /// Sets every gauge; one that cannot be read keeps its value.
    async fn read(self) {
        let end = End(&self.state);
        let begun = Instant::now();
        let read = join_all(self.readings.iter().map(|reading| reading())).await;
        for error in read.iter().filter_map(|read| read.as_ref().err()) {
            tracing::warn!(error = with_causes(&**error), "some gauges could not be read");
        }
        self.state.send_modify(|state| {
            state.has_any = true;
            if read.iter().all(Result::is_ok) {
                state.whole = begun;
            }
        });
        drop(end);
    }
}

/// The end of a reading, however it ends.
struct End<'g>(&'g watch::Sender<State>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.under_way = false);
    }
}

/// A reading that needs the context.
pub fn reading<F, R>(ctx: &Context, read: F) -> Reading
where
    F: Fn(Context) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let ctx = ctx.clone();
    Box::new(move || Box::pin(read(ctx.clone())))
}

fn of_ledger(ctx: &Context) -> [Reading; 4] {
    [reading(ctx, read_uploads), reading(ctx, read_reports), reading(ctx, read_schedules), reading(ctx, read_sweeps)]
}

async fn read_uploads(ctx: Context) -> Result<(), BoxError> {
    let (open, now) = (uploads::open(&ctx.db).await?, ctx.now());
    for status in OPEN {
        let row = open.iter().find(|row| row.status == status);
        #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 uploads")]
        let count = row.map_or(0, |row| row.count) as f64;
        let age = row.map_or(Duration::ZERO, |row| now.since(row.oldest));
        metrics::gauge!("longshore_uploads_open", "state" => status.as_str()).set(count);
        metrics::gauge!("longshore_upload_oldest_open_age_seconds", "state" => status.as_str()).set(age.as_secs_f64());
    }
    Ok(())
}

async fn read_reports(ctx: Context) -> Result<(), BoxError> {
    let oldest = reports::oldest_delta(&ctx.db).await?;
    let age = oldest.map_or(Duration::ZERO, |oldest| ctx.now().since(oldest));
    metrics::gauge!("longshore_report_age_seconds").set(age.as_secs_f64());
    Ok(())
}

async fn read_schedules(ctx: Context) -> Result<(), BoxError> {
    for (name, tick) in schedules::last_ticks(&ctx.db).await? {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since the epoch are below 2^53")]
        let seconds = tick.as_millis() as f64 / 1000.0;
        metrics::gauge!("longshore_schedule_last_tick_seconds", "kind" => name).set(seconds);
    }
    Ok(())
}

async fn read_sweeps(ctx: Context) -> Result<(), BoxError> {
    let sums = sweeps::sums(&ctx.db).await?;
    for kind in sweeps::Kind::ALL {
        #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 objects")]
        let orphans = sums.iter().find(|sum| sum.kind == *kind).map_or(0, |sum| sum.orphans) as f64;
        metrics::gauge!("longshore_sweep_orphans", "kind" => kind.as_str()).set(orphans);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicU64, Ordering};

    use longshore_jobs::testkit::World;

    use super::*;

    /// Gauges of a ledger of its own and this reading, and how often it was asked for.
    async fn gauges<R>(read: fn(u64) -> R) -> (World, Gauges, Arc<AtomicU64>)
    where
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let (world, asked) = (World::new().await, Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&asked);
        let reading: Reading = Box::new(move || Box::pin(read(counter.fetch_add(1, Ordering::Relaxed))));
        let gauges = Gauges::new(&world.ctx, vec![reading]);
        (world, gauges, asked)
    }

    /// As if the last reading had begun longer ago.
    fn grow_stale(gauges: &Gauges) {
        gauges.state.send_modify(|state| state.begun = state.begun.and_then(|at| at.checked_sub(FRESH)));
    }

    #[tokio::test]
    async fn who_asks_again_at_once_is_shown_the_same_reading() {
        let (_world, gauges, asked) = gauges(|_| async { Ok(()) }).await;

        gauges.freshen().await;
        gauges.freshen().await;
        assert_eq!(asked.load(Ordering::Relaxed), 1);

        grow_stale(&gauges);
        gauges.freshen().await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_reading_that_hangs_holds_up_no_scrape_and_is_not_begun_twice() {
        let hangs_from_the_second_on = |asked| async move {
            if asked > 0 {
                pending::<()>().await;
            }
            Ok(())
        };
        let (_world, gauges, asked) = gauges(hangs_from_the_second_on).await;
        gauges.freshen().await;

        for _ in 0..3 {
            grow_stale(&gauges);
            timeout(FIRST, gauges.freshen()).await.expect("it waits for a moment alone");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_could_not_be_read_is_as_old_as_it_is() {
        let fails_once = |asked| async move { if asked == 0 { Err("away".into()) } else { Ok(()) } };
        let (_world, gauges, _) = gauges(fails_once).await;
        let since = gauges.state.borrow().whole;

        gauges.freshen().await;
        assert_eq!(gauges.state.borrow().whole, since);

        grow_stale(&gauges);
        gauges.freshen().await;
        assert!(gauges.state.borrow().whole > since);
    }
}
