//! apalis's view of an engine: a `Backend` that only reads a channel, and a layer that reports how each task ended.
//!
//! Everything that waits for the engine runs in tasks of its own (fetcher, acker, heartbeat), so a slow engine never holds up
//! the tasks in flight. `poll_next` fails only if the fetcher itself has died: to apalis an error is the end of the worker.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::error::BoxDynError;
use apalis_core::task::Task;
use apalis_core::task::task_id::RandomId;
use apalis_core::worker::context::WorkerContext;
use longshore_jobs::outside::Clock;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::{Layer, Service};

use super::fetch::Fetcher;
use super::holds::{Held, Hold, Outcome};

/// apalis builds a broken worker anew at once; this keeps one that breaks again and again from spinning.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The jobs of one pool as a stream of tasks.
pub(super) struct Source {
    jobs: mpsc::Receiver<Held>,
    stopping: CancellationToken,
    clock: Arc<dyn Clock>,
    worker: Arc<str>,
}

impl Source {
    /// Starts to fetch, a little later if the worker has broken before. Dropping the source stops the fetcher and hands
    /// back what has not begun.
    pub(super) fn start(mut fetcher: Fetcher, restarts: usize) -> Self {
        let (sender, jobs) = mpsc::channel(fetcher.holds.size());
        // A child: this source may end without the whole worker's end.
        fetcher.stopping = fetcher.stopping.child_token();
        let (stopping, clock, worker) =
            (fetcher.stopping.clone(), Arc::clone(&fetcher.clock), Arc::clone(&fetcher.worker));
        tokio::spawn(async move {
            if restarts > 0 {
                tokio::time::sleep(RESTART_DELAY).await;
            }
            fetcher.run(sender).await;
        });
        Self { jobs, stopping, clock, worker }
    }

    /// The name that operators see, another one at every start.
    pub(super) fn worker(&self) -> &str {
        &self.worker
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// The fetcher has ended although nobody told it to.
#[derive(Debug, thiserror::Error)]
#[error("the fetcher of the worker has died")]
pub(super) struct FetcherDied;

impl Backend for Source {
    type Task = Task<Held>;
    type Error = FetcherDied;

    fn poll_ready(&mut self, _cx: &mut Context<'_>, _worker: &WorkerContext) -> Poll<Result<(), FetcherDied>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _worker: &WorkerContext,
    ) -> Poll<Option<Result<Task<Held>, FetcherDied>>> {
        if self.stopping.is_cancelled() {
            // The worker is told to stop next, and then closes this source.
            return Poll::Pending;
        }
        match ready!(self.jobs.poll_recv(cx)) {
            Some(held) => Poll::Ready(Some(Ok(Task::new(held)))),
            None if self.stopping.is_cancelled() => Poll::Pending,
            None => Poll::Ready(Some(Err(FetcherDied))),
        }
    }

    /// Hands back what was fetched and has not begun, until the fetcher is done with its last claim.
    fn poll_close(&mut self, cx: &mut Context<'_>, _worker: &WorkerContext) -> Poll<Result<(), FetcherDied>> {
        self.stopping.cancel();
        while let Some(held) = ready!(self.jobs.poll_recv(cx)) {
            drop(held);
        }
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for Source {
    type Args = Held;
    type Id = RandomId;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Reporting;

    fn config(&self) -> &Self::Config {
        &()
    }

    fn middleware(&mut self, _worker: &mut WorkerContext) -> Reporting {
        Reporting { clock: Arc::clone(&self.clock) }
    }
}

/// The layer around all others that tells the acker how each task ended, even if its future is dropped.
#[derive(Clone)]
pub(super) struct Reporting {
    clock: Arc<dyn Clock>,
}

impl<S> Layer<S> for Reporting {
    type Service = Reported<S>;

    fn layer(&self, inner: S) -> Reported<S> {
        Reported { inner, clock: Arc::clone(&self.clock) }
    }
}

/// See [`Reporting`].
pub(super) struct Reported<S> {
    inner: S,
    clock: Arc<dyn Clock>,
}

impl<S> Service<Task<Held>> for Reported<S>
where
    S: Service<Task<Held>, Response = Outcome>,
    S::Error: Into<BoxDynError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut task: Task<Held>) -> Self::Future {
        let hold = task.args.take_hold();
        let (run, clock) = (self.inner.call(task), Arc::clone(&self.clock));
        Box::pin(async move {
            report(hold, run.await, &*clock);
            Ok(())
        })
    }
}

fn report<E: Into<BoxDynError>>(hold: Option<Hold>, ended: Result<Outcome, E>, clock: &dyn Clock) {
    let Some(hold) = hold else { return };
    match ended {
        Ok(outcome) => hold.tell(outcome),
        Err(error) => hold.tell_failed(clock.now(), error.into().to_string()),
    }
}
