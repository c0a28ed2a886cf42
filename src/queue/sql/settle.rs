//! Storing what came of jobs.
//!
//! A push that came while a job was held takes effect here. Behind a job that finished it is a fresh job. Behind one that
//! waits again it is a push like any other: the earlier due time, the better lane. Behind one that died it is a fresh signal,
//! which deserves a fresh run: the job starts over instead of becoming a dead letter, with its last error on the row. (The one
//! exception is a job that has crashed too many workers, see [`rescue`](super::rescue).)

use std::collections::HashSet;
use std::sync::Arc;

use longshore_jobs::job::{Pool, Verdict};
use longshore_jobs::ledger::dead_letters::{self, DeadLetter};
use longshore_jobs::ledger::{Connection, Db, LedgerError, Tx, keepable};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::Clock;
use longshore_jobs::sql;
use serde::Serialize;
use uuid::Uuid;

use super::bells::Bells;
use super::{SqlQueue, held_json, json, lane_of, row_id};
use crate::queue::engine::{Lease, crash_told};

/// SQLite deletes from one table alone. On PostgreSQL the conditions have to be on the row itself: a push that came during the
/// statement sets `again_at`, and a row that was found by a subquery would be deleted all the same, and the push with it.
const FORGET: [&str; 2] = [
    "delete from jobs
    where id in (
        select jobs.id
        from json_each($1) as held
        cross join jobs
        where jobs.id = cast(held.key as bigint)
            and jobs.token = cast(held.atom as bigint)
            and jobs.again_at is null)",
    "delete from jobs
    using json_each($1) as held
    where jobs.id = any (array[cast(held.key as bigint)]) and jobs.token = cast(held.atom as bigint)
        and jobs.again_at is null",
];

/// A batch of several kinds of verdicts takes several statements, beside which the heartbeat renews the same rows: PostgreSQL
/// locks them in one order first, so that neither waits for the other in a ring. SQLite has one writer at a time.
const LOCK: &str = "select id from jobs
    where id = any (array(select cast(key as bigint) from json_each($1)))
    order by id
    for update";

const START_OVER: [&str; 2] = held!(
    "update jobs set
        state = 0, run_at = again_at, lane = again_lane, again_at = null, again_lane = null,
        attempts = 0, crashes = 0, losses = 0, token = null, lease_until = null, worker = null,
        error = coalesce($2, error)",
    "and jobs.again_at is not null"
);

macro_rules! waiting_again {
    ($id:literal) => {
        concat!(
            "update jobs set
        state = 0,
        run_at = case when again_at < until.at then again_at else until.at end,
        lane = case when again_lane < lane then again_lane else lane end,
        attempts = attempts + until.counted,
        error = coalesce(until.error, jobs.error),
        again_at = null, again_lane = null, token = null, lease_until = null, worker = null
    from (
        select cast(value ->> 0 as bigint) as id,
            cast(value ->> 1 as bigint) as token,
            cast(value ->> 2 as bigint) as at,
            cast(value ->> 3 as bigint) as counted,
            value ->> 4 as error
        from json_each($1)) as until
    where jobs.id ",
            $id,
            " and jobs.token = until.token"
        )
    };
}

const WAIT_AGAIN: [&str; 2] = [waiting_again!("= until.id"), waiting_again!("= any (array[until.id])")];

const HAND_BACK: [&str; 2] = held!(
    "update jobs set
        state = 0,
        run_at = case when again_at < run_at then again_at else run_at end,
        lane = case when again_lane < lane then again_lane else lane end,
        again_at = null, again_lane = null, token = null, lease_until = null, worker = null",
    ""
);

const BURY: &str = "delete from jobs
    where id = $1 and token = $2 and again_at is null
    returning kind, subject, pool, lane, payload, attempts + 1 as attempts, crashes";

/// What a row of `jobs` leaves to its dead letter.
#[derive(sqlx::FromRow)]
pub(super) struct Remains {
    kind: String,
    subject: Uuid,
    pool: Pool,
    lane: i64,
    payload: String,
    attempts: i64,
    crashes: i64,
}

impl Remains {
    pub(super) const fn pool(&self) -> Pool {
        self.pool
    }

    pub(super) fn crash_told(&self) -> String {
        crash_told(&self.kind, self.subject, self.crashes)
    }

    pub(super) fn into_letter(self, reason: &str, error: String, died_at: Timestamp) -> DeadLetter {
        DeadLetter {
            id: Uuid::now_v7(),
            kind: self.kind,
            subject: self.subject,
            pool: self.pool,
            lane: lane_of(self.lane),
            payload: self.payload,
            attempts: self.attempts,
            crashes: self.crashes,
            reason: reason.to_owned(),
            error,
            died_at,
        }
    }
}

/// A batch, sorted by what has to be done.
#[derive(Default)]
struct Batch {
    leases: Vec<Lease>,
    finished: Vec<Lease>,
    waiting: Vec<Until>,
    dead: Vec<Death>,
    now: Timestamp,
}

/// `[id, token, at, counted, error]`
#[derive(Serialize)]
struct Until(i64, i64, i64, u32, Option<String>);

struct Death {
    lease: Lease,
    reason: &'static str,
    error: String,
}

