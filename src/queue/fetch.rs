//! Fetches jobs for one worker: as many as it has free slots, as soon as a bell rings, the next one is due, or, should a
//! bell have been missed, at the next poll.

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::job::{Pool, with_causes};
use longshore_jobs::outside::Clock;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::{Claim, Claimed, Engine, EngineError, Turns};
use super::holds::{Held, Holds};
use super::pace::{BATCH, Backoff, Pace};
use super::pauses::Watch;

/// How long a bell may be silent before the engine is asked when the next job is due.
const QUIET: Duration = Duration::from_millis(10);
/// The least time between two claims that do not fill the slots: what is pushed meanwhile is claimed together.
const GATHERING: Duration = Duration::from_millis(4);

/// The one of a worker that claims.
pub(super) struct Fetcher {
    pub(super) pool: Pool,
    pub(super) worker: Arc<str>,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) holds: Arc<Holds>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pauses: Watch,
    pub(super) pace: Pace,
    /// Set once no more is to be claimed. A claim under way is finished, and what it brings handed back.
    pub(super) stopping: CancellationToken,
}

impl Fetcher {
    /// Runs until it is told to stop. The end of `jobs` tells the backend that nothing more will come.
    pub(super) async fn run(mut self, jobs: mpsc::Sender<Held>) {
        let (turns, mut backoff) = (Turns::default(), Backoff::default());
        while let Some(free) = self.free_slots().await {
            match self.claim(free, &turns).await {
                Ok(claimed) => {
                    backoff.reset();
                    let all = claimed.len() == free;
                    self.hand_over(claimed, &jobs).await;
                    if !all {
                        let earliest = Instant::now() + GATHERING;
                        self.rest().await;
                        tokio::time::sleep_until(earliest).await;
                    }
                }
                Err(error) => {
                    let wait = backoff.next();
                    tracing::warn!(error = with_causes(&error), pool = %self.pool, ?wait, "nothing could be claimed");
                    self.pause_for(wait).await;
                }
            }
        }
    }

    /// Slots to fill, once there are any and the pool is not paused; `None` when it is time to stop.
    async fn free_slots(&mut self) -> Option<usize> {
        let stopping = self.stopping.clone();
        // Half of the slots at most: while one half is being stored, the other is being worked on.
        let max = (self.holds.size() / 2).clamp(1, BATCH);
        let ready = async {
            loop {
                self.pauses.resumed().await;
                let free = self.holds.take_slots(max).await;
                // The pause may have come while all slots were taken.
                if !self.pauses.is_paused() {
                    break free;
                }
                self.holds.give_back_slots(free);
            }
        };
        let free = stopping.run_until_cancelled(ready).await?;
        if stopping.is_cancelled() {
            self.holds.give_back_slots(free);
            return None;
        }
        Some(free)
    }

    async fn claim(&self, free: usize, turns: &Turns) -> Result<Vec<Claimed>, EngineError> {
        let worker = Arc::clone(&self.worker);
        let claim = Claim { pool: self.pool, worker, max: free, first: turns.next() };
        let claimed = self.engine.claim(&claim).await;
        self.holds.give_back_slots(free - claimed.as_ref().map_or(0, Vec::len));
        claimed
    }

    async fn hand_over(&self, claimed: Vec<Claimed>, jobs: &mpsc::Sender<Held>) {
        for held in self.holds.hold(claimed) {
            // The channel has a place for every slot. When the backend is gone, dropping the job hands it back.
            drop(jobs.send(held).await);
        }
    }

    /// Returns when there may be something to claim. In a busy queue the bell rings again at once, and nobody has to ask the
    /// engine when the next job is due.
    async fn rest(&self) {
        if self.pause_for(QUIET).await {
            return;
        }
        loop {
            let due = self.until_due().await;
            if self.pause_for(due.unwrap_or(self.pace.poll).min(self.pace.poll)).await {
                return;
            }
            if due.is_some_and(|wait| wait <= self.pace.poll) {
                return;
            }
        }
    }

    /// How long until the next job is due; `None` when none waits or the engine cannot be reached.
    async fn until_due(&self) -> Option<Duration> {
        let due = self.engine.next_due(self.pool).await.ok().flatten()?;
        Some(due.since(self.clock.now()))
    }

    /// Waits that long; `true` when a bell rang or it is time to stop.
    async fn pause_for(&self, wait: Duration) -> bool {
        tokio::select! {
            () = self.engine.wakes().woken(self.pool) => true,
            () = self.stopping.cancelled() => true,
            // A wait of nothing would spin when others claim what is due.
            () = tokio::time::sleep(wait.max(Duration::from_millis(2))) => false,
        }
    }
}
