//! Notices that go astray: between the bucket's queue and the one that the fleet reads sits somebody who drops, doubles and
//! reorders them.

use std::fmt;

use aws_sdk_sqs::Client;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How many are held back at most, so that an early one can be overtaken.
const HELD: usize = 30;
/// In a hundred.
const DROPPED: u32 = 5;
const DOUBLED: u32 = 20;

/// Where notices come from and where they should go.
pub struct Route {
    pub sqs: Client,
    pub from: String,
    pub to: String,
}

/// The one who sits between.
pub struct Mischief {
    stop: CancellationToken,
    done: JoinHandle<Told>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Told {
    received: usize,
    pub dropped: usize,
    doubled: usize,
}

impl Mischief {
    pub fn start(route: Route, seed: u64) -> Self {
        let stop = CancellationToken::new();
        let done = tokio::spawn(relay(route, StdRng::seed_from_u64(seed), stop.clone()));
        Self { stop, done }
    }

    /// What it has done until now.
    pub async fn end(self) -> Told {
        self.stop.cancel();
        self.done.await.unwrap()
    }
}

async fn relay(route: Route, mut random: StdRng, stop: CancellationToken) -> Told {
    let (mut told, mut held) = (Told::default(), Vec::new());
    while !stop.is_cancelled() {
        let bodies = receive(&route).await;
        let idle = bodies.is_empty();
        for body in bodies {
            told.received += 1;
            match random.random_range(0..100) {
                roll if roll < DROPPED => told.dropped += 1,
                roll if roll < DROPPED + DOUBLED => {
                    told.doubled += 1;
                    held.extend([body.clone(), body]);
                }
                _ => held.push(body),
            }
        }
        while held.len() > if idle { 0 } else { HELD } {
            let body = held.swap_remove(random.random_range(0..held.len()));
            route.sqs.send_message().queue_url(&route.to).message_body(body).send().await.unwrap();
        }
    }
    told
}

async fn receive(route: &Route) -> Vec<String> {
    let asked = route.sqs.receive_message().queue_url(&route.from).max_number_of_messages(10).wait_time_seconds(1);
    let messages = asked.send().await.unwrap().messages.unwrap_or_default();
    for message in &messages {
        let receipt = message.receipt_handle.clone().unwrap();
        route.sqs.delete_message().queue_url(&route.from).receipt_handle(receipt).send().await.unwrap();
    }
    messages.into_iter().filter_map(|message| message.body).collect()
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "of {} notices {} dropped, {} doubled, all shuffled", self.received, self.dropped, self.doubled)
    }
}
