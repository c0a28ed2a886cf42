//! Latency of `POST /api/uploads` with its policy in the answer, at a steady rate of arrivals.

use std::time::{Duration, Instant};

use longshore_jobs::outside::BoxError;
use reqwest::{Client, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant as Tick, sleep_until};

use super::figures::{Value, percentile};
use super::{Figures, OwnServer};
use crate::client::choose_cryptography;
use crate::config::Config;

/// Asks for so many uploads a second, for so many seconds, whether earlier ones are answered or not; beside it `GET /livez`
/// at the same rate, which is what a request costs that does nothing.
pub(crate) async fn intake(config: &Config, rate: u32, seconds: u32) -> Result<Figures, BoxError> {
    let server = OwnServer::start(config).await?;
    choose_cryptography();
    let client = Client::builder().no_proxy().build()?;
    let (uploads, livez) = (format!("{}/api/uploads", server.url), format!("{}/livez", server.url));
    let token = server.token.clone();
    let ask = {
        let client = client.clone();
        move |number: u32| ask(client.clone(), uploads.clone(), token.clone(), number)
    };
    let nothing = move |_| {
        let request = client.get(&livez).send();
        async move { Ok(request.await?.status() == StatusCode::OK) }
    };
    // Connections and code paths are warm before anything counts.
    load(ask.clone(), rate, 1).await?;
    let (policies, missing) = load(ask, rate, seconds).await?;
    let (idle, _) = load(nothing, rate, seconds.min(5)).await?;
    server.end().await?;

    let mut figures = Figures::default();
    let what = format!("POST /api/uploads p50, {rate}/s, {} requests", policies.len());
    figures.add("upload_p50", what, Value::delay(percentile(&policies, 0.5))).aim("5 ms");
    figures.add("upload_p99", "POST /api/uploads p99", Value::delay(percentile(&policies, 0.99)));
    figures.add("without_policy", "answers without a policy", Value::Count(missing)).aim("0");
    figures.add("livez_p50", "GET /livez p50, the same rate", Value::delay(percentile(&idle, 0.5)));
    figures.add("livez_p99", "GET /livez p99", Value::delay(percentile(&idle, 0.99)));
    Ok(figures)
}

/// Whether the answer was what was asked for.
type Answer = Result<bool, reqwest::Error>;

async fn ask(client: Client, url: String, token: String, number: u32) -> Answer {
    let body = json!({ "filename": format!("{number}.jpg"), "size": 10_240, "target": { "kind": "order", "number": "A-100" } });
    let response = client.post(url).bearer_auth(token).json(&body).send().await?;
    let answer: serde_json::Value = response.json().await?;
    Ok(answer["uploads"][0]["upload"]["fields"]["policy"].is_string())
}

/// The latencies in order, and how many answers were not what was asked for.
async fn load<F, R>(request: F, rate: u32, seconds: u32) -> Result<(Vec<Duration>, u64), BoxError>
where
    F: Fn(u32) -> R,
    R: Future<Output = Answer> + Send + 'static,
{
    let (start, mut answers) = (Tick::now(), JoinSet::new());
    for number in 0..rate * seconds {
        sleep_until(start + Duration::from_secs(1) * number / rate).await;
        let answer = request(number);
        let sent = Instant::now();
        answers.spawn(async move { answer.await.map(|good| (good, sent.elapsed())) });
    }
    let (mut latencies, mut bad) = (Vec::new(), 0);
    while let Some(answer) = answers.join_next().await {
        let (good, latency) = answer??;
        bad += u64::from(!good);
        latencies.push(latency);
    }
    latencies.sort_unstable();
    Ok((latencies, bad))
}
