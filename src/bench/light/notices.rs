//! Notices of new objects, and what may befall them on their way: lost, doubled, out of order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use longshore_jobs::model::Timestamp;
use longshore_jobs::model::notice::{Arrival, render};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;

use super::messages::Messages;
use super::object::Object;
use super::s3::split;

/// Keys whose objects are told of.
const WATCHED: &str = "staging/";
const REGION: &str = "us-east-1";

/// What befalls notices. The same seed and the same order of objects give the same faults.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The share that is lost, 0 to 1.
    pub(crate) drop: f64,
    /// The share of the rest that comes twice, 0 to 1.
    pub(crate) duplicate: f64,
    /// Whether each is put at a random place among those that wait.
    pub(crate) shuffle: bool,
    /// Of the dice.
    pub(crate) seed: u64,
}

/// Tells the queue of new objects.
pub(super) struct Announcer {
    faults: Faults,
    dice: Mutex<StdRng>,
    sequence: AtomicU64,
    objects: AtomicU64,
    dropped: AtomicU64,
    duplicated: AtomicU64,
}

/// What became of the notices so far.
#[derive(Debug, Serialize)]
pub(super) struct Tally {
    /// Objects that were to be told of.
    objects: u64,
    /// Of these, never told.
    dropped: u64,
    /// Of these, told twice.
    duplicated: u64,
}

/// What the dice say of one notice.
struct Fate {
    times: u32,
    /// Where among those that wait, from 0 for the first to 1; `None` is behind them all.
    place: Option<f64>,
}

impl Announcer {
    pub(super) fn new(faults: Faults) -> Self {
        Self {
            faults,
            dice: Mutex::new(StdRng::seed_from_u64(faults.seed)),
            sequence: AtomicU64::new(1),
            objects: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            duplicated: AtomicU64::new(0),
        }
    }

    /// Tells of the object, if it is one that is told of, as often as its fate has it.
    pub(super) fn announce(&self, messages: &Messages, path: &str, object: &Object, event: &str) {
        let (bucket, key) = split(path);
        if !key.starts_with(WATCHED) {
            return;
        }
        let arrival = Arrival {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            size: i64::try_from(object.size).ok(),
            etag: Some(object.bare_etag().to_owned()),
            sequencer: Some(format!("{:016X}", self.sequence.fetch_add(1, Ordering::Relaxed))),
        };
        let notice = render(&arrival, REGION, Timestamp::from_millis(object.modified.timestamp_millis()));
        let notice = notice.replacen("ObjectCreated:Post", event, 1);
        let fate = self.roll();
        self.count(&fate);
        for _ in 0..fate.times {
            messages.send(notice.clone(), fate.place);
        }
    }

    /// The same number of rolls for each, so that one kind of fault does not shift another.
    fn roll(&self) -> Fate {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let (lost, doubled, place): (f64, f64, f64) = (dice.random(), dice.random(), dice.random());
        let times = match (lost < self.faults.drop, doubled < self.faults.duplicate) {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        };
        Fate { times, place: self.faults.shuffle.then_some(place) }
    }

    fn count(&self, fate: &Fate) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        match fate.times {
            0 => self.dropped.fetch_add(1, Ordering::Relaxed),
            1 => 0,
            _ => self.duplicated.fetch_add(1, Ordering::Relaxed),
        };
    }

    pub(super) fn tally(&self) -> Tally {
        Tally {
            objects: self.objects.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            duplicated: self.duplicated.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_jobs::model::notice::{Event, parse};

    use super::super::object::Described;
    use super::*;

    fn told(faults: Faults, objects: u64) -> Vec<String> {
        let (announcer, messages) = (Announcer::new(faults), Messages::default());
        for number in 0..objects {
            let object = Object::new(Vec::new(), Described::default());
            announcer.announce(&messages, &format!("b/staging/{number:05} å"), &object, "ObjectCreated:Put");
        }
        let bodies = messages.waiting();
        let keys = bodies.iter().map(|body| match &parse(body).unwrap()[..] {
            [Event::Created(arrival)] => arrival.key.clone(),
            other => panic!("{other:?}"),
        });
        keys.collect()
    }

    fn expected(objects: u64) -> Vec<String> {
        (0..objects).map(|number| format!("staging/{number:05} å")).collect()
    }

    #[test]
    fn without_faults_each_is_told_once_in_order() {
        assert_eq!(told(Faults::default(), 100), expected(100));
    }

    #[test]
    fn faults_are_as_frequent_as_they_are_said_to_be_and_the_same_for_a_seed() {
        let faults = Faults { drop: 0.05, duplicate: 0.1, shuffle: true, seed: 7 };
        let keys = told(faults, 10_000);
        assert_eq!(keys, told(faults, 10_000));
        assert_ne!(keys, told(Faults { seed: 8, ..faults }, 10_000));

        let mut distinct = keys.clone();
        distinct.sort_unstable();
        assert_ne!(keys, distinct, "they are shuffled");
        distinct.dedup();
        assert!((9_350..9_650).contains(&distinct.len()), "5 % lost: {}", distinct.len());
        let doubled = keys.len() - distinct.len();
        assert!((800..1_100).contains(&doubled), "10 % doubled: {doubled}");
    }

    #[test]
    fn other_keys_are_not_told_of() {
        let (announcer, messages) = (Announcer::new(Faults::default()), Messages::default());
        let object = Object::new(Vec::new(), Described::default());
        announcer.announce(&messages, "b/blobs/x", &object, "ObjectCreated:Put");
        assert!(messages.waiting().is_empty());
        assert_eq!(announcer.tally().objects, 0);
    }
}
