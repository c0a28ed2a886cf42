//! Reconciles the bucket and the ledger: in staging it removes what no open upload needs; below `blobs/` it looks for objects
//! that no row names, and for rows whose object is missing.
//!
//! Before: nothing. A run goes on where the last one stopped, page by page: in staging, for half its time at most, then below
//! `blobs/`. There it only looks, unless it is told to remove: objects then go when they are still orphans a restore window
//! after they were first seen, and rows never. A second run finds less. It ends at the end of both listings, or when its time
//! is up.
//!
//! Ten million blobs are ten thousand pages, which take 10 to 30 minutes of a bucket on S3, about as long as one run may take. So
//! the place in each listing is kept: a slower bucket, or one of more objects, is gone through in several runs, and a run that
//! was killed costs a page.

mod blobs;
mod staging;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Limits, Pool};
use crate::ledger::LedgerError;
use crate::ledger::sweeps::{self, Kind, Orphan, Sum, Tally};
use crate::model::keys;
use crate::outside::ObjectHead;

pub use blobs::SAFE_AGE;

/// How long a run takes new pages; what is left of its time limit is for the last one.
const PATIENCE: Duration = Duration::from_secs(1500);

/// Sweeps the bucket.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SweepBucket {}

impl Job for SweepBucket {
    const KIND: &'static str = "sweep_bucket";
    const POOL: Pool = Pool::Upkeep;
    /// A long listing takes a while.
    const TIME_LIMIT: Duration = Duration::from_secs(1800);

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let (began, mut swept) = (Instant::now(), Swept::default());
        let mut sweep = Sweep::scheduled(ctx).await?;
        while let Some(page) = sweep.next(ctx).await? {
            swept.add(&page);
            if began.elapsed() >= PATIENCE {
                tracing::info!("the next sweep goes on where this one stops");
                break;
            }
            if began.elapsed() >= PATIENCE / 2 {
                sweep.leave_staging(ctx).await?;
            }
        }
        Ok(swept.tell())
    }
}

/// How a sweep goes about it.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whether it removes what may go, or only looks.
    pub applies: bool,
    /// Objects that are younger are let be.
    pub min_age: Duration,
    /// How long a blob's object has to have been known as an orphan before it may go.
    pub restore_window: Duration,
}

impl Terms {
    /// A look, by the limits.
    #[must_use]
    pub const fn of(limits: &Limits) -> Self {
        Self { applies: false, min_age: limits.sweep_min_age, restore_window: limits.sweep_restore_window }
    }

    /// Below `blobs/` an object may belong to a store that has not committed yet: none that young counts.
    #[must_use]
    pub fn past_all_stores(self) -> Self {
        Self { min_age: self.min_age.max(SAFE_AGE), ..self }
    }
}

/// A sweep under way.
pub struct Sweep {
    staging: Terms,
    blobs: Terms,
    place: Place,
    /// Whether another sweep may go on where this one stops.
    keeps_place: bool,
    /// What was found in staging so far.
    staged: Tally,
}

/// What comes next.
enum Place {
    Staging(Option<String>),
    Blobs(String),
    Over,
}

/// What has come of a page.
#[derive(Clone, Debug)]
pub struct Page {
    /// Where: `staging` or `blob`.
    pub kind: Kind,
    /// How many objects it had.
    pub looked_at: usize,
    /// The keys of those that were left, because their org is not in this ledger or they are not of our making.
    pub foreign: Vec<String>,
    /// What is without its other half, gone or not.
    pub found: Vec<(Kind, Orphan)>,
    /// What was removed.
    pub removed: Vec<Orphan>,
}

impl Page {
    const fn of(kind: Kind, looked_at: usize, foreign: Vec<String>) -> Self {
        Self { kind, looked_at, foreign, found: Vec::new(), removed: Vec::new() }
    }
}

impl Sweep {
    /// As the schedule does it: it goes on where the last one stopped, and what nothing needs in staging is removed.
    async fn scheduled(ctx: &Context) -> Result<Self, LedgerError> {
        let staging = Terms { applies: true, ..Terms::of(&ctx.limits) };
        let blobs = Terms { applies: ctx.limits.sweep_applies, ..staging.past_all_stores() };
        let (place, staged) = sweeps::place(&ctx.db, keys::STAGING).await?.unzip();
        let staged = staged.unwrap_or_default();
        Ok(Self { place: Place::Staging(place), staged, keeps_place: true, ..Self::whole(staging, blobs) })
    }

    /// From end to end on these terms, whatever other sweeps do.
    #[must_use]
    pub fn whole(staging: Terms, blobs: Terms) -> Self {
        Self { staging, blobs, place: Place::Staging(None), keeps_place: false, staged: Tally::default() }
    }

