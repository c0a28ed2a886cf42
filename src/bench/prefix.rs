//! Very many small files through one policy, end to end on the local bucket; client and server in one process.
//!
//! What has to be seen is that memory stays where it is, however many files go through: it is looked at after each tenth.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use longshore_jobs::outside::BoxError;
use reqwest::Client;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use super::figures::Value;
use super::{Figures, OwnServer, Uploads, resident_memory};
use crate::client::api::PolicyForm;
use crate::client::choose_cryptography;
use crate::client::form::Content;
use crate::config::Config;

/// How often the batch is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);
/// How long it may stand still.
const LONGEST: Duration = Duration::from_secs(120);
/// How many looks are taken at memory while files are posted.
const LOOKS: u64 = 10;

/// Posts so many files of so many bytes, over so many connections, and waits until the last is done.
pub(crate) async fn prefix(config: &Config, uploads: Uploads) -> Result<Figures, BoxError> {
    choose_cryptography();
    let server = OwnServer::start(config).await?;
    let measured = measure(&server, uploads).await;
    server.end().await?;
    measured
}

async fn measure(server: &OwnServer, uploads: Uploads) -> Result<Figures, BoxError> {
    let batches = Batches::new(server)?;
    // Connections and code paths are warm before anything counts.
    let few = Uploads { count: uploads.concurrency as u64, ..uploads };
    let warm = batches.create(few).await?;
    post_all(server, &warm, few).await?;
    batches.finish(&warm, few.count).await?;

    let batch = batches.create(uploads).await?;
    let before = resident_memory();
    let started = Instant::now();
    let memory = post_all(server, &batch, uploads).await?;
    let posted = started.elapsed();
    batches.finish(&batch, uploads.count).await?;
    Ok(figures(uploads, (posted, started.elapsed()), before, &memory))
}

fn figures(uploads: Uploads, (posted, done): (Duration, Duration), before: Option<u64>, memory: &[u64]) -> Figures {
    let mut figures = Figures::default();
    figures.set("bytes of a file", uploads.size);
    figures.set("connections", uploads.concurrency);
    figures.add("posted", format!("forms taken, {} files", uploads.count), Value::rate(uploads.count, posted));
    figures.add("done", "files verified and stored, all of them", Value::rate(uploads.count, done));
    figures.add("took", "from the first form to the last file done", Value::delay(done));
    let after = resident_memory();
    let looks = [before].into_iter().chain(memory.iter().copied().map(Some)).chain([after]);
    for (look, memory) in (0_u64..).zip(looks) {
        let Some(memory) = memory else { continue };
        let what = match look * 100 / LOOKS {
            share @ 0..=100 => format!("memory of client and server, {share} % posted"),
            _ => "memory of client and server, all done".to_owned(),
        };
        figures.add(format!("memory_{look}"), what, Value::memory(memory));
    }
    if let (Some(first), Some(after)) = (memory.first(), after) {
        let what = "memory grown since the first tenth";
        figures.add("grown", what, Value::memory(after.saturating_sub(*first)));
    }
    figures
}

/// A batch of the bench's own.
struct Batch {
    id: String,
    form: PolicyForm,
}

/// The part of the API that is about batches.
struct Batches<'s> {
    client: Client,
    server: &'s OwnServer,
}

impl<'s> Batches<'s> {
    fn new(server: &'s OwnServer) -> Result<Self, BoxError> {
        Ok(Self { client: Client::builder().no_proxy().build()?, server })
    }

    async fn create(&self, uploads: Uploads) -> Result<Batch, BoxError> {
        let url = format!("{}/api/batches", self.server.url);
        let body = json!({ "mode": "prefix", "maxFiles": uploads.count, "maxFileSize": uploads.size });
        let answer = self.client.post(url).bearer_auth(&self.server.token).json(&body).send().await?;
        let mut answer: Json = answer.error_for_status()?.json().await?;
        let batch = &mut answer["batches"][0];
        let id = batch["id"].as_str().ok_or("a batch has an id")?.to_owned();
        Ok(Batch { id, form: serde_json::from_value(batch["upload"].take())? })
    }

    /// Waits until so many files are done.
    async fn finish(&self, batch: &Batch, count: u64) -> Result<(), BoxError> {
        let url = format!("{}/api/batches/{}", self.server.url, batch.id);
        let (mut done, mut moved) = (0, Instant::now());
        while done < count {
            let asked = self.client.get(&url).bearer_auth(&self.server.token).send().await?;
            let answer: Json = asked.error_for_status()?.json().await?;
            let batch = &answer["batches"][0];
            if batch["taskResultFailures"] != 0 {
                return Err(format!("not every file was stored: {}", batch["counts"]).into());
            }
            let now = batch["taskResultSuccesses"].as_u64().unwrap_or(0);
            if now > done {
                (done, moved) = (now, Instant::now());
            } else if moved.elapsed() > LONGEST {
                return Err(format!("only {done} of {count} files were done").into());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Returns the memory that was resident after each tenth.
async fn post_all(server: &OwnServer, batch: &Batch, uploads: Uploads) -> Result<Vec<u64>, BoxError> {
    let (next, mut posters) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for _ in 0..uploads.concurrency {
        let poster = Poster { api: server.api.clone(), form: batch.form.clone(), next: Arc::clone(&next), uploads };
        posters.spawn(poster.post_some());
    }
    let mut memory = Vec::new();
    while let Some(seen) = posters.join_next().await {
        memory.extend(seen??);
    }
    memory.sort_unstable_by_key(|(number, _)| *number);
    Ok(memory.into_iter().map(|(_, memory)| memory).collect())
}

/// One connection: file after file, until none is left to begin.
struct Poster {
    api: crate::client::Api,
    form: PolicyForm,
    next: Arc<AtomicU64>,
    uploads: Uploads,
}

impl Poster {
    /// Returns what it has seen of memory, by the number of the file that it had posted then.
    async fn post_some(self) -> Result<Vec<(u64, u64)>, BoxError> {
        let Uploads { count, size, .. } = self.uploads;
        let mut seen = Vec::new();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(seen);
            }
            let mut bytes = vec![0; size];
            rand::fill(&mut bytes[..]);
            self.api.post_form(&self.form_for(number)?, &Content::Whole(Bytes::from(bytes))).await?;
            if (number + 1) * LOOKS / count > number * LOOKS / count {
                seen.extend(resident_memory().map(|memory| (number, memory)));
            }
        }
    }

    fn form_for(&self, number: u64) -> Result<PolicyForm, BoxError> {
        let mut form = self.form.clone();
        let key = form.fields.get_mut("key").ok_or("a form has a key")?;
        *key = key.replace("${filename}", &format!("shelf-{}/file-{number}.bin", number / 1_000));
        Ok(form)
    }
}
