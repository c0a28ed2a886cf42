//! The sweep: data files that a crash left without a row.
//!
//! It runs once per opening, in the background, folder by folder, and looks only at files of earlier openings: no
//! row can come to name one of those any more, but by a copy of a row that names it now.

use std::io;

use tokio::task::spawn_blocking;

use super::StoreError;
use super::files::Files;
use super::index::Index;

/// How many files are looked up at once.
const BATCH: usize = 500;

/// Removes what no row names; says how many files that were.
pub(crate) async fn sweep(files: &Files, index: &Index) -> Result<usize, StoreError> {
    let mut removed = 0;
    for folder in Files::folders() {
        let names = earlier(files, folder).await?;
        for batch in names.chunks(BATCH) {
            let unnamed = index.unnamed(batch).await?;
            removed += unnamed.len();
            files.remove(unnamed).await;
        }
    }
    Ok(removed)
}

async fn earlier(files: &Files, folder: String) -> Result<Vec<String>, StoreError> {
    let files = files.clone();
    Ok(spawn_blocking(move || files.earlier(&folder)).await.map_err(io::Error::other)??)
}

/// Sweeps, and logs what came of it.
pub(crate) async fn sweep_and_log(files: Files, index: Index) {
    match sweep(&files, &index).await {
        Ok(0) => tracing::debug!("no data file was left over"),
        Ok(removed) => tracing::info!(removed, "removed data files that no object names"),
        Err(error) => tracing::warn!(error = %longshore_jobs::job::with_causes(&error), "the bucket was not swept"),
    }
}
