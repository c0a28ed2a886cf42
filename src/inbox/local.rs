//! The local bucket's notices: a channel within the process. A crash loses what is in it, as the real thing may, and the
//! poller finds what was lost. Whoever receives a message keeps it until it is handed over: it does not come twice, so there
//! is nowhere to leave one that cannot be read.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::sync::{Mutex, mpsc};

use super::{Inbox, InboxError, Message};

/// How many messages are taken at once.
const AT_ONCE: usize = 256;

/// The receiving end of the local bucket's events.
pub struct LocalInbox {
    events: Mutex<mpsc::Receiver<String>>,
}

impl LocalInbox {
    /// Takes the receiving end.
    #[must_use]
    pub fn new(events: mpsc::Receiver<String>) -> Self {
        Self { events: Mutex::new(events) }
    }
}

#[async_trait]
impl Inbox for LocalInbox {
    async fn receive(&self) -> Result<Option<Vec<Message>>, InboxError> {
        let mut bodies = Vec::new();
        let taken = self.events.lock().await.recv_many(&mut bodies, AT_ONCE).await;
        if taken == 0 {
            return Ok(None);
        }
        Ok(Some(bodies.into_iter().map(|body| Message { body, receipt: String::new() }).collect()))
    }

    fn at_hand(&self) -> Option<Vec<Message>> {
        self.receive().now_or_never()?.ok()?
    }

    /// What left the channel is gone already.
    async fn acknowledge(&self, _messages: Vec<Message>) -> Result<(), InboxError> {
        Ok(())
    }

    /// There is nobody else.
    async fn give_back(&self, _messages: Vec<Message>) -> Result<(), InboxError> {
        Ok(())
    }
}
