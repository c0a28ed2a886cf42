//! Each test has a queue of its own; visibility is a second, so that what comes again does so within a test.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    Event as S3Event, FilterRule, FilterRuleName, NotificationConfiguration, NotificationConfigurationFilter,
    QueueConfiguration, S3KeyFilter,
};
use longshore_jobs::job::Job as _;
use longshore_jobs::model::notice::{self, Arrival, Event};
use longshore_jobs::record_arrival::RecordArrival;
use longshore_jobs::testkit::{World, given};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::notices;

/// How long a test waits for what has to come.
const DEADLINE: Duration = Duration::from_secs(20);

/// A queue of a test's own, with a dead-letter queue behind it.
struct Queues {
    client: Client,
    server: String,
    name: String,
    url: String,
    dead_letters: String,
}

impl Queues {
    async fn make() -> Option<Self> {
        let server = given("LONGSHORE_TEST_AWS", "SQS on MiniStack")?;
        let config = aws_sdk_sqs::config::Builder::from(&sdk().await).endpoint_url(&server).build();
        let (client, name) = (Client::from_conf(config), Uuid::new_v4().simple().to_string());
        let dead = client.create_queue().queue_name(format!("{name}-dead")).send().await.unwrap();
        let dead_letters = dead.queue_url.unwrap();
        let policy = serde_json::json!({ "deadLetterTargetArn": arn(&format!("{name}-dead")), "maxReceiveCount": 2 });
        let made = client.create_queue().queue_name(&name);
        let made = made.attributes(QueueAttributeName::RedrivePolicy, policy.to_string()).send().await.unwrap();
        Some(Self { client, server, name, url: made.queue_url.unwrap(), dead_letters })
    }

    fn options(&self) -> Options {
        Options {
            endpoint: Some(self.server.parse().unwrap()),
            visibility: Duration::from_secs(1),
            receivers: 2,
            ..Options::new(&self.url)
        }
    }

    async fn send(&self, body: &str) {
        self.client.send_message().queue_url(&self.url).message_body(body).send().await.unwrap();
    }

    /// How many messages the queue has, shown or hidden.
    async fn count(&self) -> u32 {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.client.get_queue_attributes().queue_url(&self.url).set_attribute_names(Some(names.into()));
        let told: HashMap<_, _> = request.send().await.unwrap().attributes.unwrap();
        told.values().map(|number| number.parse::<u32>().unwrap()).sum()
    }

    /// The bodies that come within a long poll.
    async fn dead_bodies(&self) -> Vec<String> {
        let request = self.client.receive_message().queue_url(&self.dead_letters).wait_time_seconds(1);
        let found = request.max_number_of_messages(10).send().await.unwrap().messages.unwrap_or_default();
        found.into_iter().filter_map(|message| message.body).collect()
    }
}

fn arn(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{name}")
}

/// Messages as they come, until there are so many.
async fn receive(inbox: &SqsInbox, count: usize) -> Vec<Message> {
    let (mut found, started) = (Vec::new(), Instant::now());
    while found.len() < count {
        assert!(started.elapsed() < DEADLINE, "{} of {count} messages came", found.len());
        found.extend(inbox.receive().await.unwrap().unwrap());
    }
    found
}

/// The notice that S3 would send of this key in the bucket of [`World`].
fn landed(world: &World, key: &str) -> String {
    let arrival = Arrival { bucket: "memory".to_owned(), key: key.to_owned(), size: None, etag: None, sequencer: None };
    notice::render(&arrival, "us-east-1", world.ctx.now())
}

