//! An engine whose connection comes and goes, and that counts what is asked of it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use async_trait::async_trait;
use longshore_jobs::job::Verdict;
use longshore_jobs::outside::{Queue, QueueError};

use super::*;
use crate::queue::engine::{EngineError, Lease, Wakes};

pub(super) struct Flaky {
    engine: Arc<dyn Engine>,
    away: AtomicBool,
    refused_outcomes: AtomicBool,
    asked: Mutex<HashMap<Pool, usize>>,
    claimed: AtomicUsize,
    renewals: AtomicUsize,
}

impl Flaky {
    pub(super) fn over(engine: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            away: AtomicBool::default(),
            refused_outcomes: AtomicBool::default(),
            asked: Mutex::default(),
            claimed: AtomicUsize::default(),
            renewals: AtomicUsize::default(),
        })
    }

    pub(super) fn go(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(super) fn has_refused_outcomes(&self) -> bool {
        self.refused_outcomes.load(Ordering::SeqCst)
    }

    /// How often jobs of the pool were asked for, or when the next one is due.
    pub(super) fn asked_for(&self, pool: Pool) -> usize {
        self.asked.lock().unwrap().get(&pool).copied().unwrap_or(0)
    }

    /// How many jobs were lent out.
    pub(super) fn claimed(&self) -> usize {
        self.claimed.load(Ordering::SeqCst)
    }

    /// How often leases were renewed.
    pub(super) fn renewals(&self) -> usize {
        self.renewals.load(Ordering::SeqCst)
    }

    fn note(&self, pool: Pool) {
        *self.asked.lock().unwrap().entry(pool).or_default() += 1;
    }

    fn reach(&self) -> Result<&dyn Engine, EngineError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(EngineError { op: "reach", source: "it is away".into() });
        }
        Ok(&*self.engine)
    }
}

#[async_trait]
impl Queue for Flaky {
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
        self.engine.push(jobs).await
    }
}

#[async_trait]
impl Engine for Flaky {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, EngineError> {
        self.note(claim.pool);
        let claimed = self.reach()?.claim(claim).await?;
        self.claimed.fetch_add(claimed.len(), Ordering::SeqCst);
        Ok(claimed)
    }

    async fn mark_started(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError> {
        self.reach()?.mark_started(leases).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError> {
        let held = self.reach()?.renew(leases).await?;
        self.renewals.fetch_add(1, Ordering::SeqCst);
        Ok(held)
    }

    async fn settle(&self, settled: &[(Lease, Verdict)]) -> Result<(), EngineError> {
        let engine = self.reach().inspect_err(|_| self.refused_outcomes.store(true, Ordering::SeqCst))?;
        engine.settle(settled).await
    }

    async fn hand_back(&self, leases: &[Lease]) -> Result<(), EngineError> {
        self.reach()?.hand_back(leases).await
    }

    async fn reclaim(&self) -> Result<HashMap<Pool, u64>, EngineError> {
        self.reach()?.reclaim().await
    }

    async fn void_leases(&self) -> Result<HashMap<Pool, u64>, EngineError> {
        self.reach()?.void_leases().await
    }

    async fn next_due(&self, pool: Pool) -> Result<Option<Timestamp>, EngineError> {
        self.note(pool);
        self.reach()?.next_due(pool).await
    }

    async fn depths(&self) -> Result<Vec<Depth>, EngineError> {
        self.reach()?.depths().await
    }

    fn wakes(&self) -> &Wakes {
        self.engine.wakes()
    }
}
