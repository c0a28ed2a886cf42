//! A server in this process that speaks SQS's JSON protocol, as much of it as the inbox does, and fails at our word.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::*;

/// What the server answers next to an operation, and what it was asked. Without an answer everything succeeds.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<(u16, Value)>>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Script {
    /// For each request the receipts that it names.
    fn receipts(&self) -> Vec<Vec<String>> {
        let named = |body: &Value| {
            let entries = body["Entries"].as_array().cloned().unwrap_or_default();
            entries.iter().map(|entry| entry["ReceiptHandle"].as_str().unwrap().to_owned()).collect()
        };
        self.asked.lock().unwrap().iter().map(|(_, body)| named(body)).collect()
    }

    fn operations(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(op, _)| op.clone()).collect()
    }
}

async fn answer(State(script): State<Arc<Script>>, headers: HeaderMap, body: Bytes) -> (StatusCode, Json<Value>) {
    let target = headers["x-amz-target"].to_str().unwrap();
    script
        .asked
        .lock()
        .unwrap()
        .push((target.trim_start_matches("AmazonSQS.").to_owned(), serde_json::from_slice(&body).unwrap()));
    let next = script.answers.lock().unwrap().pop_front();
    let (status, answer) = next.unwrap_or((200, json!({ "Successful": [], "Failed": [] })));
    (StatusCode::from_u16(status).unwrap(), Json(answer))
}

/// An inbox on a server with this script.
async fn scripted(answers: Vec<(u16, Value)>) -> (SqsInbox, Arc<Script>) {
    let script = Arc::new(Script { answers: Mutex::new(answers.into()), ..Script::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/1/notices", listener.local_addr().unwrap());
    let app = Router::new().fallback(post(answer)).with_state(Arc::clone(&script));
    tokio::spawn(axum::serve(listener, app).into_future());
    (inbox(Options::new(url)).await, script)
}

/// The answer to a batch of which these entries have failed, each told whether by our fault.
fn failed(entries: &[(usize, bool)]) -> (u16, Value) {
    let entry = |&(at, ours): &(usize, bool)| {
        let code = if ours { "ReceiptHandleIsInvalid" } else { "InternalError" };
        json!({ "Id": at.to_string(), "SenderFault": ours, "Code": code, "Message": "no" })
    };
    (200, json!({ "Successful": [], "Failed": entries.iter().map(entry).collect::<Vec<_>>() }))
}

fn refusal(status: u16, code: &str) -> (u16, Value) {
    (status, json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": "because" }))
}

fn messages(count: usize) -> Vec<Message> {
    (0..count).map(|at| Message { body: String::new(), receipt: format!("r{at}") }).collect()
}

#[tokio::test]
async fn entries_that_failed_for_a_passing_reason_are_deleted_again_and_those_alone() {
    let (inbox, script) = scripted(vec![failed(&[(1, false), (2, false)]), failed(&[(2, false)])]).await;

    inbox.acknowledge(messages(3)).await.unwrap();

    assert_eq!(script.receipts(), [vec!["r0", "r1", "r2"], vec!["r1", "r2"], vec!["r2"]]);
}

#[tokio::test]
async fn an_entry_that_never_will_do_is_left_at_once_and_told() {
    let (inbox, script) = scripted(vec![failed(&[(0, true), (1, false)])]).await;

    let error = inbox.acknowledge(messages(3)).await.unwrap_err();

    assert_eq!(error.to_string(), "delete messages failed for 1 messages, for the first with ReceiptHandleIsInvalid");
    assert!(!error.stays());
    assert_eq!(script.receipts(), [vec!["r0", "r1", "r2"], vec!["r1"]]);
}

#[tokio::test]
async fn an_entry_that_goes_on_failing_is_left_after_some_attempts() {
    let (inbox, script) = scripted(vec![failed(&[(1, false)]); 9]).await;

    let error = inbox.acknowledge(messages(2)).await.unwrap_err();

    assert!(matches!(error, InboxError::Partly { count: 1, .. }), "{error:?}");
    assert_eq!(script.receipts().len(), 1 + PAUSES.len());
}

#[tokio::test]
async fn one_batch_that_fails_in_part_does_not_hold_up_the_next() {
    let (inbox, script) = scripted(vec![failed(&[(3, true)])]).await;

    let error = inbox.acknowledge(messages(12)).await.unwrap_err();

    assert!(matches!(error, InboxError::Partly { count: 1, .. }), "{error:?}");
    let sizes: Vec<usize> = script.receipts().iter().map(Vec::len).collect();
    assert_eq!(sizes, [10, 2]);
}

#[tokio::test]
async fn a_refusal_is_told_from_a_failure_that_may_pass() {
    let stays: BTreeMap<&str, (u16, bool)> = BTreeMap::from([
        ("AccessDeniedException", (403, true)),
        ("InvalidSignatureException", (403, true)),
        ("QueueDoesNotExist", (400, true)),
        ("OverLimit", (403, false)),
        ("RequestThrottled", (403, false)),
        ("ThrottlingException", (400, false)),
        ("InternalFailure", (500, false)),
        ("ServiceUnavailable", (503, false)),
    ]);
    for (code, (status, stays)) in stays {
        let (inbox, script) = scripted(vec![refusal(status, code); 9]).await;

        let error = inbox.receive().await.unwrap_err();

        assert_eq!(error.stays(), stays, "{code}: {error:?}");
        let told = with_causes(&error);
        assert!(told.contains(code) && told.contains("because"), "{told}");
        assert!(!stays || script.operations() == ["ReceiveMessage"], "{code} is not asked for again at once");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure_that_may_pass() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = inbox(Options::new(format!("http://{closed}/1/notices"))).await.receive().await.unwrap_err();
    assert!(matches!(error, InboxError::Failed { .. }), "{error:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_left_to_the_queue() {
    let (inbox, script) = scripted(Vec::new()).await;
    inbox.set_aside(messages(2)).await.unwrap();
    assert!(script.operations().is_empty());
}

#[tokio::test]
async fn a_poll_asks_for_ten_and_waits_as_long_as_it_may() {
    let (inbox, script) = scripted(Vec::new()).await;

    inbox.receive().await.unwrap();

    let asked = script.asked.lock().unwrap()[0].1.clone();
    let number = |name: &str| asked[name].as_u64().unwrap();
    assert_eq!((number("MaxNumberOfMessages"), number("WaitTimeSeconds"), number("VisibilityTimeout")), (10, 20, 120));
}

#[tokio::test]
async fn a_queue_that_does_not_answer_does_not_keep_us_from_opening_it() {
    let (silent, _) = scripted(vec![refusal(403, "AccessDeniedException"); 9]).await;
    silent.look_for_dead_letters().await;
    assert!(matches!(SqsInbox::open(Options::new("notices")).await, Err(InboxError::Address { .. })));
}

#[tokio::test]
async fn a_server_that_does_not_wait_for_messages_makes_no_receiver_spin() {
    let (inbox, script) = scripted(vec![]).await;
    let (started, before) = (Instant::now(), script.operations().len());

    assert_eq!(inbox.receive().await.unwrap(), Some(Vec::new()));

    assert!(started.elapsed() >= SHORTEST_POLL);
    assert_eq!(script.operations().len(), before + 1);
}