#[tokio::test]
async fn a_message_is_hidden_while_it_is_out_comes_again_and_is_gone_once_it_is_acknowledged() {
    let Some(queues) = Queues::make().await else { return };
    // Long enough for a slow machine to look while it is hidden.
    let hidden_for_a_while = Options { visibility: Duration::from_secs(5), ..queues.options() };
    let inbox = inbox(Options { wait: Duration::from_secs(1), ..hidden_for_a_while }).await;
    queues.send("body").await;

    let first = receive(&inbox, 1).await;
    let hidden = inbox.client.receive_message().queue_url(&queues.url).send().await.unwrap();
    let again = receive(&inbox, 1).await;
    inbox.acknowledge(again.clone()).await.unwrap();

    assert_eq!((first[0].body.as_str(), again[0].body.as_str()), ("body", "body"));
    assert!(hidden.messages.unwrap_or_default().is_empty());
    assert_eq!(queues.count().await, 0);
}

#[tokio::test]
async fn what_is_given_back_comes_again_at_once() {
    let Some(queues) = Queues::make().await else { return };
    let hidden_long = Options { visibility: Duration::from_secs(3600), ..queues.options() };
    let inbox = inbox(hidden_long).await;
    queues.send("body").await;

    let first = receive(&inbox, 1).await;
    inbox.give_back(first).await.unwrap();

    assert_eq!(receive(&inbox, 1).await[0].body, "body");
}

#[tokio::test]
async fn more_messages_than_a_batch_holds_are_acknowledged_in_several() {
    let Some(queues) = Queues::make().await else { return };
    let inbox = inbox(Options { visibility: Duration::from_secs(60), ..queues.options() }).await;
    for number in 0..23 {
        queues.send(&number.to_string()).await;
    }

    let all = receive(&inbox, 23).await;
    inbox.acknowledge(all).await.unwrap();

    assert_eq!(queues.count().await, 0);
}

#[tokio::test]
async fn an_object_that_lands_in_staging_is_told_and_one_elsewhere_is_not() {
    let Some(queues) = Queues::make().await else { return };
    let s3 = bucket_that_tells(&queues).await;
    let inbox = inbox(queues.options()).await;

    for key in ["blobs/kept", "staging/a b+ü.txt"] {
        s3.put_object().bucket(&queues.name).key(key).body(ByteStream::from_static(b"bytes")).send().await.unwrap();
    }

    let mut keys = Vec::new();
    let started = Instant::now();
    while keys.is_empty() {
        assert!(started.elapsed() < DEADLINE, "no notice came");
        let messages = inbox.receive().await.unwrap().unwrap();
        for event in messages.iter().flat_map(|message| notice::parse(&message.body).unwrap()) {
            match event {
                Event::Created(arrival) => keys.push((arrival.bucket, arrival.key, arrival.size)),
                Event::Test => {}
                Event::Other(name) => panic!("{name}"),
            }
        }
        inbox.acknowledge(messages).await.unwrap();
    }
    assert_eq!(keys, [(queues.name.clone(), "staging/a b+ü.txt".to_owned(), Some(5))]);
    assert_eq!(queues.count().await, 0);
}

/// With the queue policy of `ops/terraform`.
async fn bucket_that_tells(queues: &Queues) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::config::Builder::from(&sdk().await).endpoint_url(&queues.server).force_path_style(true);
    let s3 = aws_sdk_s3::Client::from_conf(config.build());
    s3.create_bucket().bucket(&queues.name).send().await.unwrap();
    let allowed = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "Service": "s3.amazonaws.com" }, "Action": "sqs:SendMessage",
        "Resource": arn(&queues.name),
        "Condition": {
            "ArnEquals": { "aws:SourceArn": format!("arn:aws:s3:::{}", queues.name) },
            "StringEquals": { "aws:SourceAccount": "000000000000" },
        },
    }] });
    let request = queues.client.set_queue_attributes().queue_url(&queues.url);
    request.attributes(QueueAttributeName::Policy, allowed.to_string()).send().await.unwrap();
    let staging = FilterRule::builder().name(FilterRuleName::Prefix).value("staging/").build();
    let filter = NotificationConfigurationFilter::builder().key(S3KeyFilter::builder().filter_rules(staging).build());
    let queue = QueueConfiguration::builder().queue_arn(arn(&queues.name)).events(S3Event::S3ObjectCreated);
    let queue = queue.filter(filter.build()).build().unwrap();
    let configuration = NotificationConfiguration::builder().queue_configurations(queue).build();
    let request = s3.put_bucket_notification_configuration().bucket(&queues.name);
    request.notification_configuration(configuration).send().await.unwrap();
    s3
}

