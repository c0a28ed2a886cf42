//! The bucket's door: notices come in, arrivals go on the queue.
//!
//! Receive, hand over, then acknowledge: nothing is hashed while a message is out. A message that says nothing we know is
//! acknowledged and counted, since it will say no more the second time; one that cannot be read at all is set aside, which each
//! inbox does in its own way. While our own queue is away, a receiver keeps what it has and asks for no more: nothing is lost,
//! nothing spins, and no message is received so often that it is taken for poison.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use longshore_jobs::job::{Context, Lane, NewJob, with_causes};
use longshore_jobs::model::keys;
use longshore_jobs::model::notice::{self, Event, Malformed};
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::outside::QueueError;
use longshore_jobs::record_arrival::RecordArrival;
use tokio_util::sync::CancellationToken;

use crate::inbox::{Inbox, InboxError, Message};

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

/// Why notices wait.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Inbox(#[from] InboxError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Something that fails is told when that begins, when it turns into something that will not pass, and when it ends: not at
/// every attempt of every receiver.
struct Outage {
    op: &'static str,
    told: AtomicU8,
}

impl Outage {
    const PASSING: u8 = 1;
    const STAYING: u8 = 2;

    const fn new(op: &'static str) -> Self {
        Self { op, told: AtomicU8::new(0) }
    }

    fn met(&self, trouble: &Trouble) {
        metrics::counter!("longshore_inbox_failures_total", "op" => self.op).increment(1);
        let (op, error) = (self.op, with_causes(trouble));
        let stays = matches!(trouble, Trouble::Inbox(error) if error.stays());
        let now = if stays { Self::STAYING } else { Self::PASSING };
        if self.told.fetch_max(now, Ordering::Relaxed) >= now {
            tracing::debug!(op, error, "notices wait still");
        } else if stays {
            tracing::error!(op, error, "notices wait until somebody sees to it; told once");
        } else {
            tracing::warn!(op, error, "notices wait; told once");
        }
    }

