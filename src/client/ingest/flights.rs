//! Work on many files at once: no more of it than the run has permits for, and none that outlives its owner.

use std::sync::Arc;

use longshore_jobs::outside::BoxError;
use tokio::task::JoinSet;

use super::Run;
use crate::client::transport::ApiError;

/// What is on its way. Dropping it ends all of it.
pub(super) struct Flights<T> {
    run: Arc<Run>,
    aloft: JoinSet<Result<T, ApiError>>,
}

impl<T: Send + 'static> Flights<T> {
    pub(super) fn of(run: &Arc<Run>) -> Self {
        Self { run: Arc::clone(run), aloft: JoinSet::new() }
    }

    /// Begins a work as soon as the run has a permit for it. Returns what has landed by then; an error ends the run.
    pub(super) async fn launch(
        &mut self,
        work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    ) -> Result<Vec<T>, BoxError> {
        let permit = self.run.permit().await;
        self.aloft.spawn(async move {
            let _permit = permit;
            work.await
        });
        let mut landed = Vec::new();
        while let Some(one) = self.aloft.try_join_next() {
            landed.push(one??);
        }
        Ok(landed)
    }

    /// Waits for all that is left.
    pub(super) async fn land(mut self) -> Result<Vec<T>, BoxError> {
        let mut landed = Vec::new();
        while let Some(one) = self.aloft.join_next().await {
            landed.push(one??);
        }
        Ok(landed)
    }
}
