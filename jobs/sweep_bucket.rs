//! Reconciles the bucket and the ledger: in staging it removes what no open upload needs; below `blobs/` it looks for objects
//! that no row names, and for rows whose object is missing.
//!
//! Before: nothing. Staging is swept whole in each run. Below `blobs/` a run goes on where the last one stopped, page by page, and
//! only looks, unless it is told to remove: objects then go when they are still orphans a restore window after they were first
//! seen, and rows never. A second run finds less. It ends at the end of both listings, or when its time is up.
//!
//! Ten million blobs are ten thousand pages, which take 10 to 30 minutes of a bucket on S3, about as long as one run may take. So
//! the place in the listing is kept: a slower bucket, or one of more objects, is gone through in several runs, and a run that
//! was killed costs a page.

mod blobs;
mod staging;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::job::{Context, End, Job, JobError, Limits, Pool};
use crate::ledger::LedgerError;
use crate::ledger::sweeps::{self, Kind, Orphan, Sum};
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
            if page.kind == Kind::Blob && began.elapsed() >= PATIENCE {
                tracing::info!("the next sweep goes on below blobs/ where this one stops");
                break;
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
    staged: Sum,
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
    /// How many were left, because their org is not in this ledger or their keys are not of our making.
    pub foreign: usize,
    /// What was removed.
    pub removed: Vec<Orphan>,
}

impl Page {
    const fn of(kind: Kind, looked_at: usize, foreign: usize) -> Self {
        Self { kind, looked_at, foreign, removed: Vec::new() }
    }
}

impl Sweep {
    /// As the schedule does it: staging is cleared, and below `blobs/` it goes on where the last one stopped.
    async fn scheduled(ctx: &Context) -> Result<Self, LedgerError> {
        let staging = Terms { applies: true, ..Terms::of(&ctx.limits) };
        let blobs = Terms { applies: ctx.limits.sweep_applies, ..staging.past_all_stores() };
        Ok(Self { keeps_place: true, ..Self::whole(staging, blobs) })
    }

    /// From end to end on these terms, whatever other sweeps do.
    #[must_use]
    pub fn whole(staging: Terms, blobs: Terms) -> Self {
        let (kind, as_of) = (Kind::Staging, crate::model::Timestamp::default());
        let staged = Sum { kind, orphans: 0, bytes: 0, oldest_at: None, as_of };
        Self { staging, blobs, place: Place::Staging(None), keeps_place: false, staged }
    }

    /// Sweeps a page; `None` when it is over. A page that failed can be tried again.
    pub async fn next(&mut self, ctx: &Context) -> Result<Option<Page>, JobError> {
        match &self.place {
            Place::Staging(after) => {
                let found = staging::sweep(ctx, self.staging, after.as_deref()).await?;
                self.count(&found.orphans);
                self.place = match found.next {
                    Some(next) => Place::Staging(Some(next)),
                    None => self.begin_blobs(ctx).await?,
                };
                Ok(Some(found.page))
            }
            Place::Blobs(after) => {
                let (page, reached) = blobs::sweep(ctx, self.blobs, after).await?;
                self.place = self.reach(ctx, reached).await?;
                Ok(Some(page))
            }
            Place::Over => Ok(None),
        }
    }

    fn count(&mut self, orphans: &[Orphan]) {
        self.staged.orphans += i64::try_from(orphans.len()).unwrap_or(0);
        self.staged.bytes += orphans.iter().map(|orphan| orphan.size).sum::<i64>();
        self.staged.oldest_at =
            self.staged.oldest_at.into_iter().chain(orphans.iter().map(|orphan| orphan.stored_at)).min();
    }

    async fn begin_blobs(&self, ctx: &Context) -> Result<Place, JobError> {
        sweeps::keep_sum(&ctx.db, Sum { as_of: ctx.now(), ..self.staged }).await?;
        let kept = if self.keeps_place { sweeps::place(&ctx.db, keys::BLOBS).await? } else { None };
        Ok(Place::Blobs(kept.unwrap_or_else(|| keys::BLOBS.to_owned())))
    }

    async fn reach(&self, ctx: &Context, reached: String) -> Result<Place, JobError> {
        let now = ctx.now();
        if reached != blobs::END {
            if self.keeps_place {
                sweeps::keep_place(&ctx.db, keys::BLOBS, &reached, now).await?;
            }
            return Ok(Place::Blobs(reached));
        }
        for kind in [Kind::Blob, Kind::Row] {
            sweeps::add_up(&ctx.db, kind, now).await?;
        }
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
        self.foreign += page.foreign;
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
