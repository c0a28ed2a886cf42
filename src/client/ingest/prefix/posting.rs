//! Many files posted under one policy, which is renewed before it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longshore_jobs::model::policy::FILENAME;
use longshore_jobs::outside::BoxError;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::Posted;
use crate::client::api::PolicyForm;
use crate::client::batches::Batch;
use crate::client::ingest::Run;
use crate::client::ingest::content::Ready;
use crate::client::ingest::flights::Flights;
use crate::client::ingest::outcome::{Landed, Outcome, Stop};
use crate::client::ingest::post::post;
use crate::client::transport::ApiError;

/// How long before its end a policy is renewed.
const MARGIN: Duration = Duration::from_secs(60);
/// How often one file meets a policy that ran out before it is given up.
const RENEWALS: u32 = 3;

/// Posts the files under the batch's policy. Returns those that the bucket has; the others are told of.
pub(super) async fn post_all(run: &Arc<Run>, batch: Batch, wanted: Vec<Ready>) -> Result<Posted, BoxError> {
    let shared = Arc::new(Shared::new(run, batch)?);
    let (mut flights, mut posted) = (Flights::of(run), Posted::new());
    for ready in wanted {
        posted.extend(flights.launch(fly(Arc::clone(&shared), ready)).await?.into_iter().flatten());
    }
    posted.extend(flights.land().await?.into_iter().flatten());
    Ok(posted)
}

/// Posts one file; `None` when it has failed.
async fn fly(shared: Arc<Shared>, ready: Ready) -> Result<Option<(String, Landed)>, ApiError> {
    let (travelled, mut ran_out) = (Arc::<AtomicU64>::default(), None);
    let mut reason = "the policy ran out again and again before the bytes were there".to_owned();
    for _ in 0..=RENEWALS {
        let policy = shared.policy(ran_out).await?;
        match post(&shared.run, &below(&policy, &ready.found.name), &ready, &travelled).await {
            Ok(true) => {
                let travelled = travelled.load(Ordering::Relaxed);
                return Ok(Some((ready.found.name.clone(), Landed { ready, moved: true, travelled })));
            }
            Ok(false) => ran_out = Some(policy.came),
            Err(Stop::File(why)) => {
                reason = why;
                break;
            }
            Err(Stop::Run(error)) => return Err(error),
        }
    }
    let landed = Landed { ready, moved: false, travelled: travelled.load(Ordering::Relaxed) };
    shared.run.tell(Outcome::short(landed, None, reason)).await;
    Ok(None)
}

/// The policy for one file below the prefix.
fn below(policy: &PolicyForm, name: &str) -> PolicyForm {
    let mut policy = policy.clone();
    if let Some(key) = policy.fields.get_mut("key") {
        *key = key.replace(FILENAME, name);
    }
    policy
}

/// What the files of one batch share.
struct Shared {
    run: Arc<Run>,
    batch: Uuid,
    policy: Mutex<PolicyForm>,
}

impl Shared {
    fn new(run: &Arc<Run>, batch: Batch) -> Result<Self, ApiError> {
        let policy = batch.upload.ok_or_else(|| run.api.strange("the batch has no policy"))?;
        Ok(Self { run: Arc::clone(run), batch: batch.id, policy: Mutex::new(policy) })
    }

    /// A policy that lasts a while, and another than the one that came at `ran_out`. Whoever comes first renews it for all.
    async fn policy(&self, ran_out: Option<Instant>) -> Result<PolicyForm, ApiError> {
        let mut policy = self.policy.lock().await;
        if ran_out == Some(policy.came) || is_ending(&policy) {
            let batch = self.run.api.renew_batch_policy(self.batch).await?;
            *policy = batch.upload.ok_or_else(|| self.run.api.strange("the batch has no policy"))?;
        }
        Ok(policy.clone())
    }
}

/// Whether little of it is left: a minute, or a tenth where it is short.
fn is_ending(policy: &PolicyForm) -> bool {
    let margin = MARGIN.min(Duration::from_secs(policy.expires) / 10);
    Instant::now() + margin >= policy.ends()
}
