//! Each operation by the SDK that the inbox on SQS uses.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata as _;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry as Change, DeleteMessageBatchRequestEntry as Deletion, Message,
    QueueAttributeName,
};
use longshore_jobs::model::notice::{Event, parse};

use super::{PLAIN, Served};

async fn receive(sqs: &Client, served: &Served, most: i32) -> Vec<Message> {
    let asked = sqs.receive_message().queue_url(served.queue_url()).max_number_of_messages(most).wait_time_seconds(10);
    asked.send().await.unwrap().messages.unwrap_or_default()
}

async fn send(sqs: &Client, served: &Served, body: &str) {
    sqs.send_message().queue_url(served.queue_url()).message_body(body).send().await.unwrap();
}

fn receipt(message: &Message) -> &str {
    message.receipt_handle().unwrap()
}

#[tokio::test]
async fn whatever_lands_in_staging_is_told_of_and_nothing_else() {
    let served = Served::start(PLAIN).await;
    let (s3, sqs) = (served.s3().await, served.sqs().await);
    let copy = s3.copy_object().bucket("b").key("staging/copy").copy_source("b/staging/a%20%2B%C3%A9");
    for key in ["blobs/x", "staging/a +é"] {
        s3.put_object().bucket("b").key(key).body(b"bytes".to_vec().into()).send().await.unwrap();
    }
    copy.send().await.unwrap();

    let received = receive(&sqs, &served, 10).await;

    let [message] = &received[..] else { panic!("{received:?}") };
    let events = parse(message.body().unwrap()).unwrap();
    let [Event::Created(arrival)] = &events[..] else { panic!("{events:?}") };
    let head = s3.head_object().bucket("b").key("staging/a +é").send().await.unwrap();
    assert_eq!((arrival.bucket.as_str(), arrival.key.as_str(), arrival.size), ("b", "staging/a +é", Some(5)));
    assert_eq!(arrival.etag.as_deref(), head.e_tag().map(|etag| etag.trim_matches('"')));
    assert!(arrival.sequencer.is_some());
    assert!(message.body().unwrap().contains("\"ObjectCreated:Put\""));
    assert!(message.body().unwrap().contains("\"staging/a+%2B%C3%A9\""), "the key is form-encoded");
}

#[tokio::test]
async fn a_receiver_that_waits_is_answered_when_a_message_comes() {
    let served = Served::start(PLAIN).await;
    let sqs = served.sqs().await;
    let (received, ()) = tokio::join!(receive(&sqs, &served, 1), send(&sqs, &served, "hello"));
    assert_eq!(received[0].body(), Some("hello"));
    assert_eq!(received[0].md5_of_body(), Some("5d41402abc4b2a76b9719d911017c592"));
}

#[tokio::test]
async fn a_message_comes_back_unless_it_is_deleted() {
    let served = Served::start(PLAIN).await;
    let sqs = served.sqs().await;
    send(&sqs, &served, "one").await;
    let asked = sqs.receive_message().queue_url(served.queue_url()).visibility_timeout(1);
    let first = asked.send().await.unwrap().messages.unwrap();

    let again = receive(&sqs, &served, 1).await;

    assert_eq!(again[0].message_id(), first[0].message_id());
    let delete = |handle: &str| sqs.delete_message().queue_url(served.queue_url()).receipt_handle(handle).send();
    delete(receipt(&again[0])).await.unwrap();
    let refused = delete("nonsense").await.unwrap_err();
    assert_eq!(refused.into_service_error().code(), Some("ReceiptHandleIsInvalid"));
    let asked = sqs.get_queue_attributes().queue_url(served.queue_url()).attribute_names(QueueAttributeName::All);
    let attributes = asked.send().await.unwrap().attributes.unwrap();
    assert_eq!(attributes[&QueueAttributeName::ApproximateNumberOfMessages], "0");
    assert_eq!(attributes[&QueueAttributeName::ApproximateNumberOfMessagesNotVisible], "0");
}

#[tokio::test]
async fn a_batch_of_deletions_tells_the_failures_one_by_one() {
    let served = Served::start(PLAIN).await;
    let sqs = served.sqs().await;
    send(&sqs, &served, "one").await;
    let received = receive(&sqs, &served, 10).await;
    let entry = |id: &str, handle: &str| Deletion::builder().id(id).receipt_handle(handle).build().unwrap();

    let asked = sqs.delete_message_batch().queue_url(served.queue_url());
    let asked = asked.entries(entry("good", receipt(&received[0]))).entries(entry("bad", "nonsense"));
    let answer = asked.send().await.unwrap();

    assert_eq!(answer.successful().iter().map(|entry| entry.id()).collect::<Vec<_>>(), ["good"]);
    assert_eq!(answer.failed().iter().map(|entry| entry.id()).collect::<Vec<_>>(), ["bad"]);
}

#[tokio::test]
async fn visibility_is_changed_one_by_one_and_together() {
    let served = Served::start(PLAIN).await;
    let sqs = served.sqs().await;
    send(&sqs, &served, "one").await;
    let first = receive(&sqs, &served, 1).await;
    let change = |handle: &str| {
        sqs.change_message_visibility()
            .queue_url(served.queue_url())
            .receipt_handle(handle)
            .visibility_timeout(0)
            .send()
    };
    change(receipt(&first[0])).await.unwrap();

    let second = receive(&sqs, &served, 1).await;
    let entry = Change::builder().id("x").receipt_handle(receipt(&second[0])).visibility_timeout(0).build().unwrap();
    let asked = sqs.change_message_visibility_batch().queue_url(served.queue_url()).entries(entry);
    assert_eq!(asked.send().await.unwrap().successful().len(), 1);

    assert_eq!(receive(&sqs, &served, 1).await.len(), 1);
    let refused = change(receipt(&first[0])).await.unwrap_err();
    assert_eq!(refused.into_service_error().code(), Some("AWS.SimpleQueueService.MessageNotInflight"));
}

#[tokio::test]
async fn the_one_queue_is_found_by_its_name_and_others_are_not() {
    let served = Served::start(PLAIN).await;
    let sqs = served.sqs().await;
    let found = sqs.get_queue_url().queue_name("notices").send().await.unwrap();
    assert_eq!(found.queue_url(), Some(served.queue_url().as_str()));

    let missing = sqs.get_queue_url().queue_name("other").send().await.unwrap_err();
    assert!(missing.into_service_error().is_queue_does_not_exist());
    let asked = sqs.receive_message().queue_url(format!("{}/000000000000/other", served.url));
    assert!(asked.send().await.unwrap_err().into_service_error().is_queue_does_not_exist());
}

#[tokio::test]
async fn messages_reach_several_receivers_each_once() {
    let served = Served::start(PLAIN).await;
    let sqs = served.sqs().await;
    let sending = async {
        for number in 0..200 {
            send(&sqs, &served, &number.to_string()).await;
        }
    };
    let receiver = async || {
        let mut bodies = Vec::new();
        loop {
            let asked = sqs.receive_message().queue_url(served.queue_url()).max_number_of_messages(10);
            let received = asked.wait_time_seconds(1).send().await.unwrap().messages.unwrap_or_default();
            if received.is_empty() {
                return bodies;
            }
            bodies.extend(received.into_iter().map(|message| message.body.unwrap().parse::<u32>().unwrap()));
        }
    };
    let both = async { tokio::join!(receiver(), receiver()) };
    let ((), (one, other)) = Box::pin(async { tokio::join!(sending, both) }).await;
    let mut all = [one, other].concat();
    all.sort_unstable();
    assert_eq!(all, (0..200).collect::<Vec<_>>());
}
