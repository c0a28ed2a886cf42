//! SQS by its JSON protocol: one queue, standard, without a dead-letter queue.
//!
//! Source: "Amazon SQS API Reference"; names, limits and errors as there.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::memory::Memory;
use super::messages::{Depth, Message, md5_of};
use super::{Cloud, QUEUE_PATH};

/// Names the operation.
pub(super) const TARGET: &str = "x-amz-target";
/// More than ten messages of the largest size.
const MOST_BODY: u64 = 4 << 20;
/// How long a message is hidden unless its receiver says otherwise, in seconds.
const VISIBILITY: u64 = 30;

/// A refusal, by the name that SQS has for it.
struct Fault {
    kind: &'static str,
    message: String,
}

impl Fault {
    fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let Self { kind, message } = self;
        // Its name in the older protocol, which the SDKs still tell errors by.
        let older = match kind {
            "QueueDoesNotExist" => "AWS.SimpleQueueService.NonExistentQueue",
            "MessageNotInflight" => "AWS.SimpleQueueService.MessageNotInflight",
            "TooManyEntriesInBatchRequest" => "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            same => same,
        };
        let answer = json!({ "__type": format!("com.amazonaws.sqs#{kind}"), "message": message });
        let headers = [("x-amzn-query-error", format!("{older};Sender"))];
        (headers, with_json(StatusCode::BAD_REQUEST, &answer)).into_response()
    }
}

fn with_json(status: StatusCode, answer: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], answer.to_string()).into_response()
}

/// Answers one request.
pub(super) async fn answer(cloud: &Arc<Cloud>, request: Request) -> Response {
    match operate(cloud, request).await {
        Ok(answer) => with_json(StatusCode::OK, &answer),
        Err(fault) => {
            tracing::debug!(kind = fault.kind, message = fault.message, "refused by the light SQS");
            fault.into_response()
        }
    }
}

async fn operate(cloud: &Cloud, request: Request) -> Result<Value, Fault> {
    let (parts, body) = request.into_parts();
    let target = parts.headers.get(TARGET).and_then(|target| target.to_str().ok()).unwrap_or_default();
    let body = Memory::new(MOST_BODY).collect(&parts.headers, body).await;
    let body = body.map_err(|fault| Fault::new("InvalidMessageContents", fault.to_string()))?;
    match target.strip_prefix("AmazonSQS.").unwrap_or_default() {
        "ReceiveMessage" => receive(cloud, read(&body)?).await,
        "DeleteMessage" => delete(cloud, &read(&body)?),
        "DeleteMessageBatch" => delete_batch(cloud, &read(&body)?),
        "ChangeMessageVisibility" => change_visibility(cloud, &read(&body)?),
        "ChangeMessageVisibilityBatch" => change_visibility_batch(cloud, &read(&body)?),
        "SendMessage" => send(cloud, read(&body)?),
        "GetQueueAttributes" => attributes(cloud, &read(&body)?),
        "GetQueueUrl" => url(cloud, &read(&body)?),
        _ => Err(Fault::new("UnsupportedOperation", format!("the light server does not know {target}"))),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| Fault::new("InvalidParameterValue", error.to_string()))
}

/// Fields that are not listed are not needed here.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Receive {
    queue_url: String,
    #[serde(default)]
    max_number_of_messages: Option<usize>,
    #[serde(default)]
    wait_time_seconds: u64,
    #[serde(default)]
    visibility_timeout: Option<u64>,
}

async fn receive(cloud: &Cloud, asked: Receive) -> Result<Value, Fault> {
    expect_queue(&asked.queue_url)?;
    let most = asked.max_number_of_messages.unwrap_or(1);
    if !(1..=10).contains(&most) || asked.wait_time_seconds > 20 {
        return Err(Fault::new("InvalidParameterValue", "1 to 10 messages, 0 to 20 seconds"));
    }
    let visibility = seconds(asked.visibility_timeout.unwrap_or(VISIBILITY))?;
    let received = cloud.messages.receive(most, Duration::from_secs(asked.wait_time_seconds), visibility).await;
    let shown: Vec<_> = received.iter().map(|(receipt, message)| show(*receipt, message)).collect();
    // As SQS has it: without messages there is no list of them.
    Ok(if shown.is_empty() { json!({}) } else { json!({ "Messages": shown }) })
}

