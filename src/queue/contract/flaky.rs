//! An engine whose connection comes and goes, and that counts what is asked of it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use async_trait::async_trait;
use longshore_jobs::job::Verdict;
use longshore_jobs::outside::{LookError, Queue, QueueError, QueuedJob};

use super::*;
use crate::queue::engine::{EngineError, Lease, Wakes};

/// What can be refused and counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Claim,
    Mark,
    Renew,
    Settle,
    HandBack,
    Reclaim,
    Look,
    Ping,
}

pub(super) struct Flaky {
    engine: Arc<dyn Engine>,
    away: AtomicBool,
    forbidden: Mutex<HashSet<Op>>,
    answered: Mutex<HashMap<Op, usize>>,
    refused: Mutex<HashMap<Op, usize>>,
    asked: Mutex<HashMap<Pool, usize>>,
    claimed: AtomicUsize,
}

impl Flaky {
    pub(super) fn over(engine: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            away: AtomicBool::default(),
            forbidden: Mutex::default(),
            answered: Mutex::default(),
            refused: Mutex::default(),
            asked: Mutex::default(),
            claimed: AtomicUsize::default(),
        })
    }

    pub(super) fn go(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// From now on it fails whatever else goes well.
    pub(super) fn forbid(&self, op: Op) {
        self.forbidden.lock().unwrap().insert(op);
    }

    /// How often it went well.
    pub(super) fn answered(&self, op: Op) -> usize {
        self.answered.lock().unwrap().get(&op).copied().unwrap_or(0)
    }

    /// How often it failed, because the engine was away or it was forbidden.
    pub(super) fn refused(&self, op: Op) -> usize {
        self.refused.lock().unwrap().get(&op).copied().unwrap_or(0)
    }

    /// How often jobs of the pool were asked for, or when the next one is due.
    pub(super) fn asked_for(&self, pool: Pool) -> usize {
        self.asked.lock().unwrap().get(&pool).copied().unwrap_or(0)
    }

    /// How many jobs were lent out.
    pub(super) fn claimed(&self) -> usize {
        self.claimed.load(Ordering::SeqCst)
    }

    fn note(&self, pool: Pool) {
        *self.asked.lock().unwrap().entry(pool).or_default() += 1;
    }

    /// The future does nothing until it is polled.
    async fn pass<T>(
        &self,
        op: Op,
        asking: impl Future<Output = Result<T, EngineError>> + Send,
    ) -> Result<T, EngineError> {
        if self.away.load(Ordering::SeqCst) || self.forbidden.lock().unwrap().contains(&op) {
            *self.refused.lock().unwrap().entry(op).or_default() += 1;
            return Err(EngineError { op: "reach", source: "it is away".into() });
        }
        let answer = asking.await?;
        *self.answered.lock().unwrap().entry(op).or_default() += 1;
        Ok(answer)
    }
}

#[async_trait]
impl Queue for Flaky {
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
        self.engine.push(jobs).await
    }

    async fn about(&self, subjects: &[Uuid]) -> Result<Vec<QueuedJob>, LookError> {
        self.engine.about(subjects).await
    }
}

#[async_trait]
impl Engine for Flaky {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, EngineError> {
        self.note(claim.pool);
        let claimed = self.pass(Op::Claim, self.engine.claim(claim)).await?;
        self.claimed.fetch_add(claimed.len(), Ordering::SeqCst);
        Ok(claimed)
    }

    async fn mark_started(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError> {
        self.pass(Op::Mark, self.engine.mark_started(leases)).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError> {
        self.pass(Op::Renew, self.engine.renew(leases)).await
    }

    async fn settle(&self, settled: &[(Lease, Verdict)]) -> Result<(), EngineError> {
        self.pass(Op::Settle, self.engine.settle(settled)).await
    }

    async fn hand_back(&self, leases: &[Lease]) -> Result<(), EngineError> {
        self.pass(Op::HandBack, self.engine.hand_back(leases)).await
    }

    async fn reclaim(&self) -> Result<HashMap<Pool, u64>, EngineError> {
        self.pass(Op::Reclaim, self.engine.reclaim()).await
    }

    async fn void_leases(&self) -> Result<HashMap<Pool, u64>, EngineError> {
        self.pass(Op::Reclaim, self.engine.void_leases()).await
    }

    async fn next_due(&self, pool: Pool) -> Result<Option<Timestamp>, EngineError> {
        self.note(pool);
        self.pass(Op::Look, self.engine.next_due(pool)).await
    }

    async fn ping(&self) -> Result<(), EngineError> {
        self.pass(Op::Ping, self.engine.ping()).await
    }

    async fn depths(&self) -> Result<Vec<Depth>, EngineError> {
        self.pass(Op::Look, self.engine.depths()).await
    }

    fn wakes(&self) -> &Wakes {
        self.engine.wakes()
    }
}
