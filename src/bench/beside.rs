//! Uploads at a steady rate beside something else, and what they notice of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use longshore_jobs::outside::BoxError;
use tokio::task::JoinSet;
use tokio::time::{Instant as Tick, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Figures;
use super::figures::{Value, percentile};
use super::pipeline::{finish, signed};
use crate::client::Api;
use crate::client::form::Content;

/// Uploads in a second. Few enough that a quiet machine has most of its time left.
pub(super) const RATE: u32 = 20;
/// Bytes of each.
const SIZE: usize = 4_096;

/// How long uploads took, each list in order.
#[derive(Default)]
pub(super) struct Delays {
    /// From the wish to its policy.
    asked: Vec<Duration>,
    /// From the wish until it is done.
    done: Vec<Duration>,
}

/// Does `work` with uploads beside it, from its first moment to its last.
pub(super) async fn beside<T>(
    api: &Api,
    work: impl Future<Output = Result<T, BoxError>>,
) -> Result<(T, Delays), BoxError> {
    let over = CancellationToken::new();
    let uploads = tokio::spawn(upload_until(api.clone(), over.clone()));
    let done = work.await;
    over.cancel();
    let delays = uploads.await??;
    Ok((done?, delays))
}

/// Each begins at its time, whether earlier ones have ended or not.
async fn upload_until(api: Api, over: CancellationToken) -> Result<Delays, BoxError> {
    let (start, mut uploads) = (Tick::now(), JoinSet::new());
    let mut number = 0;
    while over.run_until_cancelled(sleep_until(start + Duration::from_secs(1) * number / RATE)).await.is_some() {
        uploads.spawn(upload(api.clone()));
        number += 1;
    }
    let mut delays = Delays::default();
    while let Some(upload) = uploads.join_next().await {
        let (asked, done) = upload??;
        delays.asked.push(asked);
        delays.done.push(done);
    }
    delays.asked.sort_unstable();
    delays.done.sort_unstable();
    Ok(delays)
}

async fn upload(api: Api) -> Result<(Duration, Duration), BoxError> {
    let mut bytes = vec![0; SIZE];
    rand::fill(&mut bytes[..]);
    let started = Instant::now();
    let (upload, form) = signed(&api, &bytes).await?;
    let asked = started.elapsed();
    api.post_form(&form, &Content::Whole(Bytes::from(bytes))).await?;
    finish(&api, upload).await?;
    Ok((asked, started.elapsed()))
}

impl Delays {
    /// Lines for the table; `when` begins each of them.
    pub(super) fn show(&self, figures: &mut Figures, name: &str, when: &str) {
        let lists = [("asked", "policy", &self.asked), ("done", "done", &self.done)];
        for (of, what, delays) in lists {
            for (figure, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
                let text = format!("{when}, an upload to its {what}, {figure} of {}", delays.len());
                let text = if of == "done" { text.replace("to its done", "until it is done") } else { text };
                figures.add(format!("{name}_{of}_{figure}"), text, Value::delay(percentile(delays, share)));
            }
        }
    }
}
