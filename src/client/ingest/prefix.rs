//! Mode `prefix`: one policy for all files, each posted under a key that ends in its relative path.
//!
//! The hashes go ahead of the bytes as the batch's manifest. A run that was broken off leaves nothing behind on this machine: its
//! batch was asked for under an `Idempotency-Key` that is made of the listing, so the same files ask for the same batch again, for
//! as long as the server keeps the key (24 hours), and its listing says what is done. What that batch will not take any more, since
//! it is closed or had the file rejected, goes into another, whose key counts one further.

mod ends;
mod posting;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use longshore_jobs::model::policy::FILENAME;
use longshore_jobs::model::{Digest, Status, Target, path};
use longshore_jobs::outside::BoxError;
use sha2::{Digest as _, Sha256};

use self::ends::await_ends;
use self::posting::post_all;
use super::Run;
use super::content::Ready;
use super::each;
use super::outcome::{Landed, Outcome};
use super::walk::Found;
use crate::client::batches::{Batch, NewPrefix};
use crate::client::transport::ApiError;

/// How many batches one listing may come to.
const BATCHES: u32 = 100;

/// Takes the files in. An error is one that ends the run.
pub(super) async fn prefix(run: Arc<Run>, found: Vec<Found>) -> Result<(), BoxError> {
    refuse_unsafe(&run, &found).await?;
    let mut files: Vec<Ready> = each::ready(&run, found).collect().await;
    let Some(largest) = files.iter().map(|file| file.size).max() else { return Ok(()) };
    let target = run.target.clone();
    let asked = NewPrefix { max_files: files.len(), max_file_size: largest.max(1), target: target.as_ref() };
    let listing = listing(&files, target.as_ref());
    for attempt in 0..BATCHES {
        let (batch, is_new) = run.api.create_prefix(&asked, &format!("{listing}-{attempt}")).await?;
        let sorted = if is_new { Sorted::of_new(files) } else { sort(&run, &batch, files).await? };
        files = sorted.elsewhere;
        take(&run, batch, (sorted.wanted, sorted.there)).await?;
        if files.is_empty() {
            return Ok(());
        }
    }
    Err(format!("{BATCHES} batches of this listing have left files over: see why they were rejected").into())
}

/// A name that cannot end a key stops the run before anything travels: the folder comes in whole under one policy, or not at all.
async fn refuse_unsafe(run: &Run, found: &[Found]) -> Result<(), BoxError> {
    let mut refused = 0;
    for file in found {
        let replaced = file.name.contains(FILENAME).then_some("must not hold `${filename}`, which buckets replace");
        if let Some(fault) = path::fault(&file.name).or(replaced) {
            run.tell(Outcome::failed(file, format!("its path {fault}"))).await;
            refused += 1;
        }
    }
    match refused {
        0 => Ok(()),
        refused => {
            Err(format!("{refused} of the paths cannot end a key: rename them, or use --batch-mode each").into())
        }
    }
}

/// What the same files for the same target come to, on any machine.
fn listing(files: &[Ready], target: Option<&Target>) -> String {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(file.client_ref(target));
    }
    Digest::finish(hasher).to_hex()
}

/// What a batch that stands already means for the files.
struct Sorted {
    /// To be posted under it.
    wanted: Vec<Ready>,
    /// Their bytes are there, and it will see to them.
    there: Posted,
    /// It does not take them any more.
    elsewhere: Vec<Ready>,
}

impl Sorted {
    fn of_new(wanted: Vec<Ready>) -> Self {
        Self { wanted, there: Posted::new(), elsewhere: Vec::new() }
    }
}

/// Tells of the files that the batch has, and parts the others.
async fn sort(run: &Run, batch: &Batch, files: Vec<Ready>) -> Result<Sorted, ApiError> {
    let (mut left, mut there, mut elsewhere) = (by_name(files), Posted::new(), Vec::new());
    let mut after = None;
    loop {
        let page = run.api.batch_uploads(batch.id, after.as_deref()).await?;
        for upload in page.uploads {
            let Some(ready) = left.remove(&upload.filename) else { continue };
            match upload.status {
                Status::Done => {
                    let landed = Landed { ready, moved: false, travelled: 0 };
                    run.tell(Outcome::of(landed, upload, run.is_pinned())).await;
                }
                status if status.is_final() => elsewhere.push(ready),
                _ => drop(there.insert(upload.filename, Landed { ready, moved: false, travelled: 0 })),
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let mut wanted: Vec<_> = left.into_values().collect();
    if batch.closed_at.is_some() {
        elsewhere.append(&mut wanted);
    }
    Ok(Sorted { wanted, there, elsewhere })
}

fn by_name(files: Vec<Ready>) -> HashMap<String, Ready> {
    files.into_iter().map(|file| (file.found.name.clone(), file)).collect()
}

/// Files whose bytes are in the bucket, by name.
type Posted = HashMap<String, Landed>;

/// Posts what is wanted and sees it and what is there already to its end.
async fn take(run: &Arc<Run>, batch: Batch, (wanted, mut posted): (Vec<Ready>, Posted)) -> Result<(), BoxError> {
    let (id, count) = (batch.id, wanted.len());
    if !wanted.is_empty() {
        let names = wanted.iter().chain(posted.values().map(|landed| &landed.ready));
        run.api.put_manifest(id, manifest(names)).await?;
        let landed = post_all(run, batch, wanted).await?;
        if landed.len() < count && !(landed.is_empty() && posted.is_empty()) {
            // What will never come must not be waited for.
            let names = landed.values().chain(posted.values()).map(|landed| &landed.ready);
            run.api.put_manifest(id, manifest(names)).await?;
        }
        posted.extend(landed);
    }
    Ok(await_ends(run, id, posted).await?)
}

/// Lines as `sha256sum` prints them. No path needs an escape: those that would were refused.
fn manifest<'a>(files: impl Iterator<Item = &'a Ready>) -> bytes::Bytes {
    let lines: String = files.map(|file| format!("{}  {}\n", file.sha256.to_hex(), file.found.name)).collect();
    lines.into()
}
