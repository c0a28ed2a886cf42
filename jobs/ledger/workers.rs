//! Who works: the processes that work pools, each with its last beat.
//!
//! A process is there while it beats, and for three beats more. One that ends cleanly takes its row away; of one that died the
//! row is left for an hour, so that an operator sees when it was last there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Db, LedgerError};
use crate::job::Pool;
use crate::model::Timestamp;

/// How often a process beats.
pub const BEAT: Duration = Duration::from_secs(10);
/// One that was not seen for longer is gone.
pub const GONE: Duration = Duration::from_secs(3 * BEAT.as_secs());
/// How long its row is left.
const KEPT: Duration = Duration::from_secs(3600);

/// A process that works pools.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// New at every start.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it last beat.
    pub seen_at: Timestamp,
    /// What it does in each of its pools.
    pub pools: BTreeMap<Pool, Share>,
}

/// What one process does in one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Share {
    /// How many jobs it may run at once.
    pub concurrency: u64,
    /// How many it ran when it last beat.
    pub running: u64,
    /// How many runs ended in a second, on average between its last two beats.
    pub per_second: f64,
}

/// What all processes that are there do in one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Staff {
    /// How many processes.
    pub workers: u64,
    /// Their shares, added up.
    pub share: Share,
}

impl Worker {
    /// Whether it is there, or was a moment ago.
    #[must_use]
    pub fn is_there(&self, now: Timestamp) -> bool {
        now.since(self.seen_at) <= GONE
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    version: String,
    started_at: Timestamp,
    seen_at: Timestamp,
    pools: String,
}

impl Row {
    /// A newer release may have pools that this one does not know: they are left out.
    fn read(self) -> Worker {
        let pools: BTreeMap<String, Share> = serde_json::from_str(&self.pools).unwrap_or_default();
        let pools = pools.into_iter().filter_map(|(pool, share)| Some((pool.parse().ok()?, share))).collect();
        let Self { name, version, started_at, seen_at, .. } = self;
        Worker { name, version, started_at, seen_at, pools }
    }
}

/// Writes down that the worker is there. May be lost in a power cut, and does not wait for the disk.
pub async fn beat(db: &Db, worker: Worker) -> Result<(), LedgerError> {
    let query = "insert into workers (name, version, started_at, seen_at, pools)
        values ($1, $2, $3, $4, $5)
        on conflict (name) do update set seen_at = excluded.seen_at, pools = excluded.pools";
    let pools = serde_json::to_string(&worker.pools).expect("pools are words and shares are numbers");
    db.write_hint(move |mut tx| {
        Box::pin(async move {
            sql!(tx.on(), c => sqlx::query(query)
                .bind(worker.name)
                .bind(worker.version)
                .bind(worker.started_at)
                .bind(worker.seen_at)
                .bind(pools)
                .execute(c)
                .await
                .map(drop))?;
            Ok(())
        })
    })
    .await
}

/// The worker ends, and knows it.
pub async fn leave(db: &Db, name: String) -> Result<(), LedgerError> {
    let query = "delete from workers where name = $1";
    db.write_hint(move |mut tx| {
        Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).bind(name).execute(c).await.map(drop))?) })
    })
    .await
}

/// Forgets those that died long ago.
pub async fn forget_dead(db: &Db, now: Timestamp) -> Result<(), LedgerError> {
    let query = "delete from workers where seen_at < $1";
    db.write_hint(move |mut tx| {
        Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).bind(now - KEPT).execute(c).await.map(drop))?) })
    })
    .await
}

/// Every process that has beaten within the last hour and has not ended since, the longest there first.
pub async fn list(db: &Db) -> Result<Vec<Worker>, LedgerError> {
    let query = "select name, version, started_at, seen_at, pools from workers order by started_at, name";
    let rows: Vec<Row> = sql!(db.reader(), c => sqlx::query_as(query).fetch_all(c).await)?;
    Ok(rows.into_iter().map(Row::read).collect())
}

