//! Stories through the real program: each starts its own server on a free port with its own folder, and ends it.
//!
//! The state is read over HTTP, as a client would, and nothing sleeps: answers are waited for with `Prefer: wait`. Every story
//! is told on each combination of engines, see [`engines`].

#![expect(clippy::unwrap_used, reason = "a story that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "a story that is left out says so, and a long one what it saw")]

/// Tells each of these stories on each combination of engines. A combination whose servers are not there is skipped, loudly.
macro_rules! on_each_engine {
    ($($story:ident,)+) => {
        on_each_engine! { local, Local: $($story,)+ }
        on_each_engine! { postgres, Postgres: $($story,)+ }
        on_each_engine! { redis, Redis: $($story,)+ }
    };
    ($combination:ident, $engines:ident: $($story:ident,)+) => {
        mod $combination {
            $(
                #[tokio::test]
                async fn $story() {
                    use crate::engines::Engines;
                    if Engines::$engines.are_there() {
                        super::$story(Engines::$engines).await;
                    }
                }
            )+
        }
    };
}

mod arrivals;
mod bad_input;
mod batches;
mod crashes;
mod deletes;
mod doctor;
mod engines;
mod fleet;
mod ingest;
mod ingest_batches;
mod isolation;
mod prefix;
mod server;
mod systemd;
mod traces;
mod uploads;
