//! Lending jobs out, and keeping the leases alive.

use std::sync::Arc;

use longshore_jobs::job::{Delivery, Lane, Pool};
use longshore_jobs::ledger::{LedgerError, Tx};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::Clock;
use longshore_jobs::{roster, sql};
use uuid::Uuid;

use super::drift::Drift;
use super::floors::From;
use super::{SqlQueue, held_json, lane_of, rank, still_held};
use crate::queue::engine::{Claim, Claimed, LEASE, Lease, other};

/// Reads as far into `jobs_waiting` as it takes, however much waits behind; of the second lane only what the first leaves.
macro_rules! claiming {
    ($lock:literal, $taken:literal) => {
        concat!(
            "with taken as materialized (
        select id from (
            select id from jobs
            where pool = $1 and lane = $2 and state = 0 and run_at between $9 and $4
            order by run_at, id
            limit $5 ",
            $lock,
            ") as first
        union all
        select id from (
            select id from jobs
            where pool = $1 and lane = $3 and state = 0 and run_at between $10 and $4
            order by run_at, id
            limit $5 ",
            $lock,
            ") as second
        limit $5)
    update jobs set state = 1, token = $6, lease_until = $7, worker = $8
    where id ",
            $taken,
            "
    returning id, kind, subject, payload, run_at, lane, attempts, losses, crashes"
        )
    };
}

/// SQLite has one writer at a time. On PostgreSQL others claim at the same time, and each leaves what another is taking.
const CLAIM: [&str; 2] = [
    claiming!("", "in (select id from taken)"),
    claiming!("for update skip locked", "= any (array(select id from taken))"),
];

const MARK_STARTED: [&str; 2] = held!("update jobs set state = 2", "returning jobs.id, jobs.token");

const RENEW: [&str; 2] = held!("update jobs set lease_until = $2", "returning jobs.id, jobs.token");

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    kind: String,
    subject: Uuid,
    payload: String,
    run_at: Timestamp,
    lane: i64,
    attempts: i64,
    losses: i64,
    crashes: i64,
}

/// What is the same for all jobs of a claim.
struct Terms {
    token: i64,
    /// Read when the writer's turn has come: a lease must not have run out in front of a busy writer.
    clock: Arc<dyn Clock>,
    drift: Drift,
    claim: Claim,
    from: From,
}

pub(super) async fn claim(queue: &SqlQueue, claim: &Claim) -> Result<Vec<Claimed>, LedgerError> {
    let (token, floors) = (rand::random_range(0..=i64::MAX), queue.bells.floors());
    let from = floors.of(claim.pool);
    let (clock, drift) = (Arc::clone(&queue.clock), queue.drift.clone());
    let terms = Terms { token, clock, drift, claim: claim.clone(), from };
    let (claimed, now) = queue.db.write_hint(move |tx| Box::pin(claim_in(tx, terms))).await?;
    // Of what is due in a lane, the longest due are taken; where less came than was asked for, nothing that is due is left.
    let reached = claimed.iter().map(|job| (job.lease.lane, job.delivery.due));
    let exhausted = Lane::ALL.iter().filter(|_| claimed.len() < claim.max).map(|lane| (*lane, now));
    floors.taken(claim.pool, from, reached.chain(exhausted));
    Ok(claimed)
}

/// What was claimed, and at what time.
async fn claim_in(mut tx: Tx<'_>, terms: Terms) -> Result<(Vec<Claimed>, Timestamp), LedgerError> {
    let Terms { token, clock, drift, claim, from } = terms;
    let now = clock.now();
    let query = tx.on().text(CLAIM[0], CLAIM[1]);
    let mut rows: Vec<Row> = sql!(tx.on(), c => sqlx::query_as(query)
        .bind(claim.pool)
        .bind(rank(claim.first))
        .bind(rank(other(claim.first)))
        .bind(now)
        .bind(i64::try_from(claim.max).unwrap_or(i64::MAX))
        .bind(token)
        .bind(drift.lease_time(now) + LEASE)
        .bind(&*claim.worker)
        .bind(from.in_lane(claim.first))
        .bind(from.in_lane(other(claim.first)))
        .fetch_all(c)
        .await?);
    // What `returning` gives has no order.
    rows.sort_unstable_by_key(|row| (row.lane != rank(claim.first), row.run_at, row.id));
    Ok((rows.into_iter().map(|row| row.into_claimed(token, claim.pool)).collect(), now))
}

