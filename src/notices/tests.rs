//! The door with inboxes that remember what became of their messages.

use std::sync::Mutex;

use async_trait::async_trait;
use longshore_jobs::job::Job as _;
use longshore_jobs::model::Upload;
use longshore_jobs::model::notice::Arrival;
use longshore_jobs::testkit::World;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::mpsc;

use super::*;
use crate::inbox::{InboxError, LocalInbox};

fn created(world: &World, bucket: &str, key: &str) -> String {
    let arrival = Arrival { bucket: bucket.to_owned(), key: key.to_owned(), size: None, etag: None, sequencer: None };
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
async fn a_notice_of_a_batchs_object_lets_it_in() {
    let world = World::new().await;
    let batch = world.prefix_batch(10).await;
    let key = world.land_in(&batch, "a b/ü+%.txt", b"bytes");

    let elsewhere = created(&world, "another", &key);
    receive_all(&world, vec![created(&world, "memory", &key), created(&world, "memory", &key), elsewhere]).await;

    assert_eq!(world.queue.waiting(), [AdmitObject::KIND]);
    world.drain().await;
    let done = longshore_jobs::model::Status::Done;
    assert_eq!(world.files_of(&batch).await, [("a b/ü+%.txt".to_owned(), done, None)]);
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
