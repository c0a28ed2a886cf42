//! The bucket's door: notices come in, arrivals go on the queue.
//!
//! Receive, hand over, then acknowledge: nothing is hashed while a message is out. A message that says nothing we know is
//! acknowledged and counted, since it will say no more the second time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use longshore_jobs::job::{Context, Lane, NewJob, with_causes};
use longshore_jobs::model::keys;
use longshore_jobs::model::notice::{self, Event};
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::record_arrival::RecordArrival;
use tokio_util::sync::CancellationToken;

use crate::inbox::{Inbox, Message};

/// The first wait after a failure; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Hands over notices until the inbox is closed, or it is stopped and nothing waits there any more.
pub async fn receive(ctx: Context, inbox: Arc<dyn Inbox>, stop: CancellationToken) {
    while let Some(messages) = next(&*inbox, &stop).await {
        let arrivals = arrivals_of(&ctx, &messages);
        // An inbox may have nothing but these to give: they are kept until the queue takes them.
        if !arrivals.is_empty() && insist(&stop, || ctx.queue.push(arrivals.clone())).await.is_none() {
            return;
        }
        if let Err(error) = inbox.acknowledge(messages).await {
            tracing::warn!(error = with_causes(&error), "notices that were handed over will come again");
        }
    }
}

/// The next messages; `None` when the inbox is closed or it is time to stop.
async fn next(inbox: &dyn Inbox, stop: &CancellationToken) -> Option<Vec<Message>> {
    match stop.run_until_cancelled(insist(stop, || inbox.receive())).await {
        Some(received) => received?,
        // What is there already is taken along; what comes later is for the next start.
        None => inbox.receive().now_or_never()?.ok()?,
    }
}

/// Attempts it until it succeeds, with longer and longer waits; `None` when it is time to stop.
async fn insist<T, E, F>(stop: &CancellationToken, attempt: impl Fn() -> F) -> Option<T>
where
    E: std::error::Error,
    F: Future<Output = Result<T, E>>,
{
    let mut wait = FIRST_WAIT;
    loop {
        match attempt().await {
            Ok(done) => return Some(done),
            Err(error) => tracing::warn!(error = with_causes(&error), ?wait, "notices wait"),
        }
        stop.run_until_cancelled(tokio::time::sleep(wait)).await?;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

/// Takes notices and does nothing with them, until it is stopped: for those who chose to do without.
pub async fn discard(inbox: Arc<dyn Inbox>, stop: CancellationToken) {
    while let Some(Ok(Some(messages))) = stop.run_until_cancelled(inbox.receive()).await {
        tracing::debug!(messages = messages.len(), "notices are discarded");
    }
}

/// What is to be put on for a batch. One push may name a job once: a message that came twice is one arrival.
fn arrivals_of(ctx: &Context, messages: &[Message]) -> Vec<NewJob> {
    let mut arrivals: Vec<NewJob> = messages.iter().flat_map(|message| arrivals_in(ctx, &message.body)).collect();
    arrivals.sort_unstable_by_key(NewJob::subject);
    arrivals.dedup_by_key(|job| job.subject());
    arrivals
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

#[cfg(test)]
mod tests {
    use longshore_jobs::job::Job as _;
    use longshore_jobs::model::Upload;
    use longshore_jobs::model::notice::Arrival;
    use longshore_jobs::testkit::World;
    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
    use tokio::sync::mpsc;

    use super::*;
    use crate::inbox::LocalInbox;

    fn created(world: &World, bucket: &str, key: &str) -> String {
        let arrival =
            Arrival { bucket: bucket.to_owned(), key: key.to_owned(), size: None, etag: None, sequencer: None };
        notice::render(&arrival, "local", world.ctx.now())
    }

    fn landed(world: &World, upload: &Upload) -> String {
        created(world, "memory", &upload.object_key)
    }

    /// An inbox that gives these messages in one batch and is closed behind them.
    fn inbox(bodies: Vec<String>) -> Arc<LocalInbox> {
        let (sender, events) = mpsc::channel(bodies.len());
        for body in bodies {
            sender.try_send(body).unwrap();
        }
        Arc::new(LocalInbox::new(events))
    }

    async fn receive_all(world: &World, bodies: Vec<String>) {
        receive(world.ctx.clone(), inbox(bodies), CancellationToken::new()).await;
    }

    fn counted(handle: &PrometheusHandle, disposition: &str) -> bool {
        let line = format!("longshore_notices_total{{source=\"notice\",disposition=\"{disposition}\"}} 1");
        handle.render().lines().any(|found| found == line)
    }

    #[tokio::test]
    async fn a_notice_becomes_one_job_even_if_it_comes_twice_in_a_batch() {
        let world = World::new().await;
        let (one, two) = (world.issued().await, world.issued().await);

        receive_all(&world, vec![landed(&world, &one), landed(&world, &two), landed(&world, &one)]).await;

        assert_eq!(world.queue.waiting(), [RecordArrival::KIND; 2]);
        world.bucket.land(&one.object_key, b"bytes");
        world.drain().await;
        let arrived = world.upload(one.id).await;
        assert_eq!(arrived.arrived_via, Some(ArrivedVia::Notice));
    }

    #[tokio::test]
    async fn what_is_no_notice_of_ours_is_dropped_and_counted() {
        for (disposition, body) in [
            ("test_event", r#"{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "memory"}"#.to_owned()),
            ("malformed", "{\"Records\": 7}".to_owned()),
            ("unknown_key", String::new()),
        ] {
            let world = World::new().await;
            let recorder = PrometheusBuilder::new().build_recorder();
            let _metering = metrics::set_default_local_recorder(&recorder);
            let body = if body.is_empty() { created(&world, "memory", "staging/of/nobody") } else { body };

            receive_all(&world, vec![body]).await;

            assert!(world.queue.waiting().is_empty(), "{disposition}");
            assert!(counted(&recorder.handle(), disposition), "{disposition}");
        }
    }

    #[tokio::test]
    async fn a_notice_of_another_bucket_is_dropped_although_its_key_is_one_of_ours() {
        let world = World::new().await;
        let upload = world.issued().await;
        let recorder = PrometheusBuilder::new().build_recorder();
        let _metering = metrics::set_default_local_recorder(&recorder);

        receive_all(&world, vec![created(&world, "elsewhere", &upload.object_key)]).await;

        assert!(world.queue.waiting().is_empty());
        assert!(counted(&recorder.handle(), "unknown_key"));
    }

    #[tokio::test]
    async fn a_batch_that_the_queue_refuses_is_kept_until_it_takes_it() {
        let world = World::new().await;
        let upload = world.issued().await;
        world.queue.refuse(2);

        receive_all(&world, vec![landed(&world, &upload)]).await;

        assert_eq!(world.queue.waiting(), [RecordArrival::KIND]);
    }

    #[tokio::test]
    async fn a_batch_that_the_queue_refuses_does_not_hold_up_the_end() {
        let world = World::new().await;
        let upload = world.issued().await;
        world.queue.refuse(usize::MAX);
        let (inbox, stop) = (inbox(vec![landed(&world, &upload)]), CancellationToken::new());

        let mut receiving = Box::pin(receive(world.ctx.clone(), inbox, stop.clone()));
        assert!(futures_util::poll!(&mut receiving).is_pending(), "it waits to try again");
        stop.cancel();

        receiving.await;
        assert!(world.queue.waiting().is_empty());
    }
}
