//! The parts of a large object, asked for side by side and handed out in order, under one budget for all readers.
//!
//! A reader keeps one permit for its next part and takes more only while some are free, so each reader that has begun
//! can come to its end by itself and the budget cannot lock up. The others wait in line before they ask for anything;
//! the semaphore is fair, so what a reader gives back goes to them first. A permit is given back when its part is handed
//! out: beyond the budget there is at most the part that each reader is busy with.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use longshore_jobs::outside::BucketError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::fault::failed;
use super::read::Version;

/// How many parts all readers together may have asked for and not handed out, or all puts gathered and not sent.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    /// At least one part.
    pub(super) fn of(parts: usize) -> Self {
        Self(Arc::new(Semaphore::new(parts.clamp(1, Semaphore::MAX_PERMITS))))
    }

    pub(super) async fn wait(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.0).acquire_owned().await.expect("nobody closes the budget")
    }

    fn more(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.0.available_permits()
    }
}

/// How a large object is cut.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Bytes of the object.
    pub(super) size: u64,
    /// Bytes of a part; the last one may be shorter.
    pub(super) part: u64,
    /// How many parts are asked for at once.
    pub(super) streams: usize,
}

/// The chunks of a version, each a part. The first part is there when this returns, so a version that is gone is an error
/// of the call and not of the stream.
pub(super) async fn read(
    version: Version,
    cut: Cut,
    budget: &Budget,
) -> Result<BoxStream<'static, Result<Bytes, BucketError>>, BucketError> {
    let kept = Some(budget.wait().await);
    let version = Arc::new(version);
    let mut reader = Reader { version, cut, asked: 0, budget: budget.clone(), kept, under_way: VecDeque::new() };
    let first = reader.next().await?;
    let rest = stream::try_unfold(reader, async |mut reader| Ok(reader.next().await?.map(|part| (part, reader))));
    Ok(stream::iter(first.map(Ok)).chain(rest).boxed())
}

/// Dropping it ends the requests that are under way and gives the permits back.
struct Reader {
    version: Arc<Version>,
    cut: Cut,
    /// All before this byte is asked for.
    asked: u64,
    budget: Budget,
    /// For the next part, when none is under way.
    kept: Option<OwnedSemaphorePermit>,
    under_way: VecDeque<UnderWay>,
}

struct UnderWay {
    part: AbortOnDropHandle<Result<Bytes, BucketError>>,
    permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The next part in order; `None` behind the last.
    async fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        self.ask();
        let Some(UnderWay { part, permit }) = self.under_way.pop_front() else { return Ok(None) };
        let part = part.await.map_err(|lost| failed("read", lost))??;
        if self.under_way.is_empty() && self.asked < self.cut.size {
            self.kept = Some(permit);
        }
        Ok(Some(part))
    }

    /// Asks for as many parts as there are permits for.
    fn ask(&mut self) {
        while self.asked < self.cut.size && self.under_way.len() < self.cut.streams {
            let Some(permit) = self.kept.take().or_else(|| self.budget.more()) else { return };
            let range = self.asked..self.cut.size.min(self.asked + self.cut.part);
            self.asked = range.end;
            let version = Arc::clone(&self.version);
            let part = AbortOnDropHandle::new(tokio::spawn(async move { version.fetch(range).await }));
            self.under_way.push_back(UnderWay { part, permit });
        }
    }
}
