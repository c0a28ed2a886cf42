//! Mode `prefix`: one policy for all files, each posted under a key that ends in its relative path.
//!
//! The hashes go ahead of the bytes as the batch's manifest. A run that was broken off leaves nothing behind on this machine: its
//! batch was asked for under an `Idempotency-Key` that is made of the listing, so the same files ask for the same batch again, for
//! as long as the server keeps the key (24 hours), and its listing says what is done. What that batch will not take any more, since
//! it is closed, had the file rejected or its file was deleted, goes into another, whose key counts one further.

mod ends;
mod posting;
mod promise;
mod sort;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt as _;
use longshore_jobs::model::manifest::{MOST_BYTES, MOST_LINES};
use longshore_jobs::model::policy::FILENAME;
use longshore_jobs::model::{Digest, Target, path};
use longshore_jobs::outside::BoxError;
use sha2::{Digest as _, Sha256};

use self::ends::await_ends;
use self::posting::post_all;
use self::promise::{Promise, length};
use self::sort::{Sorted, sort};
use super::Run;
use super::content::Ready;
use super::each;
use super::outcome::{Landed, Outcome};
use super::walk::Found;
use crate::client::batches::{Batch, NewPrefix};

/// How many batches one listing may come to.
const BATCHES: u32 = 100;

/// Takes the files in. An error is one that ends the run.
pub(super) async fn prefix(run: Arc<Run>, found: Vec<Found>) -> Result<(), BoxError> {
    refuse_too_many(&found)?;
    refuse_unsafe(&run, &found).await?;
    let mut files: Vec<Ready> = each::ready(&run, found).collect().await;
    let Some(largest) = files.iter().map(|file| file.size).max() else { return Ok(()) };
    let target = run.target.clone();
    let asked = NewPrefix { max_files: files.len(), max_file_size: largest.max(1), target: target.as_ref() };
    let listing = listing(&files, target.as_ref());
    for attempt in 0..BATCHES {
        let (batch, is_new) = run.api.create_prefix(&asked, &format!("{listing}-{attempt}")).await?;
        let promise = Promise::of(&files);
        let sorted = if is_new { Sorted::of_new(files) } else { sort(&run, &batch, files).await? };
        files = take(&run, batch, sorted, promise).await?;
        if files.is_empty() {
            return Ok(());
        }
    }
    Err(format!("{BATCHES} batches of this listing have left files over: see why they were rejected").into())
}

/// More than one batch takes is told before hours go into the hashes.
fn refuse_too_many(found: &[Found]) -> Result<(), BoxError> {
    let bytes: usize = found.iter().map(|file| length(&file.name)).sum();
    if found.len() <= MOST_LINES && bytes <= MOST_BYTES {
        return Ok(());
    }
    let limits = format!("{MOST_LINES} files, and {MOST_BYTES} bytes of hashes and paths");
    let told = format!("{} files with {bytes} bytes of hashes and paths", found.len());
    Err(format!("one batch takes {limits}, and these are {told}: use --batch-mode each, or take several folders")
        .into())
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

/// Files whose bytes are in the bucket, by name.
type Posted = HashMap<String, Landed>;

/// Posts what is wanted and sees it and what is there already to its end. Returns what the batch does not take.
async fn take(run: &Arc<Run>, batch: Batch, sorted: Sorted, mut promise: Promise) -> Result<Vec<Ready>, BoxError> {
    let Sorted { wanted, there: mut posted, mut elsewhere } = sorted;
    let id = batch.id;
    if wanted.is_empty() {
        // It knows what they hash to.
    } else if promise.give(run, id).await? {
        let landing = post_all(run, batch, wanted).await?;
        // What will never come must not be waited for.
        if promise.without(&landing.failed) {
            promise.give(run, id).await?;
        }
        posted.extend(landing.posted);
        elsewhere.extend(landing.elsewhere);
    } else {
        elsewhere.extend(wanted);
    }
    elsewhere.extend(await_ends(run, id, posted).await?);
    Ok(elsewhere)
}
