//! A queue in memory, drained by hand: what is due runs through [`perform`] until nothing is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use crate::job::{Context, Delivery, NewJob, Verdict, perform};
use crate::model::Timestamp;
use crate::outside::{Queue, QueueError};

/// Keeps jobs, unique by kind and subject.
#[derive(Default)]
pub struct MemoryQueue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<(&'static str, Uuid), (NewJob, u32)>,
    dead: Vec<(NewJob, String)>,
    refuses: bool,
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

    /// From now on every push fails, or no longer.
    pub fn refuse(&self, refuses: bool) {
        self.lock().refuses = refuses;
    }

    fn take_due(&self, now: Timestamp) -> Option<(NewJob, u32)> {
        let mut state = self.lock();
        let due = state.waiting.iter().filter(|(_, (job, _))| job.due() <= now);
        let key = *due.min_by_key(|(_, (job, _))| job.due())?.0;
        state.waiting.remove(&key)
    }

    fn settle(&self, job: NewJob, attempt: u32, verdict: Verdict) {
        let mut state = self.lock();
        let (at, attempt) = match verdict {
            Verdict::Finished(_) => return,
            Verdict::Snoozed { until } => (until, attempt),
            Verdict::Retried { at, .. } => (at, attempt + 1),
            Verdict::Dead { error, .. } => {
                state.dead.push((job, error));
                return;
            }
        };
        let again = NewJob::revive(job.kind(), job.subject(), job.payload().to_owned(), job.lane(), at);
        let again = again.expect("it was on the roster when it was pushed");
        state.waiting.entry((again.kind(), again.subject())).or_insert((again, attempt));
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
        if state.refuses {
            return Err(QueueError { count: jobs.len(), source: "the queue refuses".into() });
        }
        for job in jobs {
            let key = (job.kind(), job.subject());
            let earlier = state.waiting.get(&key).is_some_and(|(waiting, _)| waiting.due() <= job.due());
            if !earlier {
                state.waiting.insert(key, (job, 1));
            }
        }
        Ok(())
    }
}
