//! The scripts, and how they are called: each with the keys of one pool.

use std::sync::LazyLock;

use longshore_jobs::job::{Lane, Pool};
use redis::{Cmd, Script};

use crate::queue::engine::Lease;

/// How many leases or pushes one call is about at most: a server that runs a script does nothing else.
pub(super) const CHUNK: usize = 250;

macro_rules! scripts {
    ($($name:ident = $file:literal,)+) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("job.lua"), include_str!($file))));)+
    };
}

scripts! {
    ABOUT = "about.lua",
    PUSH = "push.lua",
    CLAIM = "claim.lua",
    MARK = "mark.lua",
    RENEW = "renew.lua",
    DYING = "dying.lua",
    FINISH = "finish.lua",
    SETTLE = "settle.lua",
    RESCUE = "rescue.lua",
    DEPTHS = "depths.lua",
}

/// How many streams a pool has.
pub(super) const STREAMS: u8 = 4;

/// A pool's keys, in the order in which `job.lua` names them.
pub(super) fn keys(prefix: &str, pool: Pool) -> [String; 8] {
    let of = |name: &str| format!("{prefix}:{pool}:{name}");
    [
        of("interactive:front"),
        of("interactive"),
        of("bulk:front"),
        of("bulk"),
        of("interactive:later"),
        of("bulk:later"),
        of("jobs"),
        bell(prefix, pool),
    ]
}

/// The channel of a pool's bell, and the key that says that it has rung.
pub(super) fn bell(prefix: &str, pool: Pool) -> String {
    format!("{prefix}:{pool}:bell")
}

/// A call of the script about these keys, still without arguments.
pub(super) fn call(script: &Script, keys: &[String; 8]) -> Cmd {
    let mut call = redis::cmd("EVALSHA");
    call.arg(script.get_hash()).arg(keys.len()).arg(keys);
    call
}

/// A lane as the scripts number it.
pub(super) const fn lane_number(lane: Lane) -> u8 {
    match lane {
        Lane::Interactive => 1,
        Lane::Bulk => 2,
    }
}

/// The lane that a stream belongs to.
pub(super) const fn lane_of(stream: u8) -> Lane {
    if stream <= 2 { Lane::Interactive } else { Lane::Bulk }
}

/// Where a lease's entry is, as the scripts want it: the number of its stream, and its id there.
pub(super) fn place_of(lease: &Lease) -> (u8, String) {
    // The token says which of its lane's two streams it is.
    let stream = 2 * lane_number(lease.lane) - u8::from(lease.token == FRONT);
    (stream, format!("{}-{}", lease.id >> 64, lease.id & u128::from(u64::MAX)))
}

/// The lease of an entry; `None` when the id is none. An entry is lent out once: taken back, the job becomes another.
pub(super) fn lease_of(pool: Pool, stream: u8, id: &str) -> Option<Lease> {
    let (millis, number) = id.split_once('-')?;
    let id = u128::from(millis.parse::<u64>().ok()?) << 64 | u128::from(number.parse::<u64>().ok()?);
    let lane = lane_of(stream);
    let token = if stream < 2 * lane_number(lane) { FRONT } else { ITSELF };
    Some(Lease { id, token, pool, lane })
}

/// The token of a lease whose entry is in the lane's own stream.
const ITSELF: i64 = 0;
/// The token of a lease whose entry is in the stream before it.
const FRONT: i64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_leads_back_to_its_entry() {
        for stream in 1..=STREAMS {
            let lease = lease_of(Pool::Verify, stream, "1732250000000-18446744073709551615").unwrap();
            assert_eq!(place_of(&lease), (stream, "1732250000000-18446744073709551615".to_owned()));
        }
        assert_eq!(lease_of(Pool::Verify, 1, "1732250000000"), None);
    }
}
