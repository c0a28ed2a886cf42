//! The queue on Redis Streams, from Redis 7.0 on.
//!
//! # What is where
//!
//! A lane is a stream with the consumer group `workers`; beside it is a second stream, read first, for jobs that have waited
//! before: handed back, or taken back from a worker that is gone. What is due later is in a sorted set, and moved into the
//! stream at the claims that follow. A hash knows the one place of each job. `job.lua` describes all of it; every step is
//! one script over the keys of one pool, so nothing is ever half done.
//!
//! An entry carries the whole job, so a claim reads it and is done. The id of the entry is the lease: an entry is lent out
//! once, and a job that comes back becomes another entry, so a stale lease names nothing any more. The lease lasts by the
//! server's idle time of the pending entry. A finished job leaves nothing behind: acknowledged, deleted and out of the hash in
//! one script. The error of a failed attempt is in the log alone until the job dies.
//!
//! # What holds and what does not
//!
//! No step takes longer because more waits, and no script touches more than some hundred entries. A push or a batch of verdicts
//! beyond that is several scripts: when the connection breaks in between, the first ones are done and the caller is told an
//! error. Doing all of it again does no harm: pushes join, and stored verdicts have no lease any more.
//!
//! What waits is due, so an earlier due time does not move it; one with another payload is moved before its lane.
//!
//! Redis may forget, by a FLUSHALL or a crash between two syncs of its log. The engine goes on by itself, and what was lost is
//! put on again from the ledger. Redis Cluster is not supported: the keys of a pool are in several slots.

mod about;
mod calls;
mod claim;
mod depths;
mod link;
mod memo;
mod push;
mod rescue;
#[cfg(test)]
pub(super) mod server;
mod settle;
#[cfg(test)]
mod tests;
mod wakes;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use longshore_jobs::job::{NewJob, Pool, Verdict};
use longshore_jobs::ledger::Db;
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::{BoxError, Clock, LookError, Queue, QueueError, QueuedJob};
use redis::{Client, Cmd, FromRedisValue, RedisResult, Script};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::engine::{Claim, Claimed, Depth, Engine, EngineError, Lease, Wakes};
use link::Link;
use memo::Memo;
use rescue::Idle;

/// Where the queue is.
#[derive(Clone)]
pub struct Options {
    /// `redis://…`, or `rediss://…` for TLS, with a password and a database number if need be.
    pub url: String,
    /// What the name of every key begins with: one Redis can serve several queues.
    pub prefix: String,
    /// The pools whose bells are to be rung in this process: those that it has workers for.
    pub pools: Vec<Pool>,
}

impl fmt::Debug for Options {
    /// Without the address: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("prefix", &self.prefix).field("pools", &self.pools).finish_non_exhaustive()
    }
}

/// The queue on Redis. Cheap to clone; the last clone's end is its end.
#[derive(Clone)]
pub struct RedisQueue(Arc<Shared>);

struct Shared {
    link: Link,
    db: Db,
    clock: Arc<dyn Clock>,
    wakes: Wakes,
    /// The keys of each pool, by its place among all.
    keys: Vec<[String; 8]>,
    memo: Memo,
    /// Our name on the channels of the bells: we need not hear ourselves.
    sender: String,
    /// Listens to the bells that others ring.
    _ears: Option<AbortOnDropHandle<()>>,
}

impl RedisQueue {
    /// Connects. Fails when the address is none, or nobody answers there; later the connection may come and go.
    pub async fn connect(options: Options, db: Db, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        let client = Client::open(options.url.as_str()).map_err(failed("open the address"))?;
        let link = Link::new(client.clone());
        link.ask::<()>(&redis::cmd("PING")).await.map_err(failed("connect"))?;
        let (wakes, sender) = (Wakes::default(), format!("{:032x}", rand::random::<u128>()));
        let keys = Pool::ALL.iter().map(|pool| calls::keys(&options.prefix, *pool)).collect();
        let ears = (!options.pools.is_empty()).then(|| {
            let bells = options.pools.iter().map(|pool| (calls::bell(&options.prefix, *pool), *pool)).collect();
            let ears = wakes::Ears { client, bells, ourselves: sender.clone(), wakes: wakes.clone() };
            AbortOnDropHandle::new(tokio::spawn(ears.listen()))
        });
        Ok(Self(Arc::new(Shared { link, db, clock, wakes, keys, memo: Memo::default(), sender, _ears: ears })))
    }

    /// A call of the script for the pool, still without arguments.
    fn call(&self, script: &Script, pool: Pool) -> Cmd {
        calls::call(script, &self.0.keys[pool as usize])
    }

    async fn eval<T: FromRedisValue>(&self, script: &Script, call: &Cmd) -> RedisResult<T> {
        self.0.link.eval(script, call).await
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, jobs: Vec<NewJob>) -> Result<(), QueueError> {
        let count = jobs.len();
        push::push(self, jobs).await.map_err(|error| QueueError { count, source: error.into() })
    }

    async fn about(&self, subjects: &[Uuid]) -> Result<Vec<QueuedJob>, LookError> {
        about::about(self, subjects).await.map_err(|error| LookError(error.into()))
    }
}

#[async_trait]
impl Engine for RedisQueue {
    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>, EngineError> {
        claim::claim(self, claim).await.map_err(failed("claim"))
    }

    async fn mark_started(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError> {
        claim::still_held(self, &calls::MARK, leases).await.map_err(failed("mark started"))
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Lease>, EngineError> {
        claim::still_held(self, &calls::RENEW, leases).await.map_err(failed("renew leases"))
    }

    async fn settle(&self, settled: &[(Lease, Verdict)]) -> Result<(), EngineError> {
        settle::settle(self, settled).await.map_err(failed("settle"))
    }

    async fn hand_back(&self, leases: &[Lease]) -> Result<(), EngineError> {
        settle::hand_back(self, leases).await.map_err(failed("hand back"))
    }

    async fn reclaim(&self) -> Result<HashMap<Pool, u64>, EngineError> {
        rescue::reclaim(self, Idle::LOST).await.map_err(failed("reclaim"))
    }

    async fn void_leases(&self) -> Result<HashMap<Pool, u64>, EngineError> {
        rescue::reclaim(self, Idle::ANY).await.map_err(failed("void leases"))
    }

    async fn ping(&self) -> Result<(), EngineError> {
        self.0.link.ask::<()>(&redis::cmd("PING")).await.map_err(failed("ping"))
    }

    async fn next_due(&self, pool: Pool) -> Result<Option<Timestamp>, EngineError> {
        depths::next_due(self, pool).await.map_err(failed("look ahead"))
    }

    async fn depths(&self) -> Result<Vec<Depth>, EngineError> {
        depths::depths(self).await.map_err(failed("count"))
    }

    fn wakes(&self) -> &Wakes {
        &self.0.wakes
    }
}

fn failed<E: Into<BoxError>>(op: &'static str) -> impl Fn(E) -> EngineError {
    move |error| EngineError { op, source: error.into() }
}
