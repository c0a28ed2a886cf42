//! Notices by SQS, or a server that speaks its protocol: long polls, and deletes once a message is handed over.
//!
//! Three things would surprise a reader. A message that cannot be read is left alone: its visibility runs out, it comes again,
//! and after `maxReceiveCount` times the queue itself moves it to its dead-letter queue; deleting it would destroy the
//! evidence. A message that cannot be handed over is kept by its receiver, who tries again, and not dropped to be received anew:
//! that would use up receives and send good messages to the dead-letter queue while our own queue is away. And
//! `DeleteMessageBatch` answers 200 although entries have failed: these are tried again, then left to come again, which does
//! no harm.

mod address;
mod failure;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::Config;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, QueueAttributeName,
};
use aws_sdk_sqs::{Client, types};
use longshore_jobs::job::with_causes;
use tokio::time::Instant;
use url::Url;

use self::address::Address;
use self::failure::failure;
use super::{Inbox, InboxError, Message};

/// The most that one request may receive or delete.
const BATCH: usize = 10;
/// The longest that SQS lets a poll wait.
const LONGEST_POLL: Duration = Duration::from_secs(20);
/// How long an empty poll takes at least, whatever the server does.
const SHORTEST_POLL: Duration = Duration::from_secs(1);
/// The longest that SQS hides a message.
const LONGEST_HIDING: Duration = Duration::from_secs(12 * 3600);
/// How long an answer may take beyond the time that the server was asked to wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pauses before entries that failed for a passing reason are deleted again.
const PAUSES: [Duration; 3] = [Duration::from_millis(50), Duration::from_millis(200), Duration::from_millis(800)];

/// Which queue, and how it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// `https://sqs.eu-north-1.amazonaws.com/123456789012/notices`, or the like on a server of one's own.
    pub(crate) queue_url: String,
    /// `None`: as the queue's URL has it, else by the SDK's chain.
    pub(crate) region: Option<String>,
    /// Where requests go. `None`: AWS, or for a URL of another host that host.
    pub(crate) endpoint: Option<Url>,
    /// How long a poll waits for messages: 1 s to 20 s, whole seconds.
    pub(crate) wait: Duration,
    /// For how long a received message is hidden from others, whole seconds to 12 h. It need only cover one push onto the
    /// queue, but what is lost in a crash comes again no sooner.
    pub(crate) visibility: Duration,
    /// How many polls run at once, each with up to 10 messages. An idle one costs 3 requests a minute.
    pub(crate) receivers: usize,
}

impl Options {
    /// The queue of that URL with everything else as it mostly is.
    pub(crate) fn new(queue_url: impl Into<String>) -> Self {
        let (wait, visibility) = (LONGEST_POLL, Duration::from_secs(120));
        Self { queue_url: queue_url.into(), region: None, endpoint: None, wait, visibility, receivers: 4 }
    }
}

/// A queue of SQS.
#[derive(Clone, Debug)]
pub(crate) struct SqsInbox {
    client: Client,
    queue_url: String,
    wait: Duration,
    visibility: Duration,
    receivers: usize,
}

impl SqsInbox {
    /// Makes a client of the queue and looks how the queue is set up. A queue that does not answer is no error: it is asked
    /// again with every poll. [`InboxError::Address`] when the URL is none.
    pub(crate) async fn open(options: Options) -> Result<Self, InboxError> {
        let address = Address::of(&options)?;
        let sdk = crate::aws::load(address.region.clone()).await;
        let inbox = Self::connect(&sdk, address, options);
        inbox.look_for_dead_letters().await;
        Ok(inbox)
    }