    fn is_over(&self) {
        if self.told.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!(op = self.op, "notices go on");
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
    use std::sync::Mutex;

    use async_trait::async_trait;
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

    /// An inbox that gives one batch, is closed behind it, and remembers what became of the messages.
    struct Tray {
        gives: Mutex<Option<Vec<Message>>>,
        acknowledged: Mutex<Vec<String>>,
        set_aside: Mutex<Vec<String>>,
        given_back: Mutex<Vec<String>>,
    }

    impl Tray {
        fn of(batch: Vec<Message>) -> Arc<Self> {
            let [acknowledged, set_aside, given_back] = Default::default();
            Arc::new(Self { gives: Mutex::new(Some(batch)), acknowledged, set_aside, given_back })
        }
    }

    fn note(place: &Mutex<Vec<String>>, messages: Vec<Message>) -> Result<(), InboxError> {
        place.lock().unwrap().extend(messages.into_iter().map(|message| message.receipt));
        Ok(())
    }

    #[async_trait]
    impl Inbox for Tray {
        async fn receive(&self) -> Result<Option<Vec<Message>>, InboxError> {
            Ok(self.gives.lock().unwrap().take())
        }

        async fn acknowledge(&self, messages: Vec<Message>) -> Result<(), InboxError> {
            note(&self.acknowledged, messages)
        }

        async fn set_aside(&self, messages: Vec<Message>) -> Result<(), InboxError> {
            note(&self.set_aside, messages)
        }

        async fn give_back(&self, messages: Vec<Message>) -> Result<(), InboxError> {
            note(&self.given_back, messages)
        }
    }

    fn message(receipt: &str, body: &str) -> Message {
        Message { body: body.to_owned(), receipt: receipt.to_owned() }
    }

    fn refused() -> Trouble {
        InboxError::Refused { op: "receive", source: "no right to".into() }.into()
    }

    fn failed() -> Trouble {
        InboxError::Failed { op: "receive", source: "connection reset".into() }.into()
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_read_is_set_aside_and_the_others_of_its_batch_are_handed_over() {
        let world = World::new().await;
        let upload = world.issued().await;
        let good = landed(&world, &upload);
        let tray = Tray::of(vec![message("poison", "{"), message("good", &good)]);

        receive(world.ctx.clone(), tray.clone(), CancellationToken::new()).await;

        assert_eq!(world.queue.waiting(), [RecordArrival::KIND]);
        assert_eq!(*tray.acknowledged.lock().unwrap(), ["good"]);
        assert_eq!(*tray.set_aside.lock().unwrap(), ["poison"]);
    }

    #[tokio::test]
    async fn a_message_is_acknowledged_after_all_its_records_are_handed_over_and_given_back_if_they_are_not() {
        let world = World::new().await;
        let (one, two) = (world.issued().await, world.issued().await);
        let records = |upload: &Upload| {
            let notice: serde_json::Value = serde_json::from_str(&landed(&world, upload)).unwrap();
            notice["Records"][0].clone()
        };
        let both = serde_json::json!({ "Records": [records(&one), records(&two)] }).to_string();

        world.queue.refuse(usize::MAX);
        let (refused, stop) = (Tray::of(vec![message("both", &both)]), CancellationToken::new());
        let mut receiving = Box::pin(receive(world.ctx.clone(), refused.clone(), stop.clone()));
        assert!(futures_util::poll!(&mut receiving).is_pending(), "it waits to try again");
        stop.cancel();
        receiving.await;
        world.queue.refuse(0);
        let taken = Tray::of(vec![message("both", &both)]);
        receive(world.ctx.clone(), taken.clone(), CancellationToken::new()).await;

        assert_eq!(*refused.given_back.lock().unwrap(), ["both"]);
        assert!(refused.acknowledged.lock().unwrap().is_empty());
        assert_eq!(*taken.acknowledged.lock().unwrap(), ["both"]);
        assert_eq!(world.queue.waiting(), [RecordArrival::KIND; 2]);
    }

    #[tokio::test]
    async fn as_many_receive_at_once_as_the_inbox_says() {
        /// Gives nothing before three ask.
        struct Gate(tokio::sync::Barrier);

        #[async_trait]
        impl Inbox for Gate {
            fn receivers(&self) -> usize {
                3
            }

            async fn receive(&self) -> Result<Option<Vec<Message>>, InboxError> {
                self.0.wait().await;
                Ok(None)
            }

            async fn acknowledge(&self, _: Vec<Message>) -> Result<(), InboxError> {
                Ok(())
            }

            async fn give_back(&self, _: Vec<Message>) -> Result<(), InboxError> {
                Ok(())
            }
        }

        let world = World::new().await;
        receive(world.ctx.clone(), Arc::new(Gate(tokio::sync::Barrier::new(3))), CancellationToken::new()).await;
    }

    /// What is logged while it lives.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_outage_is_told_once_again_when_somebody_has_to_act_and_when_it_is_over() {
        let (log, recorder) = (Log::default(), PrometheusBuilder::new().build_recorder());
        let writer = {
            let log = log.clone();
            move || log.clone()
        };
        let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).without_time().finish();
        let (_logging, _metering) =
            (tracing::subscriber::set_default(subscriber), metrics::set_default_local_recorder(&recorder));
        let (outage, refused, failed) = (Outage::new("receive"), refused(), failed());

        for trouble in [&failed, &failed, &refused, &failed, &refused] {
            outage.met(trouble);
        }
        outage.is_over();
        outage.is_over();
        outage.met(&failed);

        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let levels: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(levels, ["WARN", "ERROR", "INFO", "WARN"], "{text}");
        assert!(text.contains("no right to") && text.contains("connection reset"), "{text}");
        let counted = recorder.handle().render();
        assert!(counted.contains("longshore_inbox_failures_total{op=\"receive\"} 6"), "{counted}");
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
