//! Waking those who wait for jobs: here at once, in other processes on the same ledger a moment later.

use longshore_jobs::job::Pool;
use longshore_jobs::ledger::Db;
use longshore_jobs::model::Timestamp;

use super::floors::Floors;
use crate::queue::engine::Wakes;

/// The bells of this process, and the line to the others. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bells {
    here: Wakes,
    floors: Floors,
    db: Db,
}

impl Bells {
    /// Those of the queue in this ledger, which others ring too.
    pub(super) fn of(db: &Db) -> Self {
        let here = Wakes::default();
        let rung = here.clone();
        db.on_ring(move |pool| rung.wake(pool));
        Self { here, floors: Floors::new(), db: db.clone() }
    }

    pub(super) const fn here(&self) -> &Wakes {
        &self.here
    }

    /// From when on to look for jobs.
    pub(super) const fn floors(&self) -> &Floors {
        &self.floors
    }

    /// Jobs have come back.
    pub(super) fn ring(&self, pool: Pool) {
        self.floors.forget(pool);
        self.wake(pool);
    }

    /// Jobs that are due from then on have been put on.
    pub(super) fn ring_for(&self, pool: Pool, due: Timestamp) {
        self.floors.lower(pool, due);
        self.wake(pool);
    }

    fn wake(&self, pool: Pool) {
        self.here.wake(pool);
        self.db.ring(pool);
    }
}
