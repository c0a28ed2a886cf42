//! Reading how much there is. None of it goes through the writer.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_jobs::job::Pool;
use longshore_jobs::ledger::kept::{Kept, MANY};
use longshore_jobs::ledger::{Db, LedgerError};
use longshore_jobs::model::Timestamp;
use longshore_jobs::sql;

use super::{SqlQueue, lane_of};
use crate::queue::engine::Depth;

/// Two looks at the head of `jobs_waiting`, one per lane. By `limit` and not by `min`: PostgreSQL, which believes a queue short that
/// was short at the last vacuum, would read all that waits to find the least.
const NEXT_DUE: &str = "select min(run_at)
    from (
        select run_at from (
            select run_at from jobs
            where pool = $1 and lane = 0 and state = 0 and run_at >= $2
            order by run_at, id
            limit 1) as interactive
        union all
        select run_at from (
            select run_at from jobs
            where pool = $1 and lane = 1 and state = 0 and run_at >= $3
            order by run_at, id
            limit 1) as bulk) as heads";

/// One statement, so that no job is missed while it moves. What waits is counted from `jobs_waiting` alone. With 1,000,000
/// waiting it takes 300 to 400 ms on SQLite, 220 ms on PostgreSQL, and up to 1 s there before the first vacuum.
const DEPTHS: &str = "select pool, lane, count(*), count(*) filter (where run_at <= $1), 0, min(run_at)
    from jobs
    where state = 0
    group by pool, lane
    union all
    select pool, lane, 0, 0, count(*), null
    from jobs
    where state > 0
    group by pool, lane";

/// Whether more than so many wait. In the order of `jobs_waiting`, or PostgreSQL would read all of it before it counts. Takes 0.5
/// ms on SQLite, 2 ms on PostgreSQL, and 8 ms there before the first vacuum, however many wait.
const MORE_THAN: &str =
    "select exists (select 1 from jobs where state = 0 order by pool, lane, run_at, id limit 1 offset $1)";

/// The last count, if it was of many.
pub(super) type Counts = Kept<Vec<Row>>;

/// Pool, lane, waiting, due, running, and when the first became due.
pub(super) type Row = (Pool, i64, i64, i64, i64, Option<Timestamp>);

pub(super) async fn next_due(queue: &SqlQueue, pool: Pool) -> Result<Option<Timestamp>, LedgerError> {
    let from = queue.bells.floors().of(pool);
    Ok(sql!(queue.db.reader(), c => sqlx::query_scalar(NEXT_DUE)
        .bind(pool)
        .bind(from.in_lane(lane_of(0)))
        .bind(from.in_lane(lane_of(1)))
        .fetch_one(c)
        .await)?)
}

/// Exact as long as few wait. Of many it is what this process has counted last, half a minute ago at most.
pub(super) async fn depths(queue: &SqlQueue) -> Result<Vec<Depth>, LedgerError> {
    let many = i64::try_from(MANY).expect("many are no more than can be counted");
    if !sql!(queue.db.reader(), c => sqlx::query_scalar::<_, bool>(MORE_THAN).bind(many).fetch_one(c).await)? {
        queue.counts.forget();
    }
    let now = queue.clock.now();
    let waiting = |rows: &Vec<Row>| rows.iter().map(|(_, _, waiting, ..)| count(*waiting)).sum();
    let rows = queue.counts.or_count(waiting, count_all(queue.db.clone(), now)).await?;
    let mut depths = BTreeMap::new();
    for (pool, rank, waiting, due, running, oldest) in rows {
        let depth = depths.entry((pool, rank)).or_insert_with(|| empty(pool, rank));
        depth.waiting += count(waiting);
        depth.due += count(due);
        depth.running += count(running);
        depth.oldest_age = depth.oldest_age.max(oldest.map_or(Duration::ZERO, |oldest| now.since(oldest)));
    }
    Ok(depths.into_values().collect())
}

async fn count_all(db: Db, now: Timestamp) -> Result<Vec<Row>, LedgerError> {
    Ok(sql!(db.reader(), c => sqlx::query_as(DEPTHS).bind(now).fetch_all(c).await)?)
}

const fn empty(pool: Pool, rank: i64) -> Depth {
    Depth { pool, lane: lane_of(rank), waiting: 0, due: 0, running: 0, oldest_age: Duration::ZERO }
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use longshore_jobs::job::{Lane, NewJob};
    use longshore_jobs::ledger::Db;
    use longshore_jobs::noop::Noop;
    use longshore_jobs::outside::{Clock as _, Queue as _};
    use longshore_jobs::testkit::{HandClock, postgres};
    use uuid::Uuid;

    use super::*;
    use crate::queue::engine::Engine as _;

    /// Within the time for which the first count is kept.
    async fn counts_are_exact_again_as_soon_as_few_wait(db: Db) {
        let clock = Arc::new(HandClock::default());
        let queue = SqlQueue::new(db, Arc::clone(&clock) as Arc<_>);
        let jobs = (0..=MANY).map(|_| NewJob::of(&Noop::new(Uuid::now_v7()), Lane::Bulk, clock.now())).collect();
        queue.push(jobs).await.unwrap();
        assert_eq!(queue.depths().await.unwrap()[0].waiting, MANY + 1);

        delete_one(&queue.db).await;
        assert_eq!(queue.depths().await.unwrap()[0].waiting, MANY);
    }

    async fn delete_one(db: &Db) {
        let deleted = db.write_one(|mut tx| {
            let query = "delete from jobs where id = (select min(id) from jobs)";
            Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).execute(c).await?.rows_affected())) })
        });
        assert_eq!(deleted.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn counts_are_exact_again_as_soon_as_few_wait_on_sqlite() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("ledger.db")).await.unwrap();
        Box::pin(counts_are_exact_again_as_soon_as_few_wait(db)).await;
    }

    #[tokio::test]
    async fn counts_are_exact_again_as_soon_as_few_wait_on_postgres() {
        let Some(url) = postgres::schema("counts of many and few").await else { return };
        let db = Db::open_postgres(&url, 4).await.unwrap();
        Box::pin(counts_are_exact_again_as_soon_as_few_wait(db)).await;
    }
}