    /// Sweeps a page; `None` when it is over. A page that failed can be tried again.
    pub async fn next(&mut self, ctx: &Context) -> Result<Option<Page>, JobError> {
        match &self.place {
            Place::Staging(after) => {
                let found = staging::sweep(ctx, self.staging, after.as_deref()).await?;
                let staged = self.staged.and(found.page.found.iter().map(|(_, orphan)| orphan));
                self.place = self.reach_in_staging(ctx, found.next, staged).await?;
                self.staged = staged;
                Ok(Some(found.page))
            }
            Place::Blobs(after) => {
                let (page, reached) = blobs::sweep(ctx, self.blobs, self.staging.applies, after).await?;
                self.place = self.reach_in_blobs(ctx, reached).await?;
                Ok(Some(page))
            }
            Place::Over => Ok(None),
        }
    }

    /// Behind which key it goes on; `None` at the end.
    #[must_use]
    pub fn reached(&self) -> Option<&str> {
        match &self.place {
            Place::Staging(after) => Some(after.as_deref().unwrap_or(keys::STAGING)),
            Place::Blobs(after) => Some(after),
            Place::Over => None,
        }
    }

    /// Lets the next sweep go on in staging, and goes over to the blobs.
    async fn leave_staging(&mut self, ctx: &Context) -> Result<(), JobError> {
        if matches!(self.place, Place::Staging(_)) {
            self.place = self.begin_blobs(ctx).await?;
        }
        Ok(())
    }

    async fn reach_in_staging(&self, ctx: &Context, next: Option<String>, staged: Tally) -> Result<Place, JobError> {
        if let Some(next) = next {
            if self.keeps_place {
                sweeps::keep_place(&ctx.db, keys::STAGING, (&next, staged), ctx.now()).await?;
            }
            return Ok(Place::Staging(Some(next)));
        }
        // Whoever asks by hand for another minimum age is told something else than the fleet is.
        if self.staging.min_age == ctx.limits.sweep_min_age {
            let Tally { orphans, bytes, oldest_at } = staged;
            let sum = Sum { kind: Kind::Staging, orphans, bytes, oldest_at, as_of: ctx.now() };
            sweeps::keep_sum(&ctx.db, sum).await?;
        }
        if self.keeps_place {
            sweeps::forget_place(&ctx.db, keys::STAGING).await?;
        }
        self.begin_blobs(ctx).await
    }

    async fn begin_blobs(&self, ctx: &Context) -> Result<Place, JobError> {
        let kept = if self.keeps_place { sweeps::place(&ctx.db, keys::BLOBS).await? } else { None };
        Ok(Place::Blobs(kept.map_or_else(|| keys::BLOBS.to_owned(), |(reached, _)| reached)))
    }

    async fn reach_in_blobs(&self, ctx: &Context, reached: String) -> Result<Place, JobError> {
        let now = ctx.now();
        if reached != blobs::END {
            if self.keeps_place {
                sweeps::keep_place(&ctx.db, keys::BLOBS, (&reached, Tally::default()), now).await?;
            }
            return Ok(Place::Blobs(reached));
        }
        // Findings that are too young by the settings are left to whoever has asked for them.
        if self.blobs.min_age >= Terms::of(&ctx.limits).past_all_stores().min_age {
            sweeps::add_up(&ctx.db, Kind::Blob, now).await?;
        }
        sweeps::add_up(&ctx.db, Kind::Row, now).await?;
        if self.keeps_place {
            sweeps::forget_place(&ctx.db, keys::BLOBS).await?;
        }
        Ok(Place::Over)
    }
}

fn orphan(object: &ObjectHead) -> Orphan {
    Orphan { object_key: object.key.clone(), size: object.size, stored_at: object.modified_at }
}

async fn remove(ctx: &Context, kind: Kind, orphans: &[Orphan]) -> Result<(), JobError> {
    if orphans.is_empty() {
        return Ok(());
    }
    let object_keys: Vec<String> = orphans.iter().map(|orphan| orphan.object_key.clone()).collect();
    ctx.bucket.delete(&object_keys).await?;
    metrics::counter!("longshore_sweep_deleted_total", "kind" => kind.as_str()).increment(orphans.len() as u64);
    Ok(())
}

/// What has come of all pages of a run.
#[derive(Debug, Default)]
struct Swept {
    removed: usize,
    foreign: usize,
}

impl Swept {
    fn add(&mut self, page: &Page) {
        self.removed += page.removed.len();
        self.foreign += page.foreign.len();
    }

    fn tell(self) -> End {
        if self.foreign > 0 {
            let foreign = self.foreign;
            tracing::warn!(foreign, "objects of orgs that this ledger does not know were left; is it their ledger?");
        }
        if self.removed == 0 {
            return End::Moot;
        }
        tracing::info!(removed = self.removed, "objects that nobody needed were removed");
        End::Done
    }
}

#[cfg(test)]
mod tests;
