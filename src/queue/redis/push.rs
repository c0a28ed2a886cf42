//! Putting jobs on. Rings the pool's bell with every chunk: whoever rests need not wait for the last.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _};
use longshore_jobs::job::{NewJob, Pool};
use redis::{Cmd, RedisResult};

use super::RedisQueue;
use super::calls::{self, CHUNK, lane_number};
use crate::queue::counters::Enqueued;
use crate::queue::engine;

/// How many chunks are on their way at once: the next is there when one is done, and other calls get their turn between.
const IN_FLIGHT: usize = 3;

pub(super) async fn push(queue: &RedisQueue, jobs: Vec<NewJob>) -> RedisResult<()> {
    let mut by_pool: BTreeMap<Pool, Vec<NewJob>> = BTreeMap::new();
    for job in engine::join(jobs) {
        by_pool.entry(job.pool()).or_default().push(job);
    }
    for (pool, jobs) in by_pool {
        let chunks: Vec<_> = jobs.chunks(CHUNK).map(|chunk| push_chunk(queue, pool, chunk)).collect();
        futures_util::stream::iter(chunks).buffered(IN_FLIGHT).try_collect::<()>().await?;
    }
    Ok(())
}

async fn push_chunk(queue: &RedisQueue, pool: Pool, jobs: &[NewJob]) -> RedisResult<()> {
    let mut call = queue.call(&calls::PUSH, pool);
    call.arg(queue.now().as_millis()).arg(&queue.0.sender);
    jobs.iter().for_each(|job| add(&mut call, job));
    queue.eval::<()>(&calls::PUSH, &call).await?;
    Enqueued::of(jobs).count();
    queue.0.wakes.wake(pool);
    Ok(())
}

fn add(call: &mut Cmd, job: &NewJob) {
    let (kind, subject, due, payload) = (job.kind(), job.subject().simple(), job.due().as_millis(), job.payload());
    call.arg(lane_number(job.lane())).arg(format!("{kind} {subject} {due} 0 0 0 {payload}"));
}