    fn connect(sdk: &SdkConfig, address: Address, options: Options) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(PATIENCE).build();
        let mut config = aws_sdk_sqs::config::Builder::from(sdk).timeout_config(timeouts);
        config.set_endpoint_url(address.endpoint);
        Self {
            client: Client::from_conf(config.build()),
            queue_url: options.queue_url,
            wait: whole_seconds(options.wait.clamp(Duration::from_secs(1), LONGEST_POLL)),
            visibility: whole_seconds(options.visibility.min(LONGEST_HIDING)),
            receivers: options.receivers.max(1),
        }
    }

    /// What the queue tells of itself, by the names of the API; nothing else is made of it.
    pub(crate) async fn attributes(options: Options) -> Result<HashMap<String, String>, InboxError> {
        let address = Address::of(&options)?;
        let sdk = crate::aws::load(address.region.clone()).await;
        let inbox = Self::connect(&sdk, address, options);
        let request = inbox.client.get_queue_attributes().queue_url(&inbox.queue_url);
        let told = request.attribute_names(QueueAttributeName::All).send().await;
        let told = told.map_err(|error| failure("look at the queue", error))?.attributes.unwrap_or_default();
        Ok(told.into_iter().map(|(name, value)| (name.as_str().to_owned(), value)).collect())
    }

    /// Whether the queue answers, for a check of readiness.
    pub(crate) async fn ping(&self) -> Result<(), InboxError> {
        self.redrive_policy().await.map(drop)
    }

    /// Told once, at the start: without a redrive policy, nothing ever takes a message away that cannot be read.
    async fn look_for_dead_letters(&self) {
        let queue = &self.queue_url;
        match self.redrive_policy().await {
            Ok(Some(_)) => {}
            Ok(None) => tracing::warn!(
                queue,
                "the queue has no redrive policy: a message that cannot be read comes again until its retention ends"
            ),
            Err(error) => tracing::warn!(
                queue,
                error = with_causes(&error),
                "it is not known whether the queue has a redrive policy for messages that cannot be read"
            ),
        }
    }

    async fn redrive_policy(&self) -> Result<Option<String>, InboxError> {
        let asked = QueueAttributeName::RedrivePolicy;
        let request = self.client.get_queue_attributes().queue_url(&self.queue_url).attribute_names(asked.clone());
        let told = request.send().await.map_err(|error| failure("look at the queue", error))?;
        Ok(told.attributes.and_then(|mut attributes| attributes.remove(&asked)).filter(|policy| !policy.is_empty()))
    }

    /// Deletes up to ten, and those again that failed for a passing reason. Returns what has failed for good.
    async fn delete(&self, batch: &[Message]) -> Result<Vec<BatchResultErrorEntry>, InboxError> {
        let (mut asked, mut failed): (Vec<usize>, Vec<_>) = ((0..batch.len()).collect(), Vec::new());
        let mut pauses = PAUSES.into_iter();
        loop {
            let (passing, lasting): (Vec<_>, Vec<_>) =
                self.delete_once(batch, &asked).await?.into_iter().partition(|entry| !entry.sender_fault);
            failed.extend(lasting);
            let next = pauses.next().filter(|_| !passing.is_empty());
            let Some(pause) = next else {
                failed.extend(passing);
                return Ok(failed);
            };
            tokio::time::sleep(pause).await;
            asked = passing.iter().filter_map(|entry| position(entry, batch)).collect();
        }
    }

    async fn delete_once(&self, batch: &[Message], asked: &[usize]) -> Result<Vec<BatchResultErrorEntry>, InboxError> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let entry = |&at: &usize| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(&batch[at].receipt);
            entry.build().expect("an id and a receipt are all it needs")
        };
        let entries = asked.iter().map(entry).collect();
        let request = self.client.delete_message_batch().queue_url(&self.queue_url).set_entries(Some(entries));
        let answer = request.send().await.map_err(|error| failure("delete messages", error))?;
        Ok(answer.failed)
    }

    async fn show_at_once(&self, batch: &[Message]) -> Result<Vec<BatchResultErrorEntry>, InboxError> {
        let entry = |(at, message): (usize, &Message)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(at.to_string()).visibility_timeout(0);
            entry.receipt_handle(&message.receipt).build().expect("an id and a receipt are all it needs")
        };
        let entries = batch.iter().enumerate().map(entry).collect();
        let request = self.client.change_message_visibility_batch().queue_url(&self.queue_url);
        let answer = request.set_entries(Some(entries)).send().await;
        Ok(answer.map_err(|error| failure("give messages back", error))?.failed)
    }
}

#[async_trait]
impl Inbox for SqsInbox {
    fn receivers(&self) -> usize {
        self.receivers
    }

    async fn receive(&self) -> Result<Option<Vec<Message>>, InboxError> {
        let patience = TimeoutConfig::builder().operation_timeout(self.wait + PATIENCE).build();
        let request = self
            .client
            .receive_message()
            .queue_url(&self.queue_url)
            .max_number_of_messages(seconds_or_count(BATCH as u64))
            .wait_time_seconds(seconds_or_count(self.wait.as_secs()))
            .visibility_timeout(seconds_or_count(self.visibility.as_secs()))
            .customize()
            .config_override(Config::builder().timeout_config(patience));
        let asked = Instant::now();
        let answer = request.send().await.map_err(|error| failure("receive messages", error))?;
        let messages: Vec<_> = answer.messages.unwrap_or_default().into_iter().filter_map(message).collect();
        if messages.is_empty() {
            // No server may make us spin, although some do not know how to wait.
            tokio::time::sleep_until(asked + SHORTEST_POLL).await;
        }
        Ok(Some(messages))
    }

    async fn acknowledge(&self, messages: Vec<Message>) -> Result<(), InboxError> {
        let mut failed = Vec::new();
        for batch in messages.chunks(BATCH) {
            failed.extend(self.delete(batch).await?);
        }
        all_or_partly("delete messages", &failed)
    }

    /// Left alone: after some receives the queue moves them to its dead-letter queue.
    async fn set_aside(&self, _messages: Vec<Message>) -> Result<(), InboxError> {
        Ok(())
    }

    async fn give_back(&self, messages: Vec<Message>) -> Result<(), InboxError> {
        let mut failed = Vec::new();
        for batch in messages.chunks(BATCH) {
            failed.extend(self.show_at_once(batch).await?);
        }
        all_or_partly("give messages back", &failed)
    }
}

/// Without a receipt a message cannot be deleted; none has been seen without, and it would come again.
fn message(received: types::Message) -> Option<Message> {
    Some(Message { body: received.body.unwrap_or_default(), receipt: received.receipt_handle? })
}

/// Where in the batch an entry's message is.
fn position(entry: &BatchResultErrorEntry, batch: &[Message]) -> Option<usize> {
    entry.id.parse().ok().filter(|at| *at < batch.len())
}

fn all_or_partly(op: &'static str, failed: &[BatchResultErrorEntry]) -> Result<(), InboxError> {
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(InboxError::Partly { op, count: failed.len(), code: first.code.clone() }),
    }
}

const fn whole_seconds(length: Duration) -> Duration {
    Duration::from_secs(length.as_secs())
}

fn seconds_or_count(number: u64) -> i32 {
    i32::try_from(number).expect("ten messages, twenty seconds and twelve hours are small")
}
