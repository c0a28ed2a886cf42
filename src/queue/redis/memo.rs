//! What this process has claimed, by its keys in the hash of jobs, so that a script that forgets finished jobs need not read
//! their entries again. It is no more than that: a lease that is not in here is looked up.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::queue::engine::{Claimed, Lease};

/// With more than this, most of it is of workers that have been dropped.
const MANY: usize = 100_000;

/// Leases and keys.
#[derive(Default)]
pub(super) struct Memo(Mutex<HashMap<Lease, String>>);

impl Memo {
    /// Keeps the keys of what was claimed.
    pub(super) fn keep(&self, claimed: &[Claimed]) {
        let mut keys = self.lock();
        if keys.len() > MANY {
            keys.clear();
        }
        let key = |job: &Claimed| format!("{} {}", job.delivery.kind, job.delivery.subject.simple());
        keys.extend(claimed.iter().map(|job| (job.lease, key(job))));
    }

    /// The keys of these leases, which are over; `None` for those that are not known here.
    pub(super) fn take<'l>(&self, leases: impl Iterator<Item = &'l Lease>) -> Vec<Option<String>> {
        let mut keys = self.lock();
        leases.map(|lease| keys.remove(lease)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
