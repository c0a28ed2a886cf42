//! The bucket's door: notices come in, arrivals go on the queue.
//!
//! Receive, hand over, then acknowledge: nothing is hashed while a message is out. A message that says nothing we know is
//! acknowledged and counted, since it will say no more the second time; one that cannot be read at all is set aside, which each
//! inbox does in its own way. While our own queue is away, a receiver keeps what it has and asks for no more: nothing is lost,
//! nothing spins, and no message is received so often that it is taken for poison.

mod outage;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Once};
use std::time::Duration;

use futures_util::future::join_all;
use longshore_jobs::admit_object::AdmitObject;
use longshore_jobs::job::{Context, Lane, NewJob, with_causes};
use longshore_jobs::model::keys;
use longshore_jobs::model::notice::{self, Event, Malformed};
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::outside::QueueError;
use longshore_jobs::record_arrival::RecordArrival;
use tokio_util::sync::CancellationToken;

use self::outage::{Outage, Trouble};
use crate::inbox::{Inbox, Message};

/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What may fail here, as `longshore_inbox_failures_total` has it.
pub const OPS: [&str; 3] = ["receive", "hand_over", "acknowledge"];

/// Hands over notices until the inbox is closed, or it is stopped and nothing waits there any more. As many receive at once as
/// the inbox says.
pub async fn receive(ctx: Context, inbox: Arc<dyn Inbox>, stop: CancellationToken) {
    let door = Door::new(ctx, inbox, stop);
    join_all((0..door.inbox.receivers()).map(|_| door.receive())).await;
}

/// Hands over what one message says, for whoever keeps the message until that is done. Returns how many arrivals it names.
pub async fn hand_over(ctx: &Context, body: &str) -> Result<usize, Untaken> {
    let arrivals = once_each(arrivals_in(ctx, body)?);
    let count = arrivals.len();
    if count > 0 {
        ctx.queue.push(arrivals).await?;
    }
    Ok(count)
}

/// Why a message was not handed over.
#[derive(Debug, thiserror::Error)]
pub enum Untaken {
    /// It will not be better the next time.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It is to be sent again.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Takes notices and does nothing with them, until it is stopped: for those who chose to do without.
pub async fn discard(inbox: Arc<dyn Inbox>, stop: CancellationToken) {
    while let Some(Ok(Some(messages))) = stop.run_until_cancelled(inbox.receive()).await {
        tracing::debug!(messages = messages.len(), "notices are discarded");
    }
}

/// What all receivers of an inbox share.
struct Door {
    ctx: Context,
    inbox: Arc<dyn Inbox>,
    stop: CancellationToken,
    receiving: Outage,
    handing_over: Outage,
    acknowledging: Outage,
}

impl Door {
    fn new(ctx: Context, inbox: Arc<dyn Inbox>, stop: CancellationToken) -> Self {
        let [receiving, handing_over, acknowledging] = OPS.map(Outage::new);
        Self { ctx, inbox, stop, receiving, handing_over, acknowledging }
    }

    async fn receive(&self) {
        while let Some(messages) = self.next().await {
            let batch = Batch::read(&self.ctx, messages);
            if !self.hand_over(&batch.arrivals).await {
                self.give_back(batch).await;
                return;
            }
            self.acknowledge(batch).await;
        }
    }

    /// The next messages; `None` when the inbox is closed or it is time to stop.
    async fn next(&self) -> Option<Vec<Message>> {
        let received = self.insist(&self.receiving, || async { Ok(self.inbox.receive().await?) });
        match self.stop.run_until_cancelled(received).await {
            Some(received) => received?,
            // What is there already is taken along; what comes later is for the next start.
            None => self.inbox.at_hand(),
        }
    }

    /// False when it is time to stop and the queue has not taken them. An inbox may have nothing but these to give: they are
    /// kept until then.
    async fn hand_over(&self, arrivals: &[NewJob]) -> bool {
        arrivals.is_empty()
            || self
                .insist(&self.handing_over, || async { Ok(self.ctx.queue.push(arrivals.to_vec()).await?) })
                .await
                .is_some()
    }

