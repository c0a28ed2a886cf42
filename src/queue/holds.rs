//! What one worker holds: its free slots, the leases of the jobs it has, and the way on which it tells what came of them.
//!
//! A slot is taken before a claim and given back when the outcome is stored, so a worker never holds more than it has slots
//! for, nor claims faster than the engine stores. Every claimed job carries a [`Hold`], which tells of it however it ends: a
//! job that is dropped anywhere on its way, by a layer, a panic or the end of the worker, is reported as abandoned.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_jobs::job::{Pool, Verdict};
use longshore_jobs::model::Timestamp;
use tokio::sync::{Semaphore, mpsc};

use super::engine::{Claimed, Lease};

/// How a job left its worker.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It has run.
    Ran(Verdict),
    /// It was never run: nothing is counted.
    Returned,
    /// It was dropped after it had begun.
    Abandoned {
        /// Which attempt this was.
        attempt: u32,
        /// How many there may be.
        max_attempts: u32,
    },
}

/// One job's end, on its way to the engine.
#[derive(Debug)]
pub(super) struct Ack {
    pub(super) lease: Lease,
    pub(super) outcome: Outcome,
}

/// Shared by the fetcher, the handlers, the acker and the heartbeat of one worker.
pub(super) struct Holds {
    size: usize,
    slots: Semaphore,
    held: Mutex<HashMap<Lease, Phase>>,
    acks: mpsc::UnboundedSender<Ack>,
    running: metrics::Gauge,
    /// How many runs have ended.
    ended: AtomicU64,
}

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Claimed,
    Started,
    /// Started, and the engine knows.
    Marked,
}

impl Holds {
    /// For a worker of the pool with so many slots, and what it will have to say.
    pub(super) fn new(pool: Pool, size: usize) -> (Arc<Self>, mpsc::UnboundedReceiver<Ack>) {
        let (acks, told) = mpsc::unbounded_channel();
        let running = metrics::gauge!("longshore_jobs_running", "pool" => pool.as_str());
        let holds =
            Self { size, slots: Semaphore::new(size), held: Mutex::default(), acks, running, ended: AtomicU64::new(0) };
        (Arc::new(holds), told)
    }

    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Takes from 1 to `max` slots as soon as one is free.
    pub(super) async fn take_slots(&self, max: usize) -> usize {
        let first = self.slots.acquire().await.expect("the slots are never closed");
        first.forget();
        1 + self.slots.forget_permits(max - 1)
    }

    pub(super) fn give_back_slots(&self, count: usize) {
        self.slots.add_permits(count);
    }

    /// Returns when nothing is held any more, and everything is stored.
    pub(super) async fn drained(&self) {
        let all = u32::try_from(self.size).expect("slots are few");
        drop(self.slots.acquire_many(all).await.expect("the slots are never closed"));
    }

    /// Holds what was claimed.
    pub(super) fn hold(self: &Arc<Self>, claimed: Vec<Claimed>) -> Vec<Held> {
        self.lock().extend(claimed.iter().map(|job| (job.lease, Phase::Claimed)));
        claimed.into_iter().map(|job| Held { hold: Some(Hold::of(&job, self)), job }).collect()
    }

    /// Forgets what has been stored, and frees its slots.
    pub(super) fn release(&self, leases: impl Iterator<Item = Lease>) {
        let mut count = 0;
        let mut held = self.lock();
        for lease in leases {
            held.remove(&lease);
            count += 1;
        }
        drop(held);
        self.give_back_slots(count);
    }

    /// All leases, for the heartbeat.
    pub(super) fn leases(&self) -> Vec<Lease> {
        self.lock().keys().copied().collect()
    }

    /// Those that have started without the engine's knowing.
    pub(super) fn unmarked(&self) -> Vec<Lease> {
        let held = self.lock();
        held.iter().filter(|(_, phase)| **phase == Phase::Started).map(|(lease, _)| *lease).collect()
    }

    /// The engine knows that these have started.
    pub(super) fn mark(&self, leases: &[Lease]) {
        let mut held = self.lock();
        for lease in leases {
            held.entry(*lease).and_modify(|phase| *phase = Phase::Marked);
        }
    }

    /// These are no longer ours: what has not started will not.
    pub(super) fn lose(&self, leases: &[Lease]) {
        let mut held = self.lock();
        for lease in leases {
            held.remove(lease);
        }
    }

    /// To be called as a job begins: `None` when it is no longer ours. It counts as running until the answer is dropped.
    pub(super) fn start(self: &Arc<Self>, lease: &Lease) -> Option<Running> {
        if !self.begin(lease) {
            return None;
        }
        self.running.increment(1);
        Some(Running(self.running.clone()))
    }

