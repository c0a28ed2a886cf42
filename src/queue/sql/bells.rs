//! Waking those who wait for jobs: here at once, in other processes on the same ledger a moment later.

use longshore_jobs::job::Pool;
use longshore_jobs::ledger::Db;

use crate::queue::engine::Wakes;

/// The bells of this process, and the line to the others. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bells {
    here: Wakes,
    db: Db,
}

impl Bells {
    /// Those of the queue in this ledger, which others ring too.
    pub(super) fn of(db: &Db) -> Self {
        let here = Wakes::default();
        let rung = here.clone();
        db.on_ring(move |pool| rung.wake(pool));
        Self { here, db: db.clone() }
    }

    pub(super) const fn here(&self) -> &Wakes {
        &self.here
    }

    /// There may be something to claim.
    pub(super) fn ring(&self, pool: Pool) {
        self.here.wake(pool);
        self.db.ring(pool);
    }
}
