//! Hearing the bells that other processes ring, over a connection that does nothing else.
//!
//! A script that has put something on rings, but only when somebody has found too little to claim since the last ring (see
//! `ring` in `job.lua`). So a busy queue is silent, and there are never more rings than claims that came up short. A ring
//! that is lost costs a wait until the next poll.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use longshore_jobs::job::{Pool, with_causes};
use redis::{Client, Msg, RedisResult};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::link::CONNECT_LIMIT;
use crate::queue::engine::Wakes;
use crate::queue::pace::Backoff;

/// After so long a silence the connection is made anew: the other end may be gone without a word.
const SILENCE: Duration = Duration::from_secs(60);

/// Who listens.
pub(super) struct Ears {
    pub(super) client: Client,
    /// Channels, and what they are about.
    pub(super) bells: HashMap<String, Pool>,
    /// What we ring ourselves has been heard already.
    pub(super) ourselves: String,
    pub(super) wakes: Wakes,
}

impl Ears {
    /// Listens until it is aborted.
    pub(super) async fn listen(self) {
        let mut backoff = Backoff::default();
        loop {
            let lost = match self.subscribe().await {
                Ok(rings) => {
                    backoff.reset();
                    // Whatever was rung while nobody listened.
                    self.bells.values().for_each(|pool| self.wakes.wake(*pool));
                    if self.hear(rings).await.is_err() {
                        continue;
                    }
                    "the server has closed the connection".to_owned()
                }
                Err(error) => with_causes(&error),
            };
            let wait = backoff.next();
            tracing::warn!(error = lost, ?wait, "the bells of the queue cannot be heard");
            tokio::time::sleep(wait).await;
        }
    }

    async fn subscribe(&self) -> RedisResult<impl Stream<Item = Msg> + Unpin + use<>> {
        let subscribed = timeout(CONNECT_LIMIT, async {
            let mut connection = self.client.get_async_pubsub().await?;
            connection.subscribe(self.bells.keys().collect::<Vec<_>>()).await?;
            Ok(connection.into_on_message())
        });
        subscribed.await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    /// Until the connection breaks, or, which is the error, nothing has been heard for long.
    async fn hear(&self, mut rings: impl Stream<Item = Msg> + Unpin) -> Result<(), Elapsed> {
        while let Some(ring) = timeout(SILENCE, rings.next()).await? {
            let pool = self.bells.get(ring.get_channel_name());
            if let Some(pool) = pool.filter(|_| ring.get_payload_bytes() != self.ourselves.as_bytes()) {
                self.wakes.wake(*pool);
            }
        }
        Ok(())
    }
}