impl Row {
    fn into_claimed(self, token: i64, pool: Pool) -> Claimed {
        let id = u128::try_from(self.id).expect("row ids count up from 1");
        let max_attempts = roster::attempts(&self.kind);
        Claimed {
            lease: Lease { id, token, pool, lane: lane_of(self.lane) },
            delivery: Delivery {
                kind: self.kind,
                subject: self.subject,
                payload: self.payload,
                attempt: counted(self.attempts).saturating_add(1),
                max_attempts,
                due: self.run_at,
            },
            losses: counted(self.losses),
            crashes: counted(self.crashes),
        }
    }
}

/// A count as it is kept, which is never negative and small.
fn counted(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) async fn mark_started(queue: &SqlQueue, leases: &[Lease]) -> Result<Vec<Lease>, LedgerError> {
    let held = held_json(leases);
    let rows = queue
        .db
        .write_hint(move |mut tx| {
            let query = tx.on().text(MARK_STARTED[0], MARK_STARTED[1]);
            Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query_as(query).bind(held).fetch_all(c).await?)) })
        })
        .await?;
    Ok(still_held(leases, rows))
}

pub(super) async fn renew(queue: &SqlQueue, leases: &[Lease]) -> Result<Vec<Lease>, LedgerError> {
    let (held, clock, drift) = (held_json(leases), Arc::clone(&queue.clock), queue.drift.clone());
    let rows = queue
        .db
        .write_urgent(move |mut tx| {
            Box::pin(async move {
                let query = tx.on().text(RENEW[0], RENEW[1]);
                let until = drift.lease_time(clock.now()) + LEASE;
                Ok(sql!(tx.on(), c => sqlx::query_as(query).bind(held).bind(until).fetch_all(c).await?))
            })
        })
        .await?;
    Ok(still_held(leases, rows))
}

#[cfg(test)]
mod tests {
    use longshore_jobs::job::{Job as _, Lane, NewJob};
    use longshore_jobs::ledger::Db;
    use longshore_jobs::noop::Noop;
    use longshore_jobs::outside::Queue as _;
    use longshore_jobs::testkit::HandClock;
    use tokio::sync::oneshot;

    use super::*;
    use crate::queue::engine::Engine as _;

    /// Keeps the writer busy while `asking` has to wait for it, and for as long as a lease lasts.
    async fn behind_a_busy_writer<T>(db: &Db, clock: &HandClock, asking: impl Future<Output = T>) -> T {
        let (begun, begins) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let busy = db.write_one(move |_| {
            Box::pin(async move {
                begun.send(()).unwrap();
                ended.await.unwrap();
                Ok(())
            })
        });
        let meanwhile = async {
            begins.await.unwrap();
            let mut asking = std::pin::pin!(asking);
            assert!(futures_util::poll!(&mut asking).is_pending());
            clock.advance(LEASE);
            end.send(()).unwrap();
            asking.await
        };
        let (written, answer) = tokio::join!(busy, meanwhile);
        written.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_lease_lasts_from_the_writers_turn_on_however_long_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("ledger.db")).await.unwrap();
        let clock = Arc::new(HandClock::default());
        let queue = SqlQueue::new(db.clone(), Arc::clone(&clock) as Arc<dyn Clock>);
        queue.push(vec![NewJob::of(&Noop::new(Uuid::now_v7()), Lane::Bulk, clock.now())]).await.unwrap();

        let asked = Claim { pool: Noop::POOL, worker: "tester".into(), max: 1, first: Lane::Bulk };
        let claimed = behind_a_busy_writer(&db, &clock, queue.claim(&asked)).await.unwrap();
        assert!(queue.reclaim().await.unwrap().is_empty(), "the lease had run out before it was given");

        let lease = claimed[0].lease;
        assert_eq!(behind_a_busy_writer(&db, &clock, queue.renew(&[lease])).await.unwrap(), [lease]);
        assert!(queue.reclaim().await.unwrap().is_empty(), "the lease had run out before it was renewed");
    }
}
