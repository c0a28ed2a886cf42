//! Where notices come from: messages of the bucket, kept until they are handed over.

mod local;

use async_trait::async_trait;

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
    /// Waits for messages; empty when none came for a while, `None` when none will ever come again.
    async fn receive(&self) -> Result<Option<Vec<Message>>, InboxError>;

    /// The messages have been dealt with and need not come again.
    async fn acknowledge(&self, messages: Vec<Message>) -> Result<(), InboxError>;
}

/// The inbox could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("{op} failed on the inbox")]
pub struct InboxError {
    /// The operation.
    pub op: &'static str,
    /// What the inbox said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
