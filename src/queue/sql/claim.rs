//! Lending jobs out, and keeping the leases alive.

use longshore_jobs::job::{Delivery, Lane, Pool};
use longshore_jobs::ledger::{LedgerError, Tx};
use longshore_jobs::model::Timestamp;
use longshore_jobs::sql;
use uuid::Uuid;

use super::{SqlQueue, lane_of, pairs, rank, still_held};
use crate::queue::engine::{Claim, Claimed, LEASE, Lease, other};

/// The inner select reads as far into `jobs_waiting` as it takes, however much waits behind. On PostgreSQL it ends in
/// `for update skip locked`.
const CLAIM: &str = "update jobs set state = 1, token = $5, lease_until = $6, worker = $7
    where id in (
        select id
        from jobs
        where pool = $1 and lane = $2 and state = 0 and run_at <= $3
        order by run_at, id
        limit $4)
    returning id, kind, subject, payload, run_at, lane, attempts, max_attempts, losses, crashes";

const MARK_STARTED: &str = "update jobs set state = 2
    where id in (
        select jobs.id
        from json_each($1) as held
        cross join jobs
        where jobs.id = cast(held.value ->> 0 as bigint) and jobs.token = cast(held.value ->> 1 as bigint))
    returning id, token";

const RENEW: &str = "update jobs set lease_until = $2
    where id in (
        select jobs.id
        from json_each($1) as held
        cross join jobs
        where jobs.id = cast(held.value ->> 0 as bigint) and jobs.token = cast(held.value ->> 1 as bigint))
    returning id, token";

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    kind: String,
    subject: Uuid,
    payload: String,
    run_at: Timestamp,
    lane: i64,
    attempts: u32,
    max_attempts: u32,
    losses: u32,
    crashes: u32,
}

/// What is the same for all jobs of a claim.
struct Terms {
    token: i64,
    now: Timestamp,
    claim: Claim,
}

pub(super) async fn claim(queue: &SqlQueue, claim: &Claim) -> Result<Vec<Claimed>, LedgerError> {
    let terms = Terms { token: rand::random_range(0..=i64::MAX), now: queue.clock.now(), claim: claim.clone() };
    queue.db.write_one(move |tx| Box::pin(claim_both_lanes(tx, terms))).await
}

/// Two statements, but the second only adds to the first: no savepoint is needed to make them one.
async fn claim_both_lanes(mut tx: Tx<'_>, terms: Terms) -> Result<Vec<Claimed>, LedgerError> {
    let (first, max) = (terms.claim.first, terms.claim.max);
    let mut claimed = claim_lane(&mut tx, &terms, first, max).await?;
    let rest = max - claimed.len();
    if rest > 0 {
        claimed.extend(claim_lane(&mut tx, &terms, other(first), rest).await?);
    }
    Ok(claimed)
}

async fn claim_lane(tx: &mut Tx<'_>, terms: &Terms, lane: Lane, max: usize) -> Result<Vec<Claimed>, LedgerError> {
    let mut rows: Vec<Row> = sql!(tx.on(), c => sqlx::query_as(CLAIM)
        .bind(terms.claim.pool)
        .bind(rank(lane))
        .bind(terms.now)
        .bind(i64::try_from(max).unwrap_or(i64::MAX))
        .bind(terms.token)
        .bind(terms.now + LEASE)
        .bind(&*terms.claim.worker)
        .fetch_all(c)
        .await?);
    // What `returning` gives has no order.
    rows.sort_unstable_by_key(|row| (row.run_at, row.id));
    Ok(rows.into_iter().map(|row| row.into_claimed(terms.token, terms.claim.pool)).collect())
}

impl Row {
    fn into_claimed(self, token: i64, pool: Pool) -> Claimed {
        let id = u128::try_from(self.id).expect("row ids count up from 1");
        Claimed {
            lease: Lease { id, token, pool, lane: lane_of(self.lane) },
            delivery: Delivery {
                kind: self.kind,
                subject: self.subject,
                payload: self.payload,
                attempt: self.attempts + 1,
                max_attempts: self.max_attempts,
                due: self.run_at,
            },
            losses: self.losses,
            crashes: self.crashes,
        }
    }
}

pub(super) async fn mark_started(queue: &SqlQueue, leases: &[Lease]) -> Result<Vec<Lease>, LedgerError> {
    let held = pairs(leases);
    let rows = queue
        .db
        .write_one(move |mut tx| {
            Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query_as(MARK_STARTED).bind(held).fetch_all(c).await?)) })
        })
        .await?;
    Ok(still_held(leases, rows))
}

pub(super) async fn renew(queue: &SqlQueue, leases: &[Lease]) -> Result<Vec<Lease>, LedgerError> {
    let (held, until) = (pairs(leases), queue.clock.now() + LEASE);
    let rows = queue
        .db
        .write_one(move |mut tx| {
            Box::pin(
                async move { Ok(sql!(tx.on(), c => sqlx::query_as(RENEW).bind(held).bind(until).fetch_all(c).await?)) },
            )
        })
        .await?;
    Ok(still_held(leases, rows))
}
