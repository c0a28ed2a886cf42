//! The one wrapper that runs a job.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tracing::Instrument as _;
use tracing::field::Empty;

use super::{Context, Delivery, End, Job, JobError, Pool, Verdict, with_causes};
use crate::ledger::failures;
use crate::roster;

/// One line of the roster.
pub struct Entry {
    /// [`Job::KIND`].
    pub kind: &'static str,
    /// [`Job::POOL`].
    pub pool: Pool,
    /// [`Job::ATTEMPTS`].
    pub attempts: u32,
    /// [`Job::TIME_LIMIT`].
    pub time_limit: Duration,
    run: Run,
}

type Run = fn(Context, String) -> Pin<Box<dyn Future<Output = Result<End, Failure>> + Send>>;

enum Failure {
    Undecodable(serde_json::Error),
    Ran(JobError),
}

impl Entry {
    /// The entry of a job.
    #[must_use]
    pub const fn of<J: Job>() -> Self {
        Self { kind: J::KIND, pool: J::POOL, attempts: J::ATTEMPTS, time_limit: J::TIME_LIMIT, run: run_decoded::<J> }
    }
}

fn run_decoded<J: Job>(ctx: Context, payload: String) -> Pin<Box<dyn Future<Output = Result<End, Failure>> + Send>> {
    Box::pin(async move {
        let job: J = serde_json::from_str(&payload).map_err(Failure::Undecodable)?;
        job.run(&ctx).await.map_err(Failure::Ran)
    })
}

/// Runs a job: once, within its time limit, whatever happens inside. Never panics.
pub async fn perform(ctx: &Context, delivery: &Delivery) -> Verdict {
    let Some(entry) = roster::find(&delivery.kind) else {
        let error = format!("this program knows no job `{}`", delivery.kind);
        let span = tracing::info_span!("job", kind = delivery.kind, subject = %delivery.subject);
        return span.in_scope(|| conclude("unknown", Verdict::Dead { reason: "unknown_kind", error }));
    };
    let span = tracing::info_span!(
        "job",
        kind = entry.kind,
        subject = %delivery.subject,
        attempt = delivery.attempt,
        trace_id = Empty,
    );
    let started = Instant::now();
    metrics::histogram!("longshore_job_wait_seconds", "kind" => entry.kind)
        .record(ctx.now().since(delivery.due).as_secs_f64());
    let work = AssertUnwindSafe((entry.run)(ctx.clone(), delivery.payload.clone())).catch_unwind();
    async {
        let ended = tokio::time::timeout(entry.time_limit, work).await;
        metrics::histogram!("longshore_job_run_seconds", "kind" => entry.kind).record(started.elapsed().as_secs_f64());
        let verdict = conclude(entry.kind, judge(ctx, entry, delivery, ended));
        note_failure(ctx, delivery, &verdict).await;
        verdict
    }
    .instrument(span)
    .await
}

type Ended = Result<std::thread::Result<Result<End, Failure>>, tokio::time::error::Elapsed>;

fn judge(ctx: &Context, entry: &Entry, delivery: &Delivery, ended: Ended) -> Verdict {
    let error = match ended {
        Ok(Ok(Ok(end))) => return Verdict::Finished(end),
        Ok(Ok(Err(Failure::Undecodable(error)))) => {
            return Verdict::Dead { reason: "undecodable", error: with_causes(&error) };
        }
        Ok(Ok(Err(Failure::Ran(JobError::GiveUp(error))))) => {
            return Verdict::Dead { reason: "gave_up", error: with_causes(&*error) };
        }
        Ok(Ok(Err(Failure::Ran(JobError::Snooze { wait, why })))) => {
            tracing::debug!(why, "snoozed");
            return Verdict::Snoozed { until: ctx.now() + wait };
        }
        Ok(Ok(Err(Failure::Ran(JobError::Retry(error))))) => with_causes(&*error),
        Ok(Err(panic)) => format!("panicked: {}", panic_text(&*panic)),
        Err(_) => format!("took longer than {:?}", entry.time_limit),
    };
    Verdict::failed(delivery.attempt, delivery.max_attempts, ctx.now(), error)
}

fn conclude(kind: &'static str, verdict: Verdict) -> Verdict {
    metrics::counter!("longshore_jobs_finished_total", "kind" => kind, "outcome" => verdict.outcome()).increment(1);
    match &verdict {
        Verdict::Finished(_) => tracing::debug!(outcome = verdict.outcome(), "ended"),
        Verdict::Snoozed { .. } => {}
        Verdict::Retried { error, .. } => tracing::warn!(error, "will be tried again"),
        Verdict::Dead { reason, error } => tracing::error!(reason, error, "job is dead"),
    }
    verdict
}

/// How long the ledger may take to keep what went wrong: perhaps it is what went wrong.
const NOTING: Duration = Duration::from_secs(2);

/// Keeps a failed attempt for whoever asks later, as far as the ledger can.
async fn note_failure(ctx: &Context, delivery: &Delivery, verdict: &Verdict) {
    let (Verdict::Retried { error, .. } | Verdict::Dead { error, .. }) = verdict else { return };
    let noting = failures::note(&ctx.db, (delivery.subject, &delivery.kind), error, ctx.now());
    let fault = match tokio::time::timeout(NOTING, noting).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => with_causes(&error),
        Err(_) => format!("the ledger was silent for {NOTING:?}"),
    };
    tracing::warn!(error = fault, "the failed attempt is not kept");
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("with something that is no text")
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::model::Timestamp;
    use crate::noop::{Act, Noop};
    use crate::testkit::World;

    async fn verdict(act: Act, attempt: u32) -> Verdict {
        let world = World::new().await;
        let job = Noop { act, ..Noop::new(Uuid::now_v7()) };
        perform(&world.ctx, &delivery(Noop::KIND, serde_json::to_string(&job).unwrap(), attempt)).await
    }

    fn delivery(kind: &str, payload: String, attempt: u32) -> Delivery {
        let due = Timestamp::from_millis(0);
        Delivery { kind: kind.to_owned(), subject: Uuid::nil(), payload, attempt, max_attempts: 3, due }
    }

    #[tokio::test]
    async fn failures_panics_and_time_outs_are_tried_again() {
        for (act, expected) in [(Act::Fail, "told to fail"), (Act::Panic, "panicked"), (Act::Hang, "longer than 2s")] {
            let Verdict::Retried { error, .. } = verdict(act, 1).await else { panic!("{act:?} was not retried") };
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn the_last_attempt_ends_in_death() {
        for act in [Act::Fail, Act::Panic] {
            assert!(matches!(verdict(act, 3).await, Verdict::Dead { reason: "attempts", .. }), "{act:?}");
        }
        assert!(matches!(verdict(Act::GiveUp, 1).await, Verdict::Dead { reason: "gave_up", .. }));
    }

    #[tokio::test]
    async fn too_early_uses_no_attempt_however_often() {
        assert!(matches!(verdict(Act::Snooze, 3).await, Verdict::Snoozed { .. }));
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_dead_at_once() {
        let world = World::new().await;
        let garbage = perform(&world.ctx, &delivery(Noop::KIND, "{\"id\": 7}".to_owned(), 1)).await;
        assert!(matches!(garbage, Verdict::Dead { reason: "undecodable", .. }));
        let stranger = perform(&world.ctx, &delivery("from_the_future", "{}".to_owned(), 1)).await;
        assert!(matches!(stranger, Verdict::Dead { reason: "unknown_kind", .. }));
    }
}
