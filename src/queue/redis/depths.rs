//! Reading how much there is: counters and heads, however much waits.

use std::time::Duration;

use longshore_jobs::job::{Lane, Pool};
use longshore_jobs::model::Timestamp;
use redis::RedisResult;

use super::RedisQueue;
use super::calls;
use crate::queue::engine::Depth;

/// Waiting, due, running, and when the oldest in the streams and the first of the later ones are due.
type Row = (u64, u64, u64, Option<i64>, Option<i64>);

pub(super) async fn next_due(queue: &RedisQueue, pool: Pool) -> RedisResult<Option<Timestamp>> {
    let rows = look(queue, pool).await?;
    Ok(rows
        .into_iter()
        .flat_map(|(.., in_stream, later)| [in_stream, later])
        .flatten()
        .min()
        .map(Timestamp::from_millis))
}

pub(super) async fn depths(queue: &RedisQueue) -> RedisResult<Vec<Depth>> {
    let mut depths = Vec::new();
    for pool in Pool::ALL {
        let rows = look(queue, *pool).await?;
        let lanes = [Lane::Interactive, Lane::Bulk].into_iter().zip(rows);
        depths.extend(lanes.map(|(lane, row)| depth(*pool, lane, &row, queue.now())));
    }
    depths.retain(|depth| depth.waiting + depth.running > 0);
    Ok(depths)
}

async fn look(queue: &RedisQueue, pool: Pool) -> RedisResult<Vec<Row>> {
    let mut call = queue.call(&calls::DEPTHS, pool);
    call.arg(queue.now().as_millis());
    queue.eval(&calls::DEPTHS, &call).await
}

fn depth(pool: Pool, lane: Lane, row: &Row, now: Timestamp) -> Depth {
    let &(waiting, due, running, in_stream, later) = row;
    let oldest = in_stream.into_iter().chain(later).min().map(Timestamp::from_millis);
    let oldest_age = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
    Depth { pool, lane, waiting, due, running, oldest_age }
}
