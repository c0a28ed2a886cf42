//! Lending jobs out, and keeping the leases alive.

use longshore_jobs::job::{Delivery, Pool, with_causes};
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::QueuedJob;
use longshore_jobs::roster;
use redis::{RedisResult, Script};
use uuid::Uuid;

use super::RedisQueue;
use super::calls::{self, CHUNK, lane_number, lease_of, place_of};
use super::settle::{self, Verb};
use crate::queue::engine::{Claim, Claimed, Lease};

/// How many one script lends out at most, and moves from what is due later into each lane.
const AT_ONCE: usize = 500;

/// How much of what cannot be read is shown.
const SHOWN: usize = 200;

/// Stream, id and text, which may be anything if somebody else has written it.
type Entry = (u8, String, Vec<u8>);

pub(super) async fn claim(queue: &RedisQueue, claim: &Claim) -> RedisResult<Vec<Claimed>> {
    let mut claimed = Vec::with_capacity(claim.max.min(AT_ONCE));
    let mut left = claim.max;
    while left > 0 {
        let asked = left.min(AT_ONCE);
        let entries = match claim_some(queue, claim, asked).await {
            // What has been lent out already must not be lost with it; the next claim will fail by itself.
            Err(_) if !claimed.is_empty() => break,
            found => found?,
        };
        let found = entries.len();
        let (read, unread) = read(claim.pool, &entries);
        claimed.extend(read);
        drop_unread(queue, unread).await;
        if found < asked {
            break;
        }
        left -= found;
    }
    queue.0.memo.keep(&claimed);
    Ok(claimed)
}

async fn claim_some(queue: &RedisQueue, claim: &Claim, max: usize) -> RedisResult<Vec<Entry>> {
    let mut call = queue.call(&calls::CLAIM, claim.pool);
    call.arg(queue.now().as_millis()).arg(&*claim.worker).arg(max).arg(lane_number(claim.first)).arg(AT_ONCE);
    queue.eval(&calls::CLAIM, &call).await
}

/// The jobs, and the leases of entries that are none of ours.
fn read(pool: Pool, entries: &[Entry]) -> (Vec<Claimed>, Vec<Lease>) {
    let (mut claimed, mut unread) = (Vec::with_capacity(entries.len()), Vec::new());
    for (stream, id, text) in entries {
        let Some(lease) = lease_of(pool, *stream, id) else { continue };
        match Text::read(text) {
            Some(text) => claimed.push(text.into_claimed(lease)),
            None => {
                let shown = String::from_utf8_lossy(&text[..text.len().min(SHOWN)]);
                tracing::error!(%pool, id, %shown, "an entry of the queue cannot be read, and is thrown away");
                unread.push(lease);
            }
        }
    }
    (claimed, unread)
}

/// Whatever is not thrown away here comes back when its lease has run out.
async fn drop_unread(queue: &RedisQueue, unread: Vec<Lease>) {
    if let Err(error) = settle::store(queue, unread.into_iter().map(|lease| (lease, Verb::Dropped))).await {
        tracing::warn!(error = with_causes(&error), "what cannot be read was not thrown away");
    }
}

/// An entry, taken apart.
pub(super) struct Text<'t> {
    pub(super) kind: &'t str,
    pub(super) subject: Uuid,
    due: Timestamp,
    pub(super) attempts: u32,
    losses: u32,
    pub(super) crashes: u32,
    pub(super) payload: &'t str,
}

impl<'t> Text<'t> {
    /// See `job.lua`. `None` when it is none.
    pub(super) fn read(text: &'t [u8]) -> Option<Self> {
        let mut words = str::from_utf8(text).ok()?.splitn(7, ' ');
        Some(Self {
            kind: words.next()?,
            subject: Uuid::try_parse(words.next()?).ok()?,
            due: Timestamp::from_millis(words.next()?.parse().ok()?),
            attempts: words.next()?.parse().ok()?,
            losses: words.next()?.parse().ok()?,
            crashes: words.next()?.parse().ok()?,
            payload: words.next()?,
        })
    }

    pub(super) fn queued(self, pool: Pool, is_running: bool) -> QueuedJob {
        QueuedJob {
            kind: self.kind.to_owned(),
            subject: self.subject,
            pool,
            is_running,
            due: self.due,
            attempts: self.attempts,
            max_attempts: roster::attempts(self.kind),
            error: None,
        }
    }

    fn into_claimed(self, lease: Lease) -> Claimed {
        let max_attempts = roster::attempts(self.kind);
        Claimed {
            lease,
            delivery: Delivery {
                kind: self.kind.to_owned(),
                subject: self.subject,
                payload: self.payload.to_owned(),
                attempt: self.attempts + 1,
                max_attempts,
                due: self.due,
            },
            losses: self.losses,
            crashes: self.crashes,
        }
    }
}

/// Runs a script that takes leases and says of each whether it still holds. Returns those that do.
pub(super) async fn still_held(queue: &RedisQueue, script: &Script, leases: &[Lease]) -> RedisResult<Vec<Lease>> {
    let mut held = Vec::with_capacity(leases.len());
    for (pool, leases) in grouped(leases.iter().map(|lease| (lease.pool, *lease))) {
        for chunk in leases.chunks(CHUNK) {
            let mut call = queue.call(script, pool);
            for lease in chunk {
                let (stream, id) = place_of(lease);
                call.arg(stream).arg(id);
            }
            let holds: Vec<bool> = queue.eval(script, &call).await?;
            held.extend(chunk.iter().zip(holds).filter(|(_, holds)| *holds).map(|(lease, _)| *lease));
        }
    }
    Ok(held)
}

/// Sorted by what one script can be about: a pool, or one of its streams. There are few.
pub(super) fn grouped<G: PartialEq, T>(items: impl IntoIterator<Item = (G, T)>) -> Vec<(G, Vec<T>)> {
    let mut groups: Vec<(G, Vec<T>)> = Vec::new();
    for (group, item) in items {
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, items)) => items.push(item),
            None => groups.push((group, vec![item])),
        }
    }
    groups
}
