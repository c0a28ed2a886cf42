//! Reading what there is about some few things.

use longshore_jobs::job::Pool;
use longshore_jobs::outside::QueuedJob;
use longshore_jobs::roster;
use redis::RedisResult;
use uuid::Uuid;

use super::RedisQueue;
use super::calls;
use super::claim::Text;

/// Whether it is held, and its text.
type Entry = (bool, Vec<u8>);

pub(super) async fn about(queue: &RedisQueue, subjects: &[Uuid]) -> RedisResult<Vec<QueuedJob>> {
    let mut jobs = Vec::new();
    if subjects.is_empty() {
        return Ok(jobs);
    }
    for pool in Pool::ALL {
        let mut call = queue.call(&calls::ABOUT, *pool);
        for entry in roster::all().iter().filter(|entry| entry.pool == *pool) {
            for subject in subjects {
                call.arg(format!("{} {}", entry.kind, subject.simple()));
            }
        }
        let found: Vec<Entry> = queue.eval(&calls::ABOUT, &call).await?;
        jobs.extend(found.iter().filter_map(|(is_running, text)| Some(Text::read(text)?.queued(*pool, *is_running))));
    }
    Ok(jobs)
}
