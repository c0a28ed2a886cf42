//! A queue in memory: works at once in the background, or keeps what it is given until it is drained.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use longshore_jobs::job::{self, Context, Delivery, NewJob, Verdict};
use longshore_jobs::outside::{LookError, Queue, QueueError, QueuedJob};
use tokio::sync::watch;
use uuid::Uuid;

/// What is pushed, in its order.
#[derive(Default)]
pub struct Line {
    waiting: Arc<Waiting>,
    pub(super) works_with: OnceLock<Context>,
    /// Whether jobs stay where they are.
    pub idle: AtomicBool,
    /// Whether every push fails.
    pub away: AtomicBool,
    /// Whether no push ends, as long as this is set.
    pub silent: watch::Sender<bool>,
}

#[derive(Default)]
struct Waiting {
    jobs: Mutex<Vec<NewJob>>,
    /// Held by the one who works, so that whoever drains waits for what is under way.
    working: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Queue for Line {
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(QueueError { count: jobs.len(), source: "secret internals of the queue".into() });
        }
        let _ = self.silent.subscribe().wait_for(|silent| !silent).await;
        self.waiting.jobs.lock().unwrap().extend(jobs);
        if !self.idle.load(Ordering::Relaxed) {
            tokio::spawn(work_off(self.works_with.get().unwrap().clone(), Arc::clone(&self.waiting)));
        }
        Ok(())
    }

    async fn about(&self, subjects: &[Uuid]) -> Result<Vec<QueuedJob>, LookError> {
        if self.away.load(Ordering::Relaxed) {
            return Err(LookError("secret internals of the queue".into()));
        }
        let jobs = self.waiting.jobs.lock().unwrap();
        let ours = jobs.iter().filter(|job| subjects.contains(&job.subject()));
        let queued = |job: &NewJob| QueuedJob {
            kind: job.kind().to_owned(),
            subject: job.subject(),
            pool: job.pool(),
            is_running: false,
            due: job.due(),
            attempts: 0,
            max_attempts: job.max_attempts(),
            error: None,
        };
        Ok(ours.map(queued).collect())
    }
}

impl Line {
    /// What waits.
    pub fn kinds(&self) -> Vec<&'static str> {
        self.waiting.jobs.lock().unwrap().iter().map(NewJob::kind).collect()
    }

    /// Whether somebody waits while it is silent.
    pub fn is_waited_for(&self) -> bool {
        self.silent.receiver_count() > 0
    }

    /// Works until nothing is left, whenever it is due.
    pub async fn drain(&self) {
        work_off(self.works_with.get().unwrap().clone(), Arc::clone(&self.waiting)).await;
    }
}

async fn work_off(ctx: Context, waiting: Arc<Waiting>) {
    let _alone = waiting.working.lock().await;
    loop {
        let jobs = std::mem::take(&mut *waiting.jobs.lock().unwrap());
        if jobs.is_empty() {
            return;
        }
        for job in jobs {
            let delivery = Delivery {
                kind: job.kind().to_owned(),
                subject: job.subject(),
                payload: job.payload().to_owned(),
                attempt: 1,
                max_attempts: job.max_attempts(),
                due: job.due(),
            };
            let verdict = job::perform(&ctx, &delivery).await;
            assert!(matches!(verdict, Verdict::Finished(_)), "{}: {verdict:?}", job.kind());
        }
    }
}
