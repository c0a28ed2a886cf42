//! The queue: a job that does nothing is put on, and a worker has to take it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_jobs::job::{Job as _, Lane, NewJob, Pool, with_causes};
use longshore_jobs::ledger::{Db, pools};
use longshore_jobs::model::Timestamp;
use longshore_jobs::noop::Noop;
use longshore_jobs::outside::{BoxError, LookError};
use uuid::Uuid;

use super::{Outcome, told, workers};
use crate::queue::engine::{Depth, Engine};

/// How long a worker may take to run a job that does nothing.
const PATIENCE: Duration = Duration::from_secs(15);
const BETWEEN: Duration = Duration::from_millis(20);
/// Jobs that wait for longer than this wait for somebody.
const LONG_DUE: Duration = Duration::from_secs(60);

const MEND_SILENT: &str =
    "see the checks of the ledger and of Redis above, whichever keeps the queue, and the server's log";

/// Puts a job on and waits until it is gone. `runs`: whether somebody may be running who takes it.
pub(super) async fn look(db: Db, engine: Arc<dyn Engine>, runs: bool) -> Outcome {
    let depths = match engine.depths().await {
        Ok(depths) => depths,
        Err(error) => return Outcome::failed(format!("it cannot be read: {}", with_causes(&error)), MEND_SILENT),
    };
    if let Some(late) = judge_depths(&depths, runs) {
        return late;
    }
    match idle(&db, runs).await {
        Ok(None) => {}
        Ok(Some(why)) => return Outcome::skipped(format!("it answers; no job was put on, for {why}")),
        Err(error) => return Outcome::failed(with_causes(&*error), MEND_SILENT),
    }
    let (job, started) = (Noop::new(Uuid::now_v7()), Instant::now());
    if let Err(error) = engine.push(vec![NewJob::of(&job, Lane::Interactive, Timestamp::system_now())]).await {
        return Outcome::failed(format!("no job can be put on: {}", with_causes(&error)), MEND_SILENT);
    }
    while started.elapsed() < PATIENCE {
        match is_there(&*engine, job.id).await {
            Ok(false) => {
                return Outcome::ok(format!("a job was put on and run in {} ms", started.elapsed().as_millis()));
            }
            Ok(true) => tokio::time::sleep(BETWEEN).await,
            Err(error) => return Outcome::failed(with_causes(&error), MEND_SILENT),
        }
    }
    Outcome::failed(
        format!("a job that does nothing was not run within {PATIENCE:?}; it waits there, and does no harm"),
        "see that a worker runs for the pool upkeep (`longshore worker`, or `longshore up`), and its log",
    )
}

/// Why nobody would take a job.
async fn idle(db: &Db, runs: bool) -> Result<Option<&'static str>, BoxError> {
    if !runs {
        return Ok(Some("nobody serves here now"));
    }
    if pools::paused(db).await?.iter().any(|(pool, _)| *pool == Pool::Upkeep) {
        return Ok(Some("the pool upkeep is paused"));
    }
    Ok((!workers::are_there(db, Pool::Upkeep).await?).then_some("no worker works the pool upkeep"))
}

/// What has waited for too long; `None` when nothing has.
fn judge_depths(depths: &[Depth], runs: bool) -> Option<Outcome> {
    let oldest = depths.iter().max_by_key(|depth| depth.oldest_age).filter(|depth| depth.oldest_age > LONG_DUE)?;
    let due: u64 = depths.iter().filter(|depth| depth.pool == oldest.pool).map(|depth| depth.due).sum();
    let mend = if runs {
        format!(
            "`longshore pool list` says whether {0} is paused; else more workers: `longshore worker --pools {0}`, or pools.{0}",
            oldest.pool
        )
    } else {
        "start the service: `longshore up`".to_owned()
    };
    Some(Outcome::warning(
        format!("{due} jobs of the pool {} are due, the oldest for {}", oldest.pool, told(oldest.oldest_age)),
        mend,
    ))
}

async fn is_there(engine: &dyn Engine, subject: Uuid) -> Result<bool, LookError> {
    let jobs = engine.about(&[subject]).await?;
    Ok(jobs.iter().any(|job| job.kind == Noop::KIND))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    #[test]
    fn jobs_that_wait_for_long_are_told_of_with_their_pool() {
        let depth = |pool, oldest_age| Depth { pool, lane: Lane::Bulk, waiting: 9, due: 7, running: 0, oldest_age };
        assert_eq!(judge_depths(&[depth(Pool::Verify, Duration::from_secs(5))], true), None);

        let late = [depth(Pool::Issue, Duration::ZERO), depth(Pool::Verify, Duration::from_secs(300))];
        let told = judge_depths(&late, true).unwrap();
        let Outcome::Warning(trouble) = &told else { panic!("{told:?}") };
        assert_eq!(trouble.detail, "7 jobs of the pool verify are due, the oldest for 5 min");
        assert!(trouble.mend.contains("--pools verify"), "{}", trouble.mend);
        assert_eq!(told.of("queue").status(), Status::Warning);
    }
}
