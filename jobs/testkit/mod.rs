//! What tests use in place of the outside: a bucket and a queue in memory, a clock cranked by hand, a world that joins them,
//! and the contract that every bucket passes.

/// Runs tests, each of which takes a [`World`](crate::testkit::World), on a ledger of every engine. One that is not named is
/// never called, which is a warning.
#[macro_export]
macro_rules! on_every_engine {
    ($($test:ident,)+) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $test() {
                    let world = $crate::testkit::World::new().await;
                    Box::pin(super::$test(world)).await;
                }
            )+
        }

        $crate::on_postgres! { $($test,)+ }
    };
}

/// As [`on_every_engine!`] for what only PostgreSQL allows: several processes on one ledger.
#[macro_export]
macro_rules! on_postgres {
    ($($test:ident,)+) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if let Some(world) = $crate::testkit::World::on_postgres(stringify!($test)).await {
                        Box::pin(super::$test(world)).await;
                    }
                }
            )+
        }
    };
}

mod clock;
pub mod contract;
mod line;
mod memory_bucket;
mod memory_queue;
pub mod postgres;
mod servers;
mod world;

pub use clock::HandClock;
pub use line::Line;
pub use memory_bucket::MemoryBucket;
pub use memory_queue::MemoryQueue;
pub use servers::given;
pub use world::World;