/// Stores what several workers tell, in one go.
pub(super) async fn settle_together(
    db: Db,
    clock: Arc<dyn Clock>,
    bells: Bells,
    told: Vec<Vec<(Lease, Verdict)>>,
) -> Result<Vec<()>, LedgerError> {
    let workers = vec![(); told.len()];
    let settled: Vec<_> = told.into_iter().flatten().collect();
    let batch = Batch::of(&settled, clock.now());
    let all_finished = batch.is_all_finished();
    let started_over = if all_finished {
        db.write_hint(move |tx| Box::pin(store(tx, batch))).await?
    } else {
        db.write(move |tx| Box::pin(store(tx, batch))).await?
    };
    if started_over || !all_finished {
        ring(&bells, settled.iter().map(|(lease, _)| lease));
    }
    Ok(workers)
}

impl Batch {
    fn of(settled: &[(Lease, Verdict)], now: Timestamp) -> Self {
        let leases = settled.iter().map(|(lease, _)| *lease).collect();
        let mut batch = Self { leases, now, ..Self::default() };
        for (lease, verdict) in settled {
            let until =
                |at: Timestamp, counted, error| Until(row_id(lease), lease.token, at.as_millis(), counted, error);
            match verdict {
                Verdict::Finished(_) => batch.finished.push(*lease),
                Verdict::Snoozed { until: at } => batch.waiting.push(until(*at, 0, None)),
                Verdict::Retried { at, error } => batch.waiting.push(until(*at, 1, Some(keepable(error)))),
                Verdict::Dead { reason, error } => {
                    batch.dead.push(Death { lease: *lease, reason, error: error.clone() });
                }
            }
        }
        batch.waiting.sort_unstable_by_key(|until| until.0);
        batch
    }

    fn is_all_finished(&self) -> bool {
        self.waiting.is_empty() && self.dead.is_empty()
    }
}

/// Whether a job that was over has started over.
async fn store(mut tx: Tx<'_>, batch: Batch) -> Result<bool, LedgerError> {
    let mut started_over = false;
    if !batch.is_all_finished() {
        lock(&mut tx, &batch).await?;
    }
    if !batch.finished.is_empty() {
        started_over = finish(&mut tx, &batch.finished).await?;
    }
    if !batch.waiting.is_empty() {
        let rows = json(&batch.waiting);
        let query = tx.on().text(WAIT_AGAIN[0], WAIT_AGAIN[1]);
        sql!(tx.on(), c => sqlx::query(query).bind(rows).execute(c).await.map(drop))?;
    }
    for death in batch.dead {
        bury(&mut tx, death, batch.now).await?;
    }
    Ok(started_over)
}

async fn lock(tx: &mut Tx<'_>, batch: &Batch) -> Result<(), LedgerError> {
    if let Connection::Postgres(connection) = tx.on() {
        sqlx::query(LOCK).bind(held_json(&batch.leases)).execute(connection).await?;
    }
    Ok(())
}

async fn finish(tx: &mut Tx<'_>, leases: &[Lease]) -> Result<bool, LedgerError> {
    let held = held_json(leases);
    let query = tx.on().text(FORGET[0], FORGET[1]);
    let forgotten = sql!(tx.on(), c => sqlx::query(query).bind(&held).execute(c).await?.rows_affected());
    if usize::try_from(forgotten) == Ok(leases.len()) {
        return Ok(false);
    }
    start_over(tx, &held, None).await
}

async fn start_over(tx: &mut Tx<'_>, held: &str, error: Option<&str>) -> Result<bool, LedgerError> {
    let query = tx.on().text(START_OVER[0], START_OVER[1]);
    let rows = sql!(tx.on(), c => sqlx::query(query).bind(held).bind(error).execute(c).await?.rows_affected());
    Ok(rows > 0)
}

async fn bury(tx: &mut Tx<'_>, death: Death, now: Timestamp) -> Result<(), LedgerError> {
    let (id, token) = (row_id(&death.lease), death.lease.token);
    let remains: Option<Remains> =
        sql!(tx.on(), c => sqlx::query_as(BURY).bind(id).bind(token).fetch_optional(c).await?);
    let Some(remains) = remains else {
        start_over(tx, &held_json([&death.lease]), Some(&keepable(&death.error))).await?;
        return Ok(());
    };
    dead_letters::insert(tx, &remains.into_letter(death.reason, death.error, now)).await
}

pub(super) async fn hand_back(queue: &SqlQueue, leases: &[Lease]) -> Result<(), LedgerError> {
    let held = held_json(leases);
    queue
        .db
        .write_hint(move |mut tx| {
            Box::pin(async move {
                let query = tx.on().text(HAND_BACK[0], HAND_BACK[1]);
                sql!(tx.on(), c => sqlx::query(query).bind(held).execute(c).await.map(drop))?;
                Ok(())
            })
        })
        .await?;
    ring(&queue.bells, leases);
    Ok(())
}

fn ring<'l>(bells: &Bells, leases: impl IntoIterator<Item = &'l Lease>) {
    let pools: HashSet<Pool> = leases.into_iter().map(|lease| lease.pool).collect();
    pools.into_iter().for_each(|pool| bells.ring(pool));
}