    /// Not insisted upon: what is not acknowledged comes again, and is handed over once more to no harm.
    async fn acknowledge(&self, batch: Batch) {
        // An empty poll proves nothing about acknowledging.
        if batch.read.is_empty() && batch.unread.is_empty() {
            return;
        }
        let acknowledged = async {
            self.inbox.acknowledge(batch.read).await?;
            self.inbox.set_aside(batch.unread).await
        };
        match acknowledged.await {
            Ok(()) => self.acknowledging.is_over(),
            Err(error) => self.acknowledging.met(&error.into()),
        }
    }

    async fn give_back(&self, batch: Batch) {
        if let Err(error) = self.inbox.give_back(batch.read).await {
            tracing::warn!(error = with_causes(&error), "notices that were not handed over come again later");
        }
    }

    /// Attempts it until it succeeds, with longer and longer waits; `None` when it is time to stop.
    async fn insist<T, F>(&self, outage: &Outage, attempt: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut wait = FIRST_WAIT;
        loop {
            match attempt().await {
                Ok(done) => {
                    outage.is_over();
                    return Some(done);
                }
                Err(trouble) => outage.met(&trouble),
            }
            self.stop.run_until_cancelled(tokio::time::sleep(wait)).await?;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// Messages that came together, and what is to be put on for them.
struct Batch {
    arrivals: Vec<NewJob>,
    read: Vec<Message>,
    unread: Vec<Message>,
}

impl Batch {
    fn read(ctx: &Context, messages: Vec<Message>) -> Self {
        let (mut arrivals, mut read, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            match arrivals_in(ctx, &message.body) {
                Ok(found) => {
                    arrivals.extend(found);
                    read.push(message);
                }
                Err(error) => {
                    tracing::warn!(error = with_causes(&error), "a notice cannot be read");
                    unread.push(message);
                }
            }
        }
        Self { arrivals: once_each(arrivals), read, unread }
    }
}

/// One push may name a job once: a message that came twice is one arrival.
fn once_each(mut arrivals: Vec<NewJob>) -> Vec<NewJob> {
    arrivals.sort_unstable_by_key(NewJob::subject);
    arrivals.dedup_by_key(|job| job.subject());
    arrivals
}

fn arrivals_in(ctx: &Context, body: &str) -> Result<Vec<NewJob>, Malformed> {
    let events = notice::parse(body).inspect_err(|_| count("malformed"))?;
    Ok(events.into_iter().filter_map(|event| arrival(ctx, event)).collect())
}

fn arrival(ctx: &Context, event: Event) -> Option<NewJob> {
    let created = match event {
        Event::Created(created) => created,
        Event::Test => {
            count("test_event");
            return None;
        }
        Event::Other(name) => {
            tracing::debug!(name, "a notice that does not concern us");
            return None;
        }
    };
    let bucket = ctx.bucket.address().bucket;
    let ours = created.bucket == bucket;
    if !ours {
        warn_of_stranger(&created.bucket, &bucket);
    }
    let job = if ours { job_for(ctx, created.key) } else { None };
    if job.is_none() {
        count("unknown_key");
    }
    job
}

/// A person waits for an upload; the files of a batch are very many.
fn job_for(ctx: &Context, key: String) -> Option<NewJob> {
    let via = ArrivedVia::Notice;
    match keys::upload_of(&key) {
        Some(upload) => Some(NewJob::of(&RecordArrival { upload, via }, Lane::Interactive, ctx.now())),
        None if keys::batch_of(&key).is_some() => Some(AdmitObject::told(ctx, key, via)),
        None => None,
    }
}

/// Told once in a process: either the queue is told of more than our bucket, or it is somebody else's queue that we empty.
fn warn_of_stranger(theirs: &str, ours: &str) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        tracing::warn!(theirs, ours, "notices of another bucket are acknowledged and dropped; told once")
    });
}

/// What came of a notice that names one of our uploads, `record_arrival` counts, and `admit_object` of one in a batch.
fn count(disposition: &'static str) {
    metrics::counter!("longshore_notices_total", "source" => ArrivedVia::Notice.as_str(), "disposition" => disposition)
        .increment(1);
}
