//! Who waits for which upload to move.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use uuid::Uuid;

use super::signals::Signals;
use crate::model::Status;

/// Wakes those who wait for an upload to move. One per process; whoever moves a row announces it after commit. Where other
/// processes work on the same ledger, they are told too.
#[derive(Clone, Default)]
pub struct Moves {
    lines: Lines,
    /// Rings whenever an upload has come to an end, whichever.
    ends: watch::Sender<()>,
    others: Option<Signals>,
}

type Lines = Arc<Mutex<HashMap<Uuid, watch::Sender<Option<Status>>>>>;

/// A place in the line of those who wait for one upload.
pub struct Waiter {
    moves: Moves,
    upload: Uuid,
    /// `None` only while it is dropped.
    told: Option<watch::Receiver<Option<Status>>>,
}

impl Moves {
    /// Those of a ledger that other processes work on too.
    pub(super) fn told_by(others: &Signals) -> Self {
        let moves = Self { others: Some(others.clone()), ..Self::default() };
        let heard = Self { others: None, ..moves.clone() };
        others.on_move(move |upload, status| heard.announce_here(upload, status));
        moves
    }

    /// Starts to wait for an upload. Take it before reading the row, so that no move falls in between.
    #[must_use]
    pub fn watch(&self, upload: Uuid) -> Waiter {
        let told = self.lines().entry(upload).or_default().subscribe();
        Waiter { moves: self.clone(), upload, told: Some(told) }
    }

    /// Hears whenever an upload has come to an end: for those who wait for many.
    #[must_use]
    pub fn ends(&self) -> watch::Receiver<()> {
        self.ends.subscribe()
    }

    /// Tells those who wait for it where the upload stands now. Other processes are told of what their clients wait for: a
    /// policy, or the end.
    pub fn announce(&self, upload: Uuid, status: Status) {
        self.announce_here(upload, status);
        if let Some(others) = self.others.as_ref().filter(|_| status == Status::Issued || status.is_final()) {
            others.tell_move(upload, status);
        }
    }

    /// As [`Moves::announce`], in this process alone.
    pub fn announce_here(&self, upload: Uuid, status: Status) {
        if let Some(line) = self.lines().get(&upload) {
            line.send_replace(Some(status));
        }
        if status.is_final() {
            self.ends.send_replace(());
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<Option<Status>>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Returns when a move to a status that is `wanted` has been announced since the last one was seen.
    pub async fn moved(&mut self, wanted: impl Fn(Status) -> bool) {
        let Some(told) = &mut self.told else { return };
        // The line outlives its waiters, so this ends with a move that is wanted.
        while told.changed().await.is_ok() {
            if told.borrow_and_update().is_some_and(&wanted) {
                return;
            }
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut lines = self.moves.lines();
        // Under the lock, so that of two who leave at once the second is the last.
        self.told = None;
        if lines.get(&self.upload).is_some_and(|line| line.receiver_count() == 0) {
            lines.remove(&self.upload);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_waiter_hears_of_its_upload_and_leaves_nothing_behind() {
        let moves = Moves::default();
        let (mine, other) = (Uuid::now_v7(), Uuid::now_v7());
        let mut waiter = moves.watch(mine);
        let second = moves.watch(mine);

        moves.announce(other, Status::Done);
        moves.announce(mine, Status::Arrived);
        assert!(waiter.moved(Status::is_final).now_or_never().is_none());
        moves.announce(mine, Status::Done);
        assert!(waiter.moved(Status::is_final).now_or_never().is_some());

        drop(second);
        assert!(!moves.lines().is_empty());
        drop(waiter);
        assert!(moves.lines().is_empty());
    }
}
