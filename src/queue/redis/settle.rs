//! Storing what came of jobs. What a push that came meanwhile has to do with it is written in `settle.lua`.
//!
//! A job that dies leaves a letter in the ledger before it leaves Redis: after a crash in between it runs again. If it is
//! pushed again in that moment, it has died first and starts over then, as one that is pushed a moment later does.

use longshore_jobs::job::{Pool, Verdict};
use longshore_jobs::ledger::dead_letters::DeadLetter;
use longshore_jobs::ledger::{LedgerError, dead_letters};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::BoxError;
use redis::RedisResult;
use uuid::Uuid;

use super::RedisQueue;
use super::calls::{self, CHUNK, place_of};
use super::claim::{Text, grouped};
use crate::queue::engine::Lease;

/// What `settle.lua` is to do with a job.
#[derive(Clone, Copy)]
pub(super) enum Verb {
    Over,
    Dropped,
    Retried(Timestamp),
    Snoozed(Timestamp),
    Returned,
}

impl Verb {
    const fn word(self) -> &'static str {
        match self {
            Self::Over => "over",
            Self::Dropped => "dropped",
            Self::Retried(_) => "retried",
            Self::Snoozed(_) => "snoozed",
            Self::Returned => "returned",
        }
    }

    const fn at(self) -> i64 {
        match self {
            Self::Retried(at) | Self::Snoozed(at) => at.as_millis(),
            Self::Over | Self::Dropped | Self::Returned => 0,
        }
    }
}

pub(super) async fn settle(queue: &RedisQueue, settled: &[(Lease, Verdict)]) -> Result<(), BoxError> {
    let keys = queue.0.memo.take(settled.iter().map(|(lease, _)| lease));
    let (mut finished, mut others, mut dead) = (Vec::with_capacity(settled.len()), Vec::new(), Vec::new());
    for ((lease, verdict), key) in settled.iter().zip(keys) {
        match (verdict, key) {
            (Verdict::Finished(_), Some(key)) => finished.push((*lease, key)),
            (Verdict::Finished(_), None) => others.push((*lease, Verb::Over)),
            (Verdict::Snoozed { until }, _) => others.push((*lease, Verb::Snoozed(*until))),
            (Verdict::Retried { at, .. }, _) => others.push((*lease, Verb::Retried(*at))),
            (Verdict::Dead { reason, error }, _) => dead.push((*lease, *reason, error.as_str())),
        }
    }
    let rest = finish(queue, finished).await?;
    others.extend(rest.into_iter().map(|lease| (lease, Verb::Over)));
    store(queue, others).await?;
    // Last: they need the ledger, and nobody else should have to wait for it.
    bury(queue, &dead).await?;
    // Pushed again meanwhile, they start over, as if they had finished.
    Ok(store(queue, dead.into_iter().map(|(lease, ..)| (lease, Verb::Over))).await?)
}

/// Forgets those of which nothing has become known since their claim. Returns the others.
async fn finish(queue: &RedisQueue, leases: Vec<(Lease, String)>) -> RedisResult<Vec<Lease>> {
    let placed = leases.into_iter().map(|(lease, key)| {
        let (stream, id) = place_of(&lease);
        ((lease.pool, stream), (lease, id, key))
    });
    let mut rest = Vec::new();
    for ((pool, stream), finished) in grouped(placed) {
        for chunk in finished.chunks(CHUNK) {
            let mut call = queue.call(&calls::FINISH, pool);
            call.arg(stream);
            call.arg(chunk.iter().map(|(_, id, _)| id.as_str()).collect::<Vec<_>>());
            call.arg(chunk.iter().map(|(.., key)| key.as_str()).collect::<Vec<_>>());
            let others: Vec<usize> = queue.eval(&calls::FINISH, &call).await?;
            rest.extend(others.into_iter().filter_map(|other| chunk.get(other)).map(|(lease, ..)| *lease));
        }
    }
    Ok(rest)
}

pub(super) async fn hand_back(queue: &RedisQueue, leases: &[Lease]) -> RedisResult<()> {
    queue.0.memo.take(leases.iter());
    store(queue, leases.iter().map(|lease| (*lease, Verb::Returned))).await
}

pub(super) async fn store(queue: &RedisQueue, told: impl IntoIterator<Item = (Lease, Verb)>) -> RedisResult<()> {
    for (pool, told) in grouped(told.into_iter().map(|(lease, verb)| (lease.pool, (lease, verb)))) {
        for chunk in told.chunks(CHUNK) {
            if store_chunk(queue, pool, chunk).await? > 0 {
                queue.0.wakes.wake(pool);
            }
        }
    }
    Ok(())
}

/// How many of them wait again.
async fn store_chunk(queue: &RedisQueue, pool: Pool, told: &[(Lease, Verb)]) -> RedisResult<u64> {
    let mut call = queue.call(&calls::SETTLE, pool);
    call.arg(queue.now().as_millis()).arg(&queue.0.sender);
    for (lease, verb) in told {
        let (stream, id) = place_of(lease);
        call.arg(stream).arg(id).arg(verb.word()).arg(verb.at());
    }
    queue.eval(&calls::SETTLE, &call).await
}

/// Writes the letters of those who die: of what reason, and with what error.
async fn bury(queue: &RedisQueue, dying: &[(Lease, &str, &str)]) -> Result<(), BoxError> {
    let mut letters = Vec::new();
    for (pool, dying) in grouped(dying.iter().map(|one| (one.0.pool, one))) {
        for chunk in dying.chunks(CHUNK) {
            let texts = dying_texts(queue, pool, chunk.iter().map(|(lease, ..)| lease)).await?;
            for ((lease, reason, error), text) in chunk.iter().zip(texts) {
                let text = text.as_deref().and_then(Text::read);
                letters.extend(text.map(|text| {
                    let attempts = i64::from(text.attempts) + 1;
                    DeadLetter { attempts, ..letter(lease, &text, reason, (*error).to_owned(), queue.now()) }
                }));
            }
        }
    }
    Ok(insert(queue, letters).await?)
}

async fn dying_texts(
    queue: &RedisQueue,
    pool: Pool,
    leases: impl Iterator<Item = &Lease>,
) -> RedisResult<Vec<Option<Vec<u8>>>> {
    let mut call = queue.call(&calls::DYING, pool);
    for lease in leases {
        let (stream, id) = place_of(lease);
        call.arg(stream).arg(id);
    }
    queue.eval(&calls::DYING, &call).await
}

/// What a job leaves to its dead letter.
pub(super) fn letter(lease: &Lease, text: &Text<'_>, reason: &str, error: String, died_at: Timestamp) -> DeadLetter {
    DeadLetter {
        id: Uuid::now_v7(),
        kind: text.kind.to_owned(),
        subject: text.subject,
        pool: lease.pool,
        lane: lease.lane,
        payload: text.payload.to_owned(),
        attempts: i64::from(text.attempts),
        crashes: i64::from(text.crashes),
        reason: reason.to_owned(),
        error,
        died_at,
    }
}

pub(super) async fn insert(queue: &RedisQueue, letters: Vec<DeadLetter>) -> Result<(), LedgerError> {
    if letters.is_empty() {
        return Ok(());
    }
    queue
        .0
        .db
        .write(move |mut tx| {
            Box::pin(async move {
                for letter in &letters {
                    dead_letters::insert(&mut tx, letter).await?;
                }
                Ok(())
            })
        })
        .await
}