/// What those who are there do in each pool; a pool that nobody works is missing.
pub async fn by_pool(db: &Db, now: Timestamp) -> Result<BTreeMap<Pool, Staff>, LedgerError> {
    let mut pools: BTreeMap<Pool, Staff> = BTreeMap::new();
    let there = list(db).await?.into_iter().filter(|worker| worker.is_there(now));
    for (pool, share) in there.flat_map(|worker| worker.pools) {
        let staff = pools.entry(pool).or_default();
        staff.workers += 1;
        staff.share.concurrency += share.concurrency;
        staff.share.running += share.running;
        staff.share.per_second += share.per_second;
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::World;

    crate::on_every_engine! {
        a_worker_is_seen_at_its_last_beat_until_it_leaves,
        those_who_are_there_are_added_up_for_each_pool,
        one_that_died_is_shown_for_an_hour,
        a_pool_of_a_newer_release_is_left_out,
    }

    fn share(concurrency: u64, running: u64, per_second: f64) -> Share {
        Share { concurrency, running, per_second }
    }

    fn worker(world: &World, name: &str, pools: &[(Pool, Share)]) -> Worker {
        let now = world.ctx.now();
        let (name, version) = (name.to_owned(), "1.2.3".to_owned());
        Worker { name, version, started_at: now, seen_at: now, pools: pools.iter().copied().collect() }
    }

    async fn a_worker_is_seen_at_its_last_beat_until_it_leaves(world: World) {
        let first = worker(&world, "a", &[(Pool::Verify, share(8, 0, 0.0))]);
        beat(&world.ctx.db, first.clone()).await.unwrap();
        world.clock.advance(BEAT);
        let second =
            Worker { started_at: first.started_at, ..worker(&world, "a", &[(Pool::Verify, share(8, 3, 12.5))]) };
        beat(&world.ctx.db, second.clone()).await.unwrap();

        assert_eq!(list(&world.ctx.db).await.unwrap(), [second]);

        leave(&world.ctx.db, "a".to_owned()).await.unwrap();
        assert_eq!(list(&world.ctx.db).await.unwrap(), []);
    }

    async fn those_who_are_there_are_added_up_for_each_pool(world: World) {
        let db = &world.ctx.db;
        beat(db, worker(&world, "dead", &[(Pool::Verify, share(99, 9, 9.0))])).await.unwrap();
        world.clock.advance(GONE + Duration::from_millis(1));
        beat(db, worker(&world, "a", &[(Pool::Verify, share(8, 2, 1.5)), (Pool::Store, share(4, 0, 0.0))]))
            .await
            .unwrap();
        beat(db, worker(&world, "b", &[(Pool::Verify, share(8, 1, 2.0))])).await.unwrap();

        let pools = by_pool(db, world.ctx.now()).await.unwrap();

        let expected = [
            (Pool::Verify, Staff { workers: 2, share: share(16, 3, 3.5) }),
            (Pool::Store, Staff { workers: 1, share: share(4, 0, 0.0) }),
        ];
        assert_eq!(pools, expected.into_iter().collect());
    }

    async fn one_that_died_is_shown_for_an_hour(world: World) {
        let (db, dead) = (&world.ctx.db, worker(&world, "dead", &[]));
        beat(db, dead.clone()).await.unwrap();

        world.clock.advance(KEPT);
        forget_dead(db, world.ctx.now()).await.unwrap();
        assert_eq!(list(db).await.unwrap(), [dead]);

        world.clock.advance(Duration::from_millis(1));
        forget_dead(db, world.ctx.now()).await.unwrap();
        assert_eq!(list(db).await.unwrap(), []);
    }

    async fn a_pool_of_a_newer_release_is_left_out(world: World) {
        beat(&world.ctx.db, worker(&world, "new", &[(Pool::Verify, share(8, 2, 1.5))])).await.unwrap();
        let changed = world.ctx.db.write_one(|mut tx| {
            let query = "update workers set pools = replace(pools, '\"verify\":', '\"later\":{\"concurrency\":1,\"running\":1,\"perSecond\":1,\"more\":1},\"verify\":')";
            Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).execute(c).await?.rows_affected())) })
        });
        assert_eq!(changed.await.unwrap(), 1);

        let pools = by_pool(&world.ctx.db, world.ctx.now()).await.unwrap();

        assert_eq!(pools.into_keys().collect::<Vec<_>>(), [Pool::Verify]);
    }
}
