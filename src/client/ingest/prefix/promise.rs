//! What a batch is told of its files ahead of the bytes: its manifest.
//!
//! It names every file that the batch has or is to have, those that are done among them. The server counts what is promised as
//! tasks, so a manifest of the missing files alone would look fulfilled by the files that are there.

use std::collections::HashSet;

use bytes::Bytes;
use longshore_jobs::model::Digest;
use uuid::Uuid;

use crate::client::ingest::Run;
use crate::client::ingest::content::Ready;
use crate::client::transport::ApiError;

/// Names and hashes.
pub(super) struct Promise(Vec<(String, Digest)>);

impl Promise {
    pub(super) fn of(files: &[Ready]) -> Self {
        Self(files.iter().map(|file| (file.found.name.clone(), file.sha256)).collect())
    }

    /// Takes back what was promised of these. Whether that leaves another promise to give.
    pub(super) fn without(&mut self, failed: &HashSet<String>) -> bool {
        self.0.retain(|(name, _)| !failed.contains(name));
        !failed.is_empty() && !self.0.is_empty()
    }

    /// Tells the batch. `false` when it is closed.
    pub(super) async fn give(&self, run: &Run, batch: Uuid) -> Result<bool, ApiError> {
        let (lines, mut again) = (self.lines(), true);
        loop {
            match run.api.put_manifest(batch, lines.clone()).await {
                Err(error @ ApiError::Refused { status: 409, .. }) => {
                    if run.api.batch(batch, None).await?.closed_at.is_some() {
                        return Ok(false);
                    }
                    if !again {
                        return Err(error);
                    }
                    // An earlier try of ours may have come into force in between.
                    again = false;
                }
                given => return given.map(|()| true),
            }
        }
    }

    /// Lines as `sha256sum` prints them. No path needs an escape: those that would were refused.
    fn lines(&self) -> Bytes {
        let lines: String = self.0.iter().map(|(name, sha256)| format!("{}  {name}\n", sha256.to_hex())).collect();
        lines.into()
    }
}

/// The bytes of one line.
pub(super) fn length(name: &str) -> usize {
    64 + "  \n".len() + name.len()
}
