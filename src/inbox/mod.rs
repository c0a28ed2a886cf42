//! Where notices come from: messages of the bucket, kept until they are handed over.

mod local;
pub(crate) mod sqs;

use async_trait::async_trait;
use longshore_jobs::outside::BoxError;

pub use local::LocalInbox;

/// A message as it came. What it says is for [`longshore_jobs::model::notice`] to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The text.
    pub body: String,
    /// What the inbox wants to hear when the message has been dealt with.
    pub receipt: String,
}

/// A source of messages: each is delivered at least once, and by some again unless it is acknowledged.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// How many may usefully receive at once.
    fn receivers(&self) -> usize {
        1
    }

    /// Waits for messages; empty when none came for a while, `None` when none will ever come again. Dropping it loses none:
    /// what was on its way comes again.
    async fn receive(&self) -> Result<Option<Vec<Message>>, InboxError>;

    /// What is in this process already and nowhere else: it is taken along at the end.
    fn at_hand(&self) -> Option<Vec<Message>> {
        None
    }

    /// The messages have been dealt with and need not come again.
    async fn acknowledge(&self, messages: Vec<Message>) -> Result<(), InboxError>;

    /// The messages cannot be read, and will say no more the next time. An inbox that has a place for such moves them there
    /// in its own time; one that has none forgets them.
    async fn set_aside(&self, messages: Vec<Message>) -> Result<(), InboxError> {
        self.acknowledge(messages).await
    }

    /// We end before the messages were dealt with: somebody else may have them at once.
    async fn give_back(&self, messages: Vec<Message>) -> Result<(), InboxError>;
}

/// What can go wrong with an inbox, as far as callers treat it differently.
#[derive(Debug, thiserror::Error)]
pub enum InboxError {
    /// The address of the inbox is none. It has to be written anew.
    #[error("{url} is not the URL of a queue")]
    Address {
        /// What was given.
        url: String,
    },
    /// The inbox is there and says no: a right, the signature or the queue itself is missing. Somebody has to act.
    #[error("{op} was refused by the inbox")]
    Refused {
        /// The operation.
        op: &'static str,
        /// What the inbox said.
        #[source]
        source: BoxError,
    },
    /// Anything that a second try may cure.
    #[error("{op} failed on the inbox")]
    Failed {
        /// The operation.
        op: &'static str,
        /// What the inbox said.
        #[source]
        source: BoxError,
    },
    /// The operation was done, but not for every message.
    #[error("{op} failed for {count} messages, for the first with {code}")]
    Partly {
        /// The operation.
        op: &'static str,
        /// How many messages are left.
        count: usize,
        /// What the inbox said of the first.
        code: String,
    },
}

impl InboxError {
    /// Whether it will stay like that until somebody acts.
    pub(crate) const fn stays(&self) -> bool {
        matches!(self, Self::Address { .. } | Self::Refused { .. })
    }
}
