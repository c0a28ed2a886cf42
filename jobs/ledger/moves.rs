//! Who waits for which upload to move.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

/// Wakes those who wait for an upload to move. One per process; whoever moves a row announces it after commit.
#[derive(Clone, Default)]
pub struct Moves {
    waiting: Arc<Mutex<HashMap<Uuid, Arc<Notify>>>>,
}

/// A place in the line of those who wait for one upload.
pub struct Waiter {
    moves: Moves,
    upload: Uuid,
    notify: Arc<Notify>,
}

impl Moves {
    /// Starts to wait for an upload. Take it before reading the row, so that no move falls in between.
    #[must_use]
    pub fn watch(&self, upload: Uuid) -> Waiter {
        let notify = Arc::clone(self.lock().entry(upload).or_default());
        Waiter { moves: self.clone(), upload, notify }
    }

    /// Tells those who wait for it that the upload has moved.
    pub fn announce(&self, upload: Uuid) {
        if let Some(notify) = self.lock().get(&upload) {
            notify.notify_waiters();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Returns when the upload is announced next. Enable the future (poll it once) before reading the row.
    pub fn moved(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.moves.lock();
        // Two holders are left: the map and this waiter.
        if Arc::strong_count(&self.notify) <= 2 {
            waiting.remove(&self.upload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_waiter_hears_of_its_upload_and_leaves_nothing_behind() {
        let moves = Moves::default();
        let (mine, other) = (Uuid::now_v7(), Uuid::now_v7());
        let waiter = moves.watch(mine);
        let mut moved = Box::pin(waiter.moved());
        moved.as_mut().enable();

        moves.announce(other);
        assert!(futures_util::FutureExt::now_or_never(moved.as_mut()).is_none());
        moves.announce(mine);
        moved.await;

        drop(waiter);
        assert!(moves.lock().is_empty());
    }
}
