//! Taking back the jobs of workers that are gone.
//!
//! A job that ran when its worker died is blamed with a crash; one that was merely claimed is not. At the cap it dies even if
//! it has been pushed again meanwhile: what took that many workers down waits for an operator, not for a signal.

use std::collections::HashMap;
use std::time::Duration;

use longshore_jobs::job::{Pool, with_causes};
use longshore_jobs::outside::BoxError;
use redis::RedisResult;

use super::RedisQueue;
use super::calls::{self, STREAMS, lease_of};
use super::claim::Text;
use super::settle::{self, Verb};
use crate::queue::engine::{CRASH_CAP, CRASHED, LEASE, crash_told};

/// How many entries one script takes back.
const AT_ONCE: usize = 100;
/// A consumer without jobs that nobody has used for so long is removed.
const CONSUMER_IDLE: Duration = Duration::from_secs(4 * LEASE.as_secs());

/// Where to go on, how many were taken back, and id and text of those to be buried.
type Found = (String, u64, Vec<(String, Vec<u8>)>);

/// For how long nobody may have heard of whom.
#[derive(Clone, Copy)]
pub(super) struct Idle {
    lease: Duration,
    consumer: Duration,
}

impl Idle {
    /// Their leases have run out.
    pub(super) const LOST: Self = Self { lease: LEASE, consumer: CONSUMER_IDLE };
    /// Nobody but us is there.
    pub(super) const ANY: Self = Self { lease: Duration::ZERO, consumer: Duration::ZERO };
}

/// Takes back what nobody has renewed for that long.
pub(super) async fn reclaim(queue: &RedisQueue, idle: Idle) -> Result<HashMap<Pool, u64>, BoxError> {
    let mut rescued = HashMap::new();
    let looked = look_everywhere(queue, idle, &mut rescued).await;
    rescued.keys().for_each(|pool| queue.0.wakes.wake(*pool));
    match looked {
        // What has been taken back is told in any case; the next look will fail by itself.
        Err(error) if rescued.is_empty() => Err(error.into()),
        _ => Ok(rescued),
    }
}

async fn look_everywhere(queue: &RedisQueue, idle: Idle, rescued: &mut HashMap<Pool, u64>) -> RedisResult<()> {
    for pool in Pool::ALL {
        for stream in 1..=STREAMS {
            take_back(queue, *pool, stream, idle, rescued).await?;
        }
    }
    Ok(())
}

async fn take_back(
    queue: &RedisQueue,
    pool: Pool,
    stream: u8,
    idle: Idle,
    rescued: &mut HashMap<Pool, u64>,
) -> RedisResult<()> {
    let mut from = "0-0".to_owned();
    loop {
        let (next, mut count, crashed) = take_some(queue, pool, stream, idle, &from).await?;
        match bury(queue, pool, stream, &crashed).await {
            Ok(buried) => count += buried,
            // They stay where they are; the ledger may be away, and the others need not wait for it.
            Err(error) => {
                let error = with_causes(&*error);
                tracing::warn!(error, jobs = crashed.len(), "jobs that are dead could not be buried yet");
            }
        }
        if count > 0 {
            *rescued.entry(pool).or_default() += count;
        }
        if next == "0-0" {
            return Ok(());
        }
        from = next;
    }
}

async fn take_some(queue: &RedisQueue, pool: Pool, stream: u8, idle: Idle, from: &str) -> RedisResult<Found> {
    let mut call = queue.call(&calls::RESCUE, pool);
    call.arg(&queue.0.sender).arg(stream).arg(millis(idle.lease)).arg(from).arg(AT_ONCE);
    call.arg(CRASH_CAP).arg(millis(idle.consumer));
    queue.eval(&calls::RESCUE, &call).await
}

/// Letters first: after a crash in between the jobs are found again, and their letters take the places of these.
async fn bury(queue: &RedisQueue, pool: Pool, stream: u8, crashed: &[(String, Vec<u8>)]) -> Result<u64, BoxError> {
    let (mut leases, mut letters) = (Vec::new(), Vec::new());
    for (id, text) in crashed {
        let Some(lease) = lease_of(pool, stream, id) else { continue };
        leases.push(lease);
        let Some(text) = Text::read(text) else {
            tracing::error!(%pool, id, "a dead job cannot be read, and leaves no letter");
            continue;
        };
        let error = crash_told(text.kind, text.subject, text.crashes.into());
        letters.push(settle::letter(&lease, &text, CRASHED, error, queue.now()));
    }
    let count = u64::try_from(leases.len()).unwrap_or(u64::MAX);
    settle::insert(queue, letters).await?;
    settle::store(queue, leases.into_iter().map(|lease| (lease, Verb::Dropped))).await?;
    Ok(count)
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
