//! A fleet under fire: two intakes and three workers on PostgreSQL, Redis, S3 and SQS, while workers are killed, servers fall
//! and notices go astray. However it went, each upload has its one right end, and the books agree.
//!
//! The seed is fixed; `LONGSHORE_FLEET_UPLOADS` sets the length (`ops/test --fleet 2000`).

mod cloud;
mod processes;

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::engines::Engines;
use crate::server::{TOKEN, client};
use cloud::Mischief;
use processes::Fleet;

const SEED: u64 = 20_261_122;
/// How many uploads are under way at once.
const AT_ONCE: usize = 96;
/// Over how long the uploads are begun at least.
const SHORTEST: Duration = Duration::from_secs(12);
/// How long any of them may take to its end, with all that falls meanwhile.
const PATIENCE: Duration = Duration::from_secs(150);

/// How many uploads there are.
fn length() -> usize {
    env::var("LONGSHORE_FLEET_UPLOADS").map_or(150, |text| text.parse().expect("LONGSHORE_FLEET_UPLOADS is a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_upload_of_a_fleet_under_fire_has_its_one_right_end() {
    if !Engines::Redis.are_there() {
        return;
    }
    let started = Instant::now();
    let plans = Arc::new(plans(length()));
    let fleet = Arc::new(Fleet::start().await);
    let mischief = Mischief::start(fleet.cloud(), SEED);
    let start = tokio::time::Instant::now();
    let finished = Arc::new(AtomicUsize::new(0));
    let fire = tokio::spawn(processes::fire(Arc::clone(&fleet), Arc::clone(&finished), plans.len(), SEED));

    let ids: Vec<String> = stream::iter(0..plans.len())
        .map(|number| {
            let (fleet, plans, finished) = (Arc::clone(&fleet), Arc::clone(&plans), Arc::clone(&finished));
            async move {
                tokio::time::sleep_until(start + pace(plans.len()) * u32::try_from(number).unwrap()).await;
                let id = carry_out(&fleet, number, &plans[number]).await;
                finished.fetch_add(1, Ordering::Relaxed);
                id
            }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let sent = started.elapsed();
    let fallen = fire.await.unwrap();
    fallen.check(plans.len());

    for (plan, id) in plans.iter().zip(&ids) {
        check_end(&fleet, plan, id).await;
    }
    check_books(&fleet, &plans).await;
    fleet.staging_is_empty().await;
    let astray = mischief.end().await;
    assert!(astray.dropped > 0, "no notice was lost: {astray}");
    eprintln!(
        "fleet: {} uploads, sent in {sent:.1?}, all at their ends after {:.1?}; {fallen}; {}",
        plans.len(),
        started.elapsed(),
        astray
    );
}

/// The time from one upload's start to the next: short runs are spread out, so that all falls find uploads on their way.
fn pace(uploads: usize) -> Duration {
    SHORTEST / u32::try_from(uploads.max(1)).unwrap()
}

/// What is to happen to an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Course {
    /// The client tells by a callback too.
    Told,
    /// Only the bucket tells.
    Posted,
    /// The form is posted twice.
    Replayed,
    /// Other bytes come than the hash that was declared.
    Lied,
    /// Nothing ever comes.
    Silent,
    /// It is cancelled before anything comes.
    Cancelled,
}

struct Plan {
    course: Course,
    bytes: Vec<u8>,
}

fn plans(count: usize) -> Vec<Plan> {
    let mut random = StdRng::seed_from_u64(SEED);
    let plan = |number: usize| {
        let course = match random.random_range(0..100) {
            0..40 => Course::Told,
            40..80 => Course::Posted,
            80..88 => Course::Replayed,
            88..92 => Course::Lied,
            92..96 => Course::Silent,
            _ => Course::Cancelled,
        };
        // A fifth brings bytes that others bring too.
        let content = if random.random_range(0..5) == 0 { random.random_range(0..20) } else { number + 1_000 };
        Plan { course, bytes: format!("content {content} ").repeat(40).into_bytes() }
    };
    (0..count).map(plan).collect()
}

fn hash_of(bytes: &[u8]) -> String {
    format!("sha256-{}", hex::encode(Sha256::digest(bytes)))
}

/// Does what the client of a plan does, again and again where the fleet cannot answer; returns the upload's id.
async fn carry_out(fleet: &Fleet, number: usize, plan: &Plan) -> String {
    let mut body = json!({ "filename": format!("{number:05}.bin"), "ref": format!("fleet-{number}") });
    if plan.course == Course::Lied {
        body["sha256"] = json!(hash_of(format!("promise {number}").as_bytes()));
    }
    let upload = ask(fleet, Method::POST, "/api/uploads", Some(&body)).await;
    let id = upload["id"].as_str().unwrap().to_owned();
    match plan.course {
        Course::Silent => {}
        Course::Cancelled => drop(ask(fleet, Method::DELETE, &format!("/api/uploads/{id}"), None).await),
        Course::Posted | Course::Lied => post(fleet, upload, &plan.bytes).await,
        Course::Told => {
            post(fleet, upload, &plan.bytes).await;
            ask(fleet, Method::POST, &format!("/api/uploads/{id}/callback"), None).await;
        }
        Course::Replayed => {
            post(fleet, upload.clone(), &plan.bytes).await;
            // It may be refused by now; then it has changed nothing either.
            let _refused_or_not = try_post(&upload, &plan.bytes).await;
        }
    }
    id
}

/// The upload in the answer of a route, asked of one intake after the other until one can answer.
async fn ask(fleet: &Fleet, method: Method, path: &str, body: Option<&Value>) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let request = client().request(method.clone(), format!("{}{path}", fleet.intake())).bearer_auth(TOKEN);
        let request = match body {
            Some(body) => request.json(body),
            None => request.json(&json!({})),
        };
        let told = match request.send().await {
            Ok(answer) if answer.status().is_success() => match answer.json::<Value>().await {
                Ok(answer) => return answer["uploads"][0].clone(),
                Err(error) => error.to_string(),
            },
            Ok(answer) => {
                let status = answer.status();
                let text = answer.text().await.unwrap_or_default();
                assert!(status.is_server_error(), "{method} {path}: {status} {text}");
                text
            }
            Err(error) => error.to_string(),
        };
        assert!(Instant::now() < deadline, "{method} {path} was never answered: {told}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Posts the form until the bucket has taken it, with a fresh policy where the old one has ended or is not there yet.
async fn post(fleet: &Fleet, mut upload: Value, bytes: &[u8]) {
    let (id, deadline) = (upload["id"].as_str().unwrap().to_owned(), Instant::now() + PATIENCE);
    loop {
        let answer = if upload["upload"].is_object() { try_post(&upload, bytes).await } else { None };
        match answer {
            Some(status) if status.is_success() => return,
            // No policy yet, or it has ended: look again, and have it renewed where it was refused.
            Some(StatusCode::FORBIDDEN) => {
                upload = ask(fleet, Method::POST, &format!("/api/uploads/{id}/policy"), None).await;
            }
            _ => upload = ask(fleet, Method::GET, &format!("/api/uploads/{id}"), None).await,
        }
        assert!(Instant::now() < deadline, "the bucket never took the form of {upload}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The bucket's answer; `None` when there was none.
async fn try_post(upload: &Value, bytes: &[u8]) -> Option<StatusCode> {
    let fields = upload["upload"]["fields"].as_object()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let form =
        fields.iter().fold(reqwest::multipart::Form::new(), |form, (name, value)| form.text(name.clone(), text(value)));
    let file = reqwest::multipart::Part::bytes(bytes.to_vec()).file_name("file");
    let request = client().post(text(&upload["upload"]["url"])).multipart(form.part("file", file));
    request.send().await.ok().map(|answer| answer.status())
}

async fn check_end(fleet: &Fleet, plan: &Plan, id: &str) {
    let deadline = Instant::now() + PATIENCE;
    let end = loop {
        let upload = ask(fleet, Method::GET, &format!("/api/uploads/{id}"), None).await;
        if matches!(upload["status"].as_str(), Some("done" | "rejected" | "expired" | "cancelled")) {
            break upload;
        }
        assert!(Instant::now() < deadline, "{:?} stands: {upload}", plan.course);
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let (status, reason) = (end["status"].as_str().unwrap(), end["reason"].as_str());
    match plan.course {
        Course::Told | Course::Posted | Course::Replayed => {
            assert_eq!((status, end["hash"].as_str()), ("done", Some(hash_of(&plan.bytes).as_str())), "{end}");
        }
        Course::Lied => assert_eq!((status, reason), ("rejected", Some("digest_mismatch")), "{end}"),
        Course::Silent => assert_eq!(status, "expired", "{end}"),
        Course::Cancelled => assert_eq!(status, "cancelled", "{end}"),
    }
}

/// Files, report, a recount and the plans say the same.
async fn check_books(fleet: &Fleet, plans: &[Plan]) {
    let done = plans.iter().filter(|plan| matches!(plan.course, Course::Told | Course::Posted | Course::Replayed));
    let mut expected: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for plan in done {
        let entry = expected.entry(hash_of(&plan.bytes)).or_insert((0, plan.bytes.len()));
        entry.0 += 1;
    }
    let count: usize = expected.values().map(|(times, _)| times).sum();
    let bytes: usize = expected.values().map(|(times, size)| times * size).sum();

    assert_eq!(fleet.files().await, expected.iter().map(|(hash, (times, _))| (hash.clone(), *times)).collect());
    let report = fleet.report_of(count).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&json!(bytes), &json!(expected.len())));
    fleet.run(&["report", "--rebuild"]);
    let recounted = fleet.report_of(count).await;
    assert_eq!(
        (&recounted["sizeBytes"], &recounted["uniqueCount"], &recounted["uniqueSizeBytes"]),
        (&report["sizeBytes"], &report["uniqueCount"], &report["uniqueSizeBytes"])
    );
    let letters = fleet.run(&["jobs", "list"]);
    assert!(letters.contains("No dead letters"), "{letters}");
}
