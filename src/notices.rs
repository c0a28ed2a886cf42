//! The bucket's door: notices come in, arrivals go on the queue.
//!
//! Receive, hand over, then acknowledge: nothing is hashed while a message is out. A message that says nothing we know is
//! acknowledged and counted, since it will say no more the second time.

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::job::{Context, Lane, NewJob, with_causes};
use longshore_jobs::model::keys;
use longshore_jobs::model::notice::{self, Event};
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::outside::QueueError;
use longshore_jobs::record_arrival::RecordArrival;
use tokio_util::sync::CancellationToken;

use crate::inbox::{Inbox, InboxError, Message};

/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Hands over notices until it is stopped or the inbox is closed.
pub async fn receive(ctx: Context, inbox: Arc<dyn Inbox>, stop: CancellationToken) {
    let mut wait = FIRST_WAIT;
    loop {
        let messages = tokio::select! {
            () = stop.cancelled() => return,
            received = inbox.receive() => received,
        };
        match take(&ctx, &*inbox, messages).await {
            Ok(true) => wait = FIRST_WAIT,
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(error = with_causes(&error), ?wait, "notices wait");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
                }
            }
        }
    }
}

/// Takes notices and does nothing with them, until it is stopped: for those who chose to do without.
pub async fn discard(inbox: Arc<dyn Inbox>, stop: CancellationToken) {
    while let Some(Ok(Some(messages))) = stop.run_until_cancelled(inbox.receive()).await {
        tracing::debug!(messages = messages.len(), "notices are discarded");
    }
}

#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Inbox(#[from] InboxError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Deals with one batch. `false` when the inbox is closed.
async fn take(
    ctx: &Context,
    inbox: &dyn Inbox,
    received: Result<Option<Vec<Message>>, InboxError>,
) -> Result<bool, TakeError> {
    let Some(messages) = received? else {
        return Ok(false);
    };
    hand_over(ctx, &messages).await?;
    inbox.acknowledge(messages).await?;
    Ok(true)
}

async fn hand_over(ctx: &Context, messages: &[Message]) -> Result<(), QueueError> {
    let mut arrivals: Vec<NewJob> = messages.iter().flat_map(|message| arrivals_in(ctx, &message.body)).collect();
    if arrivals.is_empty() {
        return Ok(());
    }
    // One push may name a job once: a message that came twice in a batch is one arrival.
    arrivals.sort_unstable_by_key(NewJob::subject);
    arrivals.dedup_by_key(|job| job.subject());
    ctx.queue.push(arrivals).await
}

fn arrivals_in(ctx: &Context, body: &str) -> Vec<NewJob> {
    let events = match notice::parse(body) {
        Ok(events) => events,
        Err(error) => {
            tracing::warn!(%error, "a notice could not be read and is dropped");
            count("malformed");
            return Vec::new();
        }
    };
    events.into_iter().filter_map(|event| arrival(ctx, event)).collect()
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
    let ours = created.bucket == ctx.bucket.address().bucket;
    let Some(upload) = keys::upload_of(&created.key).filter(|_| ours) else {
        count("unknown_key");
        return None;
    };
    let arrival = RecordArrival { upload, via: ArrivedVia::Notice };
    Some(NewJob::of(&arrival, Lane::Interactive, ctx.now()))
}

/// What came of a notice that names one of our uploads, `record_arrival` counts.
fn count(disposition: &'static str) {
    metrics::counter!("longshore_notices_total", "source" => ArrivedVia::Notice.as_str(), "disposition" => disposition)
        .increment(1);
}
