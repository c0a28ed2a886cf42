//! Stores what came of jobs, in batches: whatever was told while the last batch was being stored is the next one.

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::job::{Verdict, with_causes};
use longshore_jobs::outside::Clock;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, EngineError, Lease};
use super::holds::{Ack, Holds, Outcome};
use super::pace::{BATCH, Backoff};

/// The one of a worker that tells the engine how its jobs ended.
pub(super) struct Acker {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) holds: Arc<Holds>,
    pub(super) clock: Arc<dyn Clock>,
    /// Set once the worker is to end: what is abandoned from then on is handed back.
    pub(super) stopping: CancellationToken,
    /// For how long an engine that answers may refuse an outcome: as long as leases last.
    pub(super) patience: Duration,
}

impl Acker {
    /// Runs until the worker and all its jobs are gone.
    pub(super) async fn run(self, mut told: mpsc::UnboundedReceiver<Ack>) {
        let mut acks = Vec::with_capacity(BATCH);
        while told.recv_many(&mut acks, BATCH).await > 0 {
            let leases: Vec<Lease> = acks.iter().map(|ack| ack.lease).collect();
            self.store(&mut acks).await;
            self.holds.release(leases.into_iter());
        }
    }

    async fn store(&self, acks: &mut Vec<Ack>) {
        let (mut settled, mut returned) = (Vec::with_capacity(acks.len()), Vec::new());
        for Ack { lease, outcome } in acks.drain(..) {
            match self.verdict(outcome) {
                Some(verdict) => settled.push((lease, verdict)),
                None => returned.push(lease),
            }
        }
        if !settled.is_empty() {
            self.settle(&settled).await;
        }
        if !returned.is_empty() {
            self.hand_back(&returned).await;
        }
    }

    /// `None` for a job that is to be handed back.
    fn verdict(&self, outcome: Outcome) -> Option<Verdict> {
        match outcome {
            Outcome::Ran(verdict) => Some(verdict),
            Outcome::Returned => None,
            Outcome::Abandoned { .. } if self.stopping.is_cancelled() => None,
            Outcome::Abandoned { attempt, max_attempts } => {
                tracing::warn!("a job was dropped before its end");
                let error = "it was dropped before its end".to_owned();
                Some(Verdict::failed(attempt, max_attempts, self.clock.now(), error))
            }
        }
    }

    /// Tries for as long as leases last, and while the engine is away. Then each alone: one outcome that cannot be stored must not cost the others.
    async fn settle(&self, settled: &[(Lease, Verdict)]) {
        if self.persist(|| self.engine.settle(settled)).await {
            return;
        }
        for one in settled.chunks(1) {
            if let Err(error) = self.engine.settle(one).await {
                let (error, verdict) = (with_causes(&error), one[0].1.outcome());
                tracing::error!(error, verdict, "an outcome is lost, and its job will run again");
            }
        }
    }

    async fn hand_back(&self, leases: &[Lease]) {
        if !self.persist(|| self.engine.hand_back(leases)).await {
            tracing::warn!(jobs = leases.len(), "jobs were not handed back and wait for their leases to run out");
        }
    }

    async fn persist<F>(&self, attempt: impl Fn() -> F) -> bool
    where
        F: Future<Output = Result<(), EngineError>>,
    {
        let mut deadline = Instant::now() + self.patience;
        let mut backoff = Backoff::default();
        loop {
            let Err(error) = attempt().await else { return true };
            let wait = backoff.next();
            tracing::warn!(error = with_causes(&error), ?wait, "outcomes are not stored yet");
            // It is not the outcomes' fault then, and nobody takes their jobs back before the engine has been there again.
            if self.engine.ping().await.is_err() {
                deadline = Instant::now() + wait + self.patience;
            }
            if Instant::now() + wait > deadline {
                return false;
            }
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }
}
