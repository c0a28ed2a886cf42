//! Ten thousand uploads by one call, and what a person notices of it who asks for one upload at the same time.

use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use longshore_jobs::outside::BoxError;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;
use tokio::time::{Instant as Tick, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::figures::{Value, percentile};
use super::{Figures, OwnServer};
use crate::client::choose_cryptography;
use crate::config::Config;

/// How often the batch is looked at until it is ready.
const LOOK: Duration = Duration::from_millis(25);
/// How long it may take.
const LONGEST: Duration = Duration::from_secs(120);

/// Posts a batch of so many lines while `rate` single uploads a second are asked for; `rounds` times, on one server.
pub(crate) async fn batch(config: &Config, lines: usize, rate: u32, rounds: u32) -> Result<Figures, BoxError> {
    let server = OwnServer::start(config).await?;
    choose_cryptography();
    let asker = Asker {
        client: Client::builder().no_proxy().build()?,
        url: server.url.clone(),
        token: server.token.clone(),
    };
    // Connections and code paths are warm before anything counts.
    asker.alone(rate, Duration::from_secs(1)).await?;
    asker.round(100.min(lines), rate).await?;
    let quiet = asker.alone(rate, Duration::from_secs(3)).await?;
    let mut figures = Figures::default();
    describe_machine(&mut figures);
    figures.set("single uploads a second", rate);
    add_delays(&mut figures, "quiet", "without a batch", &quiet);
    for round in 1..=rounds {
        asker.round(lines, rate).await?.show(&mut figures, round, lines);
    }
    server.end().await?;
    Ok(figures)
}

/// What one batch took.
struct Round {
    answered: Duration,
    /// From the answer until every line had its policy.
    ready: Duration,
    /// Of single uploads that were asked for meanwhile, in order.
    singles: Vec<Duration>,
}

impl Round {
    fn show(&self, figures: &mut Figures, round: u32, lines: usize) {
        let name = |figure: &str| format!("{figure}_{round}");
        let what = format!("batch {round}: answer to {lines} uploads");
        figures.add(name("answered"), what, Value::delay(self.answered)).aim("under 1000 ms");
        let what = format!("batch {round}: from there until all policies are ready");
        figures.add(name("ready"), what, Value::delay(self.ready)).aim("under 2000 ms");
        add_delays(figures, &name("beside"), &format!("batch {round}: beside it"), &self.singles);
    }
}

fn add_delays(figures: &mut Figures, name: &str, when: &str, delays: &[Duration]) {
    let what = format!("{when}, a single upload's policy p50, {} uploads", delays.len());
    figures.add(format!("{name}_p50"), what, Value::delay(percentile(delays, 0.5)));
    let what = format!("{when}, a single upload's policy p99");
    figures.add(format!("{name}_p99"), what, Value::delay(percentile(delays, 0.99))).aim("under 50 ms");
}

#[derive(Clone)]
struct Asker {
    client: Client,
    url: String,
    token: String,
}

impl Asker {
    fn post(&self, path: &str, body: &Json) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body)
    }

    async fn round(&self, lines: usize, rate: u32) -> Result<Round, BoxError> {
        let over = CancellationToken::new();
        let singles = tokio::spawn(self.clone().singles(rate, over.clone()));
        let (started, id) = (Instant::now(), self.post_batch(lines).await?);
        let answered = started.elapsed();
        self.until_ready(&id).await?;
        let ready = started.elapsed().saturating_sub(answered);
        over.cancel();
        Ok(Round { answered, ready, singles: singles.await?? })
    }

    async fn alone(&self, rate: u32, length: Duration) -> Result<Vec<Duration>, BoxError> {
        let over = CancellationToken::new();
        let singles = tokio::spawn(self.clone().singles(rate, over.clone()));
        sleep(length).await;
        over.cancel();
        singles.await?
    }

    async fn post_batch(&self, lines: usize) -> Result<String, BoxError> {
        let line = |number: usize| {
            json!({ "filename": format!("shirts/{number}.jpg"), "size": 10_240, "ref": format!("{number}-{}", rand::random::<u64>()) })
        };
        let body = json!({
            "target": { "kind": "order", "number": "A-100" },
            "uploads": (0..lines).map(line).collect::<Vec<_>>(),
        });
        let response = self.post("/api/batches", &body).send().await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(format!("the batch was answered with {}", response.status()).into());
        }
        let answer: Json = response.json().await?;
        Ok(answer["batches"][0]["id"].as_str().unwrap_or_default().to_owned())
    }

    async fn until_ready(&self, id: &str) -> Result<(), BoxError> {
        let deadline = Instant::now() + LONGEST;
        while Instant::now() < deadline {
            let asked = self.client.get(format!("{}/api/batches/{id}", self.url)).bearer_auth(&self.token);
            let answer: Json = asked.send().await?.json().await?;
            if answer["batches"][0]["ready"] == true {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Err(format!("the batch was not ready after {LONGEST:?}").into())
    }

    /// The delays in order. Each is asked for at its time, whether earlier ones are answered or not.
    async fn singles(self, rate: u32, over: CancellationToken) -> Result<Vec<Duration>, BoxError> {
        let (start, mut answers, mut number) = (Tick::now(), JoinSet::new(), 0);
        while !over.is_cancelled() {
            sleep_until(start + Duration::from_secs(1) * number / rate).await;
            answers.spawn(self.clone().single(number));
            number += 1;
        }
        let mut delays = Vec::new();
        while let Some(answer) = answers.join_next().await {
            delays.push(answer??);
        }
        delays.sort_unstable();
        Ok(delays)
    }

    async fn single(self, number: u32) -> Result<Duration, BoxError> {
        let body = json!({ "filename": format!("{number}.jpg"), "size": 10_240 });
        let started = Instant::now();
        let response = self.post("/api/uploads", &body).send().await?;
        let answer: Json = response.json().await?;
        if !answer["uploads"][0]["upload"]["fields"]["policy"].is_string() {
            return Err(format!("a single upload has no policy: {answer}").into());
        }
        Ok(started.elapsed())
    }
}

fn describe_machine(figures: &mut Figures) {
    figures.set("cores", available_parallelism().map_or(1, NonZero::get));
    if let Some(bytes) = machine_memory() {
        figures.set("memory", Value::memory(bytes));
    }
}

/// In bytes; `None` where the system does not tell.
fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}