fn show(receipt: u64, message: &Message) -> Value {
    json!({
        "MessageId": message.id,
        "ReceiptHandle": format!("receipt-{receipt}"),
        "Body": message.body,
        "MD5OfBody": md5_of(&message.body),
        "Attributes": { "ApproximateReceiveCount": message.received.to_string() },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfMessage {
    queue_url: String,
    receipt_handle: String,
    #[serde(default)]
    visibility_timeout: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfMessages {
    queue_url: String,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    id: String,
    receipt_handle: String,
    #[serde(default)]
    visibility_timeout: Option<u64>,
}

fn delete(cloud: &Cloud, asked: &OfMessage) -> Result<Value, Fault> {
    expect_queue(&asked.queue_url)?;
    cloud.messages.delete(receipt(&asked.receipt_handle)?);
    Ok(json!({}))
}

fn delete_batch(cloud: &Cloud, asked: &OfMessages) -> Result<Value, Fault> {
    each(asked, |entry| {
        cloud.messages.delete(receipt(&entry.receipt_handle)?);
        Ok(())
    })
}

fn change_visibility(cloud: &Cloud, asked: &OfMessage) -> Result<Value, Fault> {
    expect_queue(&asked.queue_url)?;
    change(cloud, &asked.receipt_handle, asked.visibility_timeout)?;
    Ok(json!({}))
}

fn change_visibility_batch(cloud: &Cloud, asked: &OfMessages) -> Result<Value, Fault> {
    each(asked, |entry| change(cloud, &entry.receipt_handle, entry.visibility_timeout))
}

fn change(cloud: &Cloud, handle: &str, visibility: Option<u64>) -> Result<(), Fault> {
    let visibility = visibility.ok_or_else(|| Fault::new("MissingParameter", "VisibilityTimeout is missing"))?;
    if cloud.messages.change_visibility(receipt(handle)?, seconds(visibility)?) {
        return Ok(());
    }
    Err(Fault::new("MessageNotInflight", "the message is not handed out"))
}

/// One answer for all entries: 200, with the failures of single ones in it.
fn each(asked: &OfMessages, act: impl Fn(&Entry) -> Result<(), Fault>) -> Result<Value, Fault> {
    expect_queue(&asked.queue_url)?;
    if !(1..=10).contains(&asked.entries.len()) {
        return Err(Fault::new("TooManyEntriesInBatchRequest", "1 to 10 entries"));
    }
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in &asked.entries {
        match act(entry) {
            Ok(()) => successful.push(json!({ "Id": entry.id })),
            Err(Fault { kind, message }) => {
                failed.push(json!({ "Id": entry.id, "SenderFault": true, "Code": kind, "Message": message }));
            }
        }
    }
    Ok(json!({ "Successful": successful, "Failed": failed }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Send {
    queue_url: String,
    message_body: String,
}

fn send(cloud: &Cloud, asked: Send) -> Result<Value, Fault> {
    expect_queue(&asked.queue_url)?;
    let md5 = md5_of(&asked.message_body);
    let id = cloud.messages.send(asked.message_body, None);
    Ok(json!({ "MessageId": id, "MD5OfMessageBody": md5 }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfQueue {
    queue_url: String,
}

fn attributes(cloud: &Cloud, asked: &OfQueue) -> Result<Value, Fault> {
    expect_queue(&asked.queue_url)?;
    let Depth { waiting, handed_out } = cloud.messages.depth();
    Ok(json!({ "Attributes": {
        "QueueArn": "arn:aws:sqs:us-east-1:000000000000:notices",
        "ApproximateNumberOfMessages": waiting.to_string(),
        "ApproximateNumberOfMessagesNotVisible": handed_out.to_string(),
        "ApproximateNumberOfMessagesDelayed": "0",
        "VisibilityTimeout": VISIBILITY.to_string(),
    } }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    queue_name: String,
}

fn url(cloud: &Cloud, asked: &Named) -> Result<Value, Fault> {
    let url = format!("{}{QUEUE_PATH}", cloud.url);
    if url.ends_with(&format!("/{}", asked.queue_name)) { Ok(json!({ "QueueUrl": url })) } else { Err(no_queue()) }
}

/// A URL may name this machine in any way; its path has to be that of the queue.
fn expect_queue(url: &str) -> Result<(), Fault> {
    if url.ends_with(QUEUE_PATH) { Ok(()) } else { Err(no_queue()) }
}

fn no_queue() -> Fault {
    Fault::new("QueueDoesNotExist", format!("the one queue is {QUEUE_PATH}"))
}

fn receipt(handle: &str) -> Result<u64, Fault> {
    let number = handle.strip_prefix("receipt-").and_then(|number| number.parse().ok());
    number.ok_or_else(|| Fault::new("ReceiptHandleIsInvalid", "it is none of this queue's"))
}

fn seconds(visibility: u64) -> Result<Duration, Fault> {
    if visibility > 43_200 {
        return Err(Fault::new("InvalidParameterValue", "VisibilityTimeout is 0 to 43200"));
    }
    Ok(Duration::from_secs(visibility))
}
