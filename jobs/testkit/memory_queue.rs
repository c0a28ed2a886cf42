//! A queue in memory, drained by hand: what is due runs through [`perform`] until nothing is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use crate::job::{Context, Delivery, NewJob, Verdict, perform};
use crate::model::Timestamp;
use crate::outside::{LookError, Queue, QueueError, QueuedJob};

/// Keeps jobs, unique by kind and subject.
#[derive(Default)]
pub struct MemoryQueue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<(&'static str, Uuid), (NewJob, u32)>,
    dead: Vec<(NewJob, String)>,
    refuses: usize,
}

impl MemoryQueue {
    /// Runs what is due, in the order of due time, until nothing is. Returns what ran and how it ended.
    pub async fn drain(&self, ctx: &Context) -> Vec<(&'static str, Verdict)> {
        let mut ran = Vec::new();
        while let Some((job, attempt)) = self.take_due(ctx.now()) {
            let verdict = perform(ctx, &delivery(&job, attempt)).await;
            ran.push((job.kind(), verdict.clone()));
            self.settle(job, attempt, verdict);
        }
        ran
    }

    /// The kinds that wait, due or not.
    pub fn waiting(&self) -> Vec<&'static str> {
        self.lock().waiting.keys().map(|(kind, _)| *kind).collect()
    }

    /// The jobs that died, each with its error.
    pub fn dead(&self) -> Vec<(&'static str, String)> {
        self.lock().dead.iter().map(|(job, error)| (job.kind(), error.clone())).collect()
    }

    /// Forgets everything that waits, as a queue that was wiped would.
    pub fn forget(&self) {
        self.lock().waiting.clear();
    }

    /// The next so many pushes fail.
    pub fn refuse(&self, pushes: usize) {
        self.lock().refuses = pushes;
    }

    fn take_due(&self, now: Timestamp) -> Option<(NewJob, u32)> {
        let mut state = self.lock();
        let due = state.waiting.iter().filter(|(_, (job, _))| job.due() <= now);
        let key = *due.min_by_key(|(_, (job, _))| job.due())?.0;
        state.waiting.remove(&key)
    }

    /// A push that came while the job ran joins it now; behind one that died it is a fresh job.
    fn settle(&self, job: NewJob, attempt: u32, verdict: Verdict) {
        let mut state = self.lock();
        let key = (job.kind(), job.subject());
        let (at, attempt) = match verdict {
            Verdict::Finished(_) => return,
            Verdict::Snoozed { until } => (until, attempt),
            Verdict::Retried { at, .. } => (at, attempt + 1),
            Verdict::Dead { error, .. } => {
                if !state.waiting.contains_key(&key) {
                    state.dead.push((job, error));
                }
                return;
            }
        };
        let again = NewJob::revive(job.kind(), job.subject(), job.payload().to_owned(), job.lane(), at);
        let again = again.expect("it was on the roster when it was pushed");
        let joined = match state.waiting.remove(&key) {
            Some((pushed, _)) => pushed.joined_to(&again),
            None => again,
        };
        state.waiting.insert(key, (joined, attempt));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn delivery(job: &NewJob, attempt: u32) -> Delivery {
    Delivery {
        kind: job.kind().to_owned(),
        subject: job.subject(),
        payload: job.payload().to_owned(),
        attempt,
        max_attempts: job.max_attempts(),
        due: job.due(),
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
        let mut state = self.lock();
        if state.refuses > 0 {
            state.refuses -= 1;
            return Err(QueueError { count: jobs.len(), source: "the queue refuses".into() });
        }
        for job in jobs {
            let key = (job.kind(), job.subject());
            let joined = match state.waiting.remove(&key) {
                Some((waiting, attempt)) => (job.joined_to(&waiting), attempt),
                None => (job, 1),
            };
            state.waiting.insert(key, joined);
        }
        Ok(())
    }

    async fn about(&self, subjects: &[Uuid]) -> Result<Vec<QueuedJob>, LookError> {
        let state = self.lock();
        let ours = state.waiting.values().filter(|(job, _)| subjects.contains(&job.subject()));
        Ok(ours.map(|(job, attempt)| queued(job, *attempt)).collect())
    }
}

fn queued(job: &NewJob, attempt: u32) -> QueuedJob {
    QueuedJob {
        kind: job.kind().to_owned(),
        subject: job.subject(),
        pool: job.pool(),
        is_running: false,
        due: job.due(),
        attempts: attempt - 1,
        max_attempts: job.max_attempts(),
        error: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::Lane;
    use crate::noop::{Act, Noop};
    use crate::testkit::World;

    #[tokio::test]
    async fn a_push_onto_a_waiting_job_takes_the_earlier_time_and_the_better_lane_and_keeps_its_attempts() {
        let world = World::new().await;
        let job = Noop { act: Act::Fail, ..Noop::new(Uuid::now_v7()) };
        let later = world.ctx.now() + Duration::from_secs(3600);
        world.ctx.queue.push(vec![NewJob::of(&job, Lane::Bulk, world.ctx.now())]).await.unwrap();
        world.drain().await;

        world.ctx.queue.push(vec![NewJob::of(&job, Lane::Interactive, later)]).await.unwrap();

        let (waiting, attempt) = world.queue.take_due(later).unwrap();
        assert_eq!((waiting.lane(), attempt), (Lane::Interactive, 2));
        assert!(waiting.due() < later);
    }

    #[tokio::test]
    async fn a_push_onto_a_running_job_makes_it_run_once_more() {
        let world = World::new().await;
        let job = NewJob::of(&Noop::new(Uuid::now_v7()), Lane::Bulk, world.ctx.now());
        world.ctx.queue.push(vec![job.clone()]).await.unwrap();

        for (verdict, expected) in [
            (Verdict::Snoozed { until: world.ctx.now() + Duration::from_secs(60) }, 1),
            (Verdict::Retried { at: world.ctx.now() + Duration::from_secs(60), error: String::new() }, 2),
            (Verdict::Dead { reason: "gave_up", error: String::new() }, 1),
        ] {
            let (held, attempt) = world.queue.take_due(world.ctx.now()).unwrap();
            world.ctx.queue.push(vec![job.clone()]).await.unwrap();
            world.queue.settle(held, attempt.min(1), verdict);

            let again = world.queue.take_due(world.ctx.now()).unwrap();
            assert_eq!(again, (job.clone(), expected));
            world.ctx.queue.push(vec![job.clone()]).await.unwrap();
        }
        assert!(world.queue.dead().is_empty());
    }
}