    /// How many of the jobs held have begun.
    pub(super) fn count_running(&self) -> usize {
        self.lock().values().filter(|phase| **phase != Phase::Claimed).count()
    }

    /// How many runs have ended, whatever came of them.
    pub(super) fn count_ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    fn has_started(&self, lease: &Lease) -> bool {
        self.lock().get(lease).is_some_and(|phase| *phase != Phase::Claimed)
    }

    fn begin(&self, lease: &Lease) -> bool {
        let mut held = self.lock();
        let Some(phase) = held.get_mut(lease) else { return false };
        if *phase == Phase::Claimed {
            *phase = Phase::Started;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, Phase>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claimed job on its way through the layers. This is what apalis sees as a task's arguments.
pub(super) struct Held {
    pub(super) job: Claimed,
    /// The backend's layer takes it out; `None` behind that layer.
    hold: Option<Hold>,
}

impl Held {
    /// Takes the hold out, for whoever is to tell of the job from now on.
    pub(super) fn take_hold(&mut self) -> Option<Hold> {
        self.hold.take()
    }
}

/// The duty to tell what came of a job. Dropped, it tells that the job was abandoned.
pub(super) struct Hold {
    holds: Arc<Holds>,
    lease: Lease,
    attempt: u32,
    max_attempts: u32,
    told: bool,
}

impl Hold {
    fn of(job: &Claimed, holds: &Arc<Holds>) -> Self {
        let (attempt, max_attempts) = (job.delivery.attempt, job.delivery.max_attempts);
        Self { holds: Arc::clone(holds), lease: job.lease, attempt, max_attempts, told: false }
    }

    /// Tells what came of the job.
    pub(super) fn tell(mut self, outcome: Outcome) {
        self.send(outcome);
    }

    /// Tells that the attempt failed without a verdict.
    pub(super) fn tell_failed(self, now: Timestamp, error: String) {
        let verdict = Verdict::failed(self.attempt, self.max_attempts, now, error);
        self.tell(Outcome::Ran(verdict));
    }

    fn send(&mut self, outcome: Outcome) {
        self.told = true;
        if matches!(outcome, Outcome::Ran(_)) {
            self.holds.ended.fetch_add(1, Ordering::Relaxed);
        }
        // Without an acker the process is about to end, and the lease will run out.
        drop(self.holds.acks.send(Ack { lease: self.lease, outcome }));
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.told {
            let (attempt, max_attempts) = (self.attempt, self.max_attempts);
            let abandoned = self.holds.has_started(&self.lease);
            self.send(if abandoned { Outcome::Abandoned { attempt, max_attempts } } else { Outcome::Returned });
        }
    }
}

/// One more in `longshore_jobs_running`, until it is dropped.
pub(super) struct Running(metrics::Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    use longshore_jobs::job::{Delivery, Lane};
    use uuid::Uuid;

    use super::*;

    const POOL: Pool = Pool::Upkeep;

    fn claimed(id: u128) -> Claimed {
        Claimed {
            lease: Lease { id, token: 1, pool: POOL, lane: Lane::Bulk },
            delivery: Delivery {
                kind: "noop".to_owned(),
                subject: Uuid::nil(),
                payload: String::new(),
                attempt: 2,
                max_attempts: 9,
                due: Timestamp::from_millis(0),
            },
            losses: 0,
            crashes: 0,
        }
    }

    #[tokio::test]
    async fn a_job_that_is_dropped_tells_of_itself() {
        let (holds, mut told) = Holds::new(POOL, 4);
        let mut held = holds.hold(vec![claimed(1), claimed(2)]);
        let _running = holds.start(&held[1].job.lease).unwrap();

        drop(held.remove(0));
        assert!(matches!(told.recv().await.unwrap().outcome, Outcome::Returned));
        drop(held);
        let outcome = told.recv().await.unwrap().outcome;
        assert!(matches!(outcome, Outcome::Abandoned { attempt: 2, max_attempts: 9 }));
    }

    #[tokio::test]
    async fn slots_are_free_again_when_outcomes_are_stored() {
        let (holds, _told) = Holds::new(POOL, 4);
        assert_eq!(holds.take_slots(3).await, 3);
        assert_eq!(holds.take_slots(3).await, 1);

        let held = holds.hold(vec![claimed(1), claimed(2)]);
        holds.release(held.iter().map(|held| held.job.lease));

        assert_eq!(holds.take_slots(9).await, 2);
        assert!(holds.leases().is_empty());
    }

    #[test]
    fn a_lost_job_does_not_start() {
        let (holds, _told) = Holds::new(POOL, 4);
        let lease = claimed(1).lease;
        let _held = holds.hold(vec![claimed(1)]);

        holds.lose(&[lease]);

        assert!(holds.start(&lease).is_none());
    }
}
