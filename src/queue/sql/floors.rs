//! From when on a claim looks for jobs.
//!
//! What was claimed is gone from the front of the index, but on PostgreSQL its entries stay until the next vacuum, and every
//! claim would walk over all of them: with 400,000 jobs drained it took 4 ms to find one. So a claim starts where the last one
//! ended, a little earlier, since a push may be committed late and clocks differ. What lies further back, because another
//! process has put it back, is found by the next full look.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use longshore_jobs::job::{Lane, Pool};
use longshore_jobs::model::Timestamp;

/// How much later than its due time a job may appear and be found at once. What was taken within the margin is walked over by
/// each claim: with 500 ms, that was all of 50,000 jobs pushed at once, and draining them took a third longer.
const MARGIN: Duration = Duration::from_millis(50);
/// How often all of a pool is looked at.
const FULL_LOOK: Duration = Duration::from_millis(250);
const EVERYTHING: Timestamp = Timestamp::from_millis(i64::MIN);

/// One floor per pool and lane. Cheap to clone.
#[derive(Clone)]
pub(super) struct Floors(Arc<[Mutex<Floor>]>);

struct Floor {
    lanes: [Timestamp; 2],
    looked: Instant,
    /// Changes with whatever may lie below.
    news: u64,
}

/// From when on to look in each lane, and what was known then.
#[derive(Clone, Copy, Debug)]
pub(super) struct From {
    lanes: [Timestamp; 2],
    news: u64,
}

impl From {
    pub(super) const fn in_lane(self, lane: Lane) -> Timestamp {
        self.lanes[lane as usize]
    }
}

impl Floors {
    pub(super) fn new() -> Self {
        let floor = || Mutex::new(Floor { lanes: [EVERYTHING; 2], looked: Instant::now(), news: 0 });
        Self(Pool::ALL.iter().map(|_| floor()).collect())
    }

    /// From when on to look now.
    pub(super) fn of(&self, pool: Pool) -> From {
        self.with(pool, |floor| {
            if floor.looked.elapsed() >= FULL_LOOK {
                floor.lanes = [EVERYTHING; 2];
                floor.looked = Instant::now();
            }
            From { lanes: floor.lanes, news: floor.news }
        })
    }

    /// Up to these times everything was taken in these lanes.
    pub(super) fn taken(&self, pool: Pool, from: From, taken: impl Iterator<Item = (Lane, Timestamp)>) {
        self.with(pool, |floor| {
            if floor.news != from.news {
                return;
            }
            for (lane, due) in taken {
                let floor = &mut floor.lanes[lane as usize];
                *floor = (due - MARGIN).max(*floor);
            }
        });
    }

    /// Jobs that are due from then on have been put on.
    pub(super) fn lower(&self, pool: Pool, due: Timestamp) {
        self.with(pool, |floor| {
            if floor.lanes.iter().any(|lane| due < *lane) {
                floor.lanes = floor.lanes.map(|lane| lane.min(due));
                floor.news += 1;
            }
        });
    }

    /// Jobs have come back, whenever they are due.
    pub(super) fn forget(&self, pool: Pool) {
        self.lower(pool, EVERYTHING);
    }

    fn with<T>(&self, pool: Pool, use_it: impl FnOnce(&mut Floor) -> T) -> T {
        use_it(&mut self.0[pool as usize].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: Pool = Pool::Verify;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn the_next_look_starts_a_little_before_where_the_last_one_ended() {
        let floors = Floors::new();
        let from = floors.of(POOL);
        assert_eq!(from.lanes, [EVERYTHING; 2]);

        floors.taken(POOL, from, [(Lane::Bulk, at(10)), (Lane::Bulk, at(20))].into_iter());

        assert_eq!(floors.of(POOL).lanes, [EVERYTHING, at(20) - MARGIN]);
        assert_eq!(floors.of(Pool::Store).lanes, [EVERYTHING; 2], "another pool is another matter");
    }

    #[test]
    fn what_is_put_on_behind_the_floor_lowers_it() {
        let floors = Floors::new();
        floors.taken(POOL, floors.of(POOL), [(Lane::Interactive, at(20)), (Lane::Bulk, at(20))].into_iter());

        floors.lower(POOL, at(30));
        assert_eq!(floors.of(POOL).lanes, [at(20) - MARGIN; 2]);
        floors.lower(POOL, at(5));
        assert_eq!(floors.of(POOL).lanes, [at(5); 2]);
        floors.forget(POOL);
        assert_eq!(floors.of(POOL).lanes, [EVERYTHING; 2]);
    }

    #[test]
    fn a_look_that_was_under_way_does_not_hide_what_came_meanwhile() {
        let floors = Floors::new();
        floors.taken(POOL, floors.of(POOL), [(Lane::Interactive, at(20))].into_iter());
        let under_way = floors.of(POOL);

        floors.lower(POOL, at(5));
        floors.taken(POOL, under_way, [(Lane::Interactive, at(21))].into_iter());

        assert_eq!(floors.of(POOL).lanes[0], at(5));
    }
}