#[tokio::test]
async fn what_cannot_be_read_ends_in_the_dead_letter_queue_and_all_else_on_ours() {
    let Some(queues) = Queues::make().await else { return };
    let (world, stop) = (World::new().await, CancellationToken::new());
    let uploads = [world.issued().await, world.issued().await];
    for upload in &uploads {
        queues.send(&landed(&world, &upload.object_key)).await;
    }
    for other in ["poison", r#"{"Event": "s3:TestEvent"}"#, &landed(&world, "staging/of/nobody")] {
        queues.send(other).await;
    }

    let inbox = Arc::new(inbox(Options { wait: Duration::from_secs(1), ..queues.options() }).await);
    let receiving = tokio::spawn(notices::receive(world.ctx.clone(), inbox, stop.clone()));
    let (mut dead, started) = (Vec::new(), Instant::now());
    while dead.is_empty() {
        assert!(started.elapsed() < DEADLINE, "nothing has become a dead letter");
        dead = queues.dead_bodies().await;
    }
    stop.cancel();
    receiving.await.unwrap();

    assert_eq!(dead, ["poison"]);
    assert_eq!(queues.count().await, 0);
    assert_eq!(world.queue.waiting(), [RecordArrival::KIND; 2]);
}

#[tokio::test]
async fn a_long_poll_does_not_hold_up_the_end_and_what_comes_then_is_not_lost() {
    let Some(queues) = Queues::make().await else { return };
    let (world, stop) = (World::new().await, CancellationToken::new());
    // One receiver: the server goes on with a poll that was broken off, and each takes the message once.
    let inbox = Arc::new(inbox(Options { receivers: 1, ..queues.options() }).await);
    let mut receiving = Box::pin(notices::receive(world.ctx.clone(), inbox.clone(), stop.clone()));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut receiving).await;
    assert!(early.is_err(), "it polls");

    let started = Instant::now();
    stop.cancel();
    receiving.await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    queues.send("late").await;
    assert_eq!(receive(&inbox, 1).await[0].body, "late");
}

#[tokio::test]
async fn what_the_queue_does_not_take_before_the_end_is_there_for_the_next_start() {
    let Some(queues) = Queues::make().await else { return };
    let (world, stop) = (World::new().await, CancellationToken::new());
    let upload = world.issued().await;
    let body = landed(&world, &upload.object_key);
    queues.send(&body).await;
    world.queue.refuse(usize::MAX);
    let inbox = Arc::new(inbox(Options { visibility: Duration::from_secs(3600), ..queues.options() }).await);

    let mut receiving = Box::pin(notices::receive(world.ctx.clone(), inbox.clone(), stop.clone()));
    let held = tokio::time::timeout(Duration::from_secs(1), &mut receiving).await;
    assert!(held.is_err(), "it tries again");
    stop.cancel();
    receiving.await;

    assert_eq!(receive(&inbox, 1).await[0].body, body);
}

#[tokio::test]
async fn a_queue_tells_whether_it_has_a_place_for_dead_letters() {
    let Some(queues) = Queues::make().await else { return };
    let without = Options { queue_url: queues.dead_letters.clone(), ..queues.options() };

    assert!(inbox(queues.options()).await.redrive_policy().await.unwrap().unwrap().contains("maxReceiveCount"));
    assert_eq!(inbox(without).await.redrive_policy().await.unwrap(), None);
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_a_refusal_that_names_the_cause() {
    let Some(queues) = Queues::make().await else { return };
    let missing = format!("{}-missing", queues.url);

    let error = inbox(Options { queue_url: missing, ..queues.options() }).await.receive().await.unwrap_err();

    assert!(error.stays(), "{error:?}");
    let told = with_causes(&error);
    assert!(told.contains("receive messages was refused") && told.contains("QueueDoesNotExist"), "{told}");
}
