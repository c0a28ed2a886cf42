//! Which pools are paused. The flags live in the ledger and hold for every process; here they are read once per poll, and a
//! pause that is set in this process holds at once.

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::job::{Pool, with_causes};
use longshore_jobs::ledger::{Db, LedgerError, pools};
use longshore_jobs::model::Timestamp;
use tokio::sync::watch;

/// The flags as this process knows them. Cheap to clone.
#[derive(Clone)]
pub struct Pauses {
    db: Db,
    paused: Arc<watch::Sender<Vec<Pool>>>,
}

impl Pauses {
    /// Nothing is paused until the ledger has been read.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, paused: Arc::new(watch::Sender::new(Vec::new())) }
    }

    /// Pauses a pool for every process, or lets it go on; `false` when it was so already. What has been claimed is finished.
    pub async fn set(&self, pool: Pool, paused: bool, now: Timestamp) -> Result<bool, LedgerError> {
        let changed = pools::set_paused(&self.db, pool, paused, now).await?;
        self.read().await?;
        Ok(changed)
    }

    /// Reads the flags from the ledger.
    pub async fn read(&self) -> Result<(), LedgerError> {
        let found: Vec<Pool> = pools::paused(&self.db).await?.into_iter().map(|(pool, _)| pool).collect();
        self.paused.send_if_modified(|known| {
            let changed = *known != found;
            *known = found;
            changed
        });
        Ok(())
    }

    /// Reads the flags again and again. While the ledger cannot be reached, the last known ones hold.
    pub(super) async fn follow(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.read().await {
                tracing::warn!(error = with_causes(&error), "pause flags could not be read");
            }
        }
    }

    /// The flag of one pool.
    pub(super) fn watch(&self, pool: Pool) -> Watch {
        Watch { pool, paused: self.paused.subscribe() }
    }
}

/// The flag of one pool.
pub(super) struct Watch {
    pool: Pool,
    paused: watch::Receiver<Vec<Pool>>,
}

impl Watch {
    pub(super) fn is_paused(&self) -> bool {
        self.paused.borrow().contains(&self.pool)
    }

    /// Returns at once unless the pool is paused, and then when it goes on.
    pub(super) async fn resumed(&mut self) {
        let pool = self.pool;
        // Whoever could pause it is gone together with the sender.
        drop(self.paused.wait_for(|paused| !paused.contains(&pool)).await);
    }
}
