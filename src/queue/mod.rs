//! apalis and nothing but: the engines that keep jobs, and the workers that run them.
//!
//! # Layout
//!
//! - [`engine`]: what an engine does, whatever it is built on, and `contract`: the tests that each has to pass
//! - [`sql`]: the engine on the `jobs` table
//! - [`mod@redis`]: the engine on Redis Streams
//! - `holds`, `fetch`, `acks`, `beats`: what a worker holds, and the three tasks that serve it
//! - `backend`: what apalis sees of all this
//! - [`workers`]: the apalis workers of this process, and their end
//! - [`pauses`]: pools that stand still; `presence`: how operators see who works
//! - [`mod@bench`]: how fast all of it is
//!
//! # The way of a job
//!
//! A push rings the pool's bell. The fetcher takes free slots, claims as many jobs, and puts them into a channel, from which
//! apalis takes them through its layers to the handler: `perform`, in a tokio task of its own. Its verdict goes to the acker,
//! which stores it together with all the others that came meanwhile, and frees the slots. Beside them the heartbeat renews
//! the leases. At any point the process may die: the lease runs out, and another worker takes the job back.

mod acks;
mod backend;
mod beats;
pub mod bench;
#[cfg(test)]
mod contract;
pub mod counters;
pub mod engine;
mod fetch;
mod holds;
pub mod nowhere;
pub mod pace;
pub mod pauses;
mod presence;
pub mod redis;
pub mod sql;
pub mod workers;
