//! What a batch that stands already means for the files of a run.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};
use longshore_jobs::model::Status;

use super::Posted;
use crate::client::api::Upload;
use crate::client::batches::Batch;
use crate::client::ingest::Run;
use crate::client::ingest::content::Ready;
use crate::client::ingest::outcome::Landed;
use crate::client::transport::ApiError;

/// How many files that are done are told of at once: where a manifest vouches for them, they are read.
const AT_ONCE: usize = 8;

/// The files of a run, by what the batch makes of them.
pub(super) struct Sorted {
    /// To be posted under it.
    pub(super) wanted: Vec<Ready>,
    /// Their bytes are there, and it will see to them.
    pub(super) there: Posted,
    /// It does not take them any more.
    pub(super) elsewhere: Vec<Ready>,
}

impl Sorted {
    pub(super) fn of_new(wanted: Vec<Ready>) -> Self {
        Self { wanted, there: Posted::new(), elsewhere: Vec::new() }
    }

    /// Puts a file to the others of its kind; returns one that is done.
    fn put(&mut self, ready: Ready, upload: Upload) -> Option<(Landed, Upload)> {
        match upload.status {
            Status::Done if is_kept(&upload, &ready) => return Some((Landed::before(ready), upload)),
            status if status.is_final() => self.elsewhere.push(ready),
            _ => drop(self.there.insert(upload.filename, Landed::before(ready))),
        }
        None
    }
}

/// Whether the file that the upload became is there yet, and is this one.
fn is_kept(upload: &Upload, ready: &Ready) -> bool {
    upload.file_id.is_some() && upload.hash.is_none_or(|hash| hash == ready.sha256)
}

/// Tells of the files that the batch has, and parts the others.
pub(super) async fn sort(run: &Run, batch: &Batch, files: Vec<Ready>) -> Result<Sorted, ApiError> {
    let (mut left, mut sorted) = (by_name(files), Sorted::of_new(Vec::new()));
    let mut after = None;
    loop {
        let page = run.api.batch_uploads(batch.id, after.as_deref()).await?;
        let known = page.uploads.into_iter().filter_map(|upload| Some((left.remove(&upload.filename)?, upload)));
        let done: Vec<_> = known.filter_map(|(ready, upload)| sorted.put(ready, upload)).collect();
        stream::iter(done).for_each_concurrent(AT_ONCE, |(landed, upload)| run.tell_end(landed, upload)).await;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let unknown = if batch.closed_at.is_some() { &mut sorted.elsewhere } else { &mut sorted.wanted };
    unknown.extend(left.into_values());
    Ok(sorted)
}

fn by_name(files: Vec<Ready>) -> HashMap<String, Ready> {
    files.into_iter().map(|file| (file.found.name.clone(), file)).collect()
}
