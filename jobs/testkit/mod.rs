//! What tests use in place of the outside: a bucket and a queue in memory, a clock cranked by hand, a world that joins them,
//! and the contract that every bucket passes.

mod clock;
pub mod contract;
mod memory_bucket;
mod memory_queue;
pub mod postgres;
mod world;

pub use clock::HandClock;
pub use memory_bucket::MemoryBucket;
pub use memory_queue::MemoryQueue;
pub use world::World;
