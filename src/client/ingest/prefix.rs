//! Mode `prefix`: one policy for all files, each posted under a key that ends in its relative path.
//!
//! The hashes go ahead of the bytes as the batch's manifest. A run that was broken off leaves nothing behind on this machine: its
//! batch was asked for under an `Idempotency-Key` that is made of the listing, so the same files ask for the same batch again, for
//! as long as the server keeps the key (24 hours), and its listing says what is done. What that batch will not take any more, since
//! it is closed or had the file rejected, goes into another, whose key counts one further.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use longshore_jobs::model::{Digest, Status, Target};
use longshore_jobs::outside::BoxError;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::task::JoinSet;

use super::Run;
use super::content::Ready;
use super::each;
use super::journey::{BETWEEN, NOTICE, WAIT, settling};
use super::outcome::{End, Outcome, Stop, rejection};
use super::post::post;
use super::walk::Found;
use crate::client::api::{PolicyForm, Upload};
use crate::client::batches::{Batch, NewPrefix};
use crate::client::transport::ApiError;

/// How many batches one listing may come to.
const BATCHES: u32 = 100;
/// What stands in the policy's key for the file's name.
const NAME: &str = "${filename}";
/// How long before its end a policy is renewed.
const MARGIN: Duration = Duration::from_secs(60);
/// How often one file meets a policy that ran out before it is given up.
const RENEWALS: u32 = 3;

/// Takes the files in. An error is one that ends the run.
pub(super) async fn prefix(run: Arc<Run>, found: Vec<Found>) -> Result<(), BoxError> {
    refuse_unsafe(&run, &found).await?;
    let mut files: Vec<Ready> = each::ready(&run, found).collect().await;
    let Some(largest) = files.iter().map(|file| file.size).max() else { return Ok(()) };
    let target = run.target.clone();
    let asked = NewPrefix { max_files: files.len(), max_file_size: largest.max(1), target: target.as_ref() };
    let listing = digest(&files, target.as_ref());
    for attempt in 0..BATCHES {
        let (batch, is_new) = run.api.create_prefix(&asked, &format!("{}-{attempt}", listing.to_hex())).await?;
        let (here, elsewhere) = if is_new { (Sorted::all(files), Vec::new()) } else { sort(&run, &batch, files).await? };
        take(&run, batch, here).await?;
        if elsewhere.is_empty() {
            return Ok(());
        }
        files = elsewhere;
    }
    Err(format!("{BATCHES} batches of this listing have left files over: look at why they were rejected").into())
}
