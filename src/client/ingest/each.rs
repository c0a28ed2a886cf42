//! Mode `each`: every file becomes an upload of its own, and they are asked for in batches.
//!
//! A batch is made of what is ready by the time that one can be asked for, so the first bytes travel long before the last file is
//! hashed, and no more files are held than the open batches have.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use longshore_jobs::job::with_causes;
use longshore_jobs::model::filename;
use longshore_jobs::outside::BoxError;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::content::Ready;
use super::flights::Flights;
use super::journey::Journey;
use super::outcome::Outcome;
use super::walk::Found;
use super::{Run, batch};

/// Up to so many files each is asked for by itself: a batch costs some requests of its own.
const FEW: usize = 16;
/// The first batch; each next one is twice as large.
const FIRST: usize = 32;
/// The largest batch: larger ones save hardly a request, and a file's end is told when its whole batch is delivered.
const MOST: usize = 1_000;
/// How many bytes make a batch large enough, however few its files.
const HEAVY: u64 = 256 << 20;
/// How long a file that is ready waits for others.
const GATHERING: Duration = Duration::from_millis(100);
/// How many batches are open at once: one is being asked for while the bytes of others travel.
const OPEN: usize = 4;
/// How many files are read ahead at once.
const AHEAD: usize = 8;

/// Takes the files in. An error is one that ends the run.
pub(super) async fn each(run: Arc<Run>, found: Vec<Found>) -> Result<(), BoxError> {
    let few = found.len() <= FEW;
    let mut ready = pin!(ready(&run, found));
    if few {
        return one_by_one(&run, ready).await;
    }
    let (mut open, mut lines) = (JoinSet::new(), FIRST);
    loop {
        while open.len() >= OPEN
            && let Some(ended) = open.join_next().await
        {
            ended??;
        }
        let gathered = gather(ready.as_mut(), lines).await;
        if gathered.is_empty() {
            break;
        }
        open.spawn(batch::take(Arc::clone(&run), gathered));
        lines = MOST.min(lines * 2);
    }
    while let Some(ended) = open.join_next().await {
        ended??;
    }
    Ok(())
}

/// Each by requests of its own.
pub(super) async fn one_by_one(run: &Arc<Run>, ready: impl Stream<Item = Ready>) -> Result<(), BoxError> {
    let (mut flights, mut ready) = (Flights::of(run), pin!(ready));
    while let Some(file) = ready.next().await {
        flights.launch(Journey::new(run, file).alone()).await?;
    }
    flights.land().await?;
    Ok(())
}

/// The files in their order, each as soon as its digest is known. One that cannot be asked for is told of and passed over.
pub(super) fn ready(run: &Arc<Run>, found: Vec<Found>) -> impl Stream<Item = Ready> + Send + use<> {
    let run = Arc::clone(run);
    let prepared = stream::iter(found).map(move |found| {
        let run = Arc::clone(&run);
        async move {
            match prepare(&run, found).await {
                Ok(ready) => Some(ready),
                Err(outcome) => {
                    run.tell(outcome).await;
                    None
                }
            }
        }
    });
    prepared.buffered(AHEAD).filter_map(std::future::ready)
}

async fn prepare(run: &Run, found: Found) -> Result<Ready, Outcome> {
    if let Some(fault) = filename::fault(&found.name) {
        return Err(Outcome::failed(&found, format!("its name {fault}")));
    }
    match run.pinned(&found.name) {
        Some(sha256) => Ok(Ready::pinned(found, sha256)),
        None => {
            let hashed = Ready::hashed(found).await;
            hashed.map_err(|(found, error)| Outcome::failed(&found, with_causes(&error)))
        }
    }
}

/// What is ready, until it is enough for a batch or nothing more has come for a while. Empty at the end.
async fn gather(mut ready: Pin<&mut impl Stream<Item = Ready>>, most: usize) -> Vec<Ready> {
    let mut gathered: Vec<Ready> = ready.next().await.into_iter().collect();
    let (mut bytes, enough) = (gathered.iter().map(|ready| ready.size).sum::<u64>(), Instant::now() + GATHERING);
    while !gathered.is_empty()
        && gathered.len() < most
        && bytes < HEAVY
        && let Ok(Some(another)) = timeout_at(enough, ready.next()).await
    {
        bytes += another.size;
        gathered.push(another);
    }
    gathered
}
