//! The bytes of objects, counted as long as anything refers to them: an object, a copy of it, or an answer that is being sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::fault::Fault;

/// Room for so many bytes.
#[derive(Clone)]
pub(super) struct Memory(Arc<Room>);

struct Room {
    most: u64,
    taken: AtomicU64,
}

impl Memory {
    pub(super) fn new(most: u64) -> Self {
        Self(Arc::new(Room { most, taken: AtomicU64::new(0) }))
    }

    /// Room for bytes that are about to come.
    pub(super) fn hold(&self) -> Held {
        Held { bytes: Vec::new(), room: Arc::clone(&self.0), taken: 0 }
    }

    /// A body from its first to its last byte.
    pub(super) async fn collect(&self, headers: &HeaderMap, body: Body) -> Result<Bytes, Fault> {
        let mut held = self.hold();
        held.expect(content_length(headers))?;
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            held.push(&chunk.map_err(|error| Fault::Malformed(error.to_string()))?)?;
        }
        Ok(held.freeze())
    }
}

/// As declared; 0 where it is not.
pub(super) fn content_length(headers: &HeaderMap) -> u64 {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    declared.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Bytes whose room is given back when they are dropped.
pub(super) struct Held {
    bytes: Vec<u8>,
    room: Arc<Room>,
    taken: u64,
}

impl Held {
    /// Takes room for so many bytes in all, so that they are not moved while they come.
    pub(super) fn expect(&mut self, all: u64) -> Result<(), Fault> {
        self.take(all.saturating_sub(self.taken))?;
        let missing = usize::try_from(all).map_err(|_| Fault::Full)?.saturating_sub(self.bytes.len());
        self.bytes.reserve_exact(missing);
        Ok(())
    }

    /// These bytes more.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Fault> {
        let all = (self.bytes.len() + chunk.len()) as u64;
        self.take(all.saturating_sub(self.taken))?;
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// That is all: what was taken beyond it is given back.
    pub(super) fn freeze(mut self) -> Bytes {
        self.bytes.shrink_to_fit();
        let spare = self.taken - self.bytes.len() as u64;
        self.taken -= spare;
        self.room.taken.fetch_sub(spare, Ordering::Relaxed);
        Bytes::from_owner(self)
    }

    fn take(&mut self, more: u64) -> Result<(), Fault> {
        let room = &self.room;
        let fits = |taken: u64| taken.checked_add(more).filter(|all| *all <= room.most);
        room.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Fault::Full)?;
        self.taken += more;
        Ok(())
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_with_the_last_reference() {
        let memory = Memory::new(10);
        let mut held = memory.hold();
        held.expect(9).unwrap();
        held.push(b"12345").unwrap();
        let bytes = held.freeze();
        let slice = bytes.slice(1..2);

        let mut more = memory.hold();
        assert!(matches!(more.push(b"123456"), Err(Fault::Full)));
        more.push(b"12345").unwrap();
        drop(more);
        drop(bytes);
        assert!(matches!(memory.hold().expect(6), Err(Fault::Full)), "a slice still holds all of it");

        drop(slice);
        memory.hold().expect(10).unwrap();
    }
}
