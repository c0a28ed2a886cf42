//! Many files posted under one policy, which is renewed before it ends, for as long as the batch is open.

use std::collections::HashSet;
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

/// What came of the files.
#[derive(Default)]
pub(super) struct Landing {
    /// The bucket has them.
    pub(super) posted: Posted,
    /// They have failed and are told of.
    pub(super) failed: HashSet<String>,
    /// The batch was closed to them.
    pub(super) elsewhere: Vec<Ready>,
}

/// What came of one file.
enum Flown {
    Posted(Landed),
    Failed(String),
    Elsewhere(Ready),
}

impl Extend<Flown> for Landing {
    fn extend<T: IntoIterator<Item = Flown>>(&mut self, flown: T) {
        for one in flown {
            match one {
                Flown::Posted(landed) => drop(self.posted.insert(landed.ready.found.name.clone(), landed)),
                Flown::Failed(name) => drop(self.failed.insert(name)),
                Flown::Elsewhere(ready) => self.elsewhere.push(ready),
            }
        }
    }
}

/// Posts the files under the batch's policy.
pub(super) async fn post_all(run: &Arc<Run>, batch: Batch, wanted: Vec<Ready>) -> Result<Landing, BoxError> {
    let shared = Arc::new(Shared::new(run, batch));
    let (mut flights, mut landing) = (Flights::of(run), Landing::default());
    for ready in wanted {
        landing.extend(flights.launch(fly(Arc::clone(&shared), ready)).await?);
    }
    landing.extend(flights.land().await?);
    Ok(landing)
}

/// Posts one file.
async fn fly(shared: Arc<Shared>, ready: Ready) -> Result<Flown, ApiError> {
    let (travelled, mut ran_out) = (Arc::<AtomicU64>::default(), None);
    let mut reason = "the policy ran out again and again before the bytes were there".to_owned();
    for _ in 0..=RENEWALS {
        let Some(policy) = shared.policy(ran_out).await? else { return Ok(Flown::Elsewhere(ready)) };
        match post(&shared.run, &below(&policy, &ready.found.name), &ready, &travelled).await {
            Ok(true) => {
                let travelled = travelled.load(Ordering::Relaxed);
                return Ok(Flown::Posted(Landed { ready, moved: true, sent: true, travelled }));
            }
            Ok(false) => ran_out = Some(policy.came),
            Err(Stop::File(why)) => {
                reason = why;
                break;
            }
            Err(Stop::Run(error)) => return Err(error),
        }
    }
    let name = ready.found.name.clone();
    let landed = Landed { travelled: travelled.load(Ordering::Relaxed), ..Landed::before(ready) };
    shared.run.tell(Outcome::short(landed, None, reason)).await;
    Ok(Flown::Failed(name))
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
    held: Mutex<Held>,
}

/// The way into the batch.
enum Held {
    /// Nothing that lets a file in: the batch is found again, and its policy has ended.
    Nothing,
    Policy(PolicyForm),
    Closed,
}

impl Shared {
    fn new(run: &Arc<Run>, batch: Batch) -> Self {
        let held = batch.upload.map_or(Held::Nothing, Held::Policy);
        Self { run: Arc::clone(run), batch: batch.id, held: Mutex::new(held) }
    }

    /// A policy that lasts a while, and another than the one that came at `ran_out`; `None` once the batch is closed. Whoever comes first
    /// renews it for all.
    async fn policy(&self, ran_out: Option<Instant>) -> Result<Option<PolicyForm>, ApiError> {
        let mut held = self.held.lock().await;
        let is_wanting = match &*held {
            Held::Nothing => true,
            Held::Policy(policy) => ran_out == Some(policy.came) || is_ending(policy),
            Held::Closed => false,
        };
        if is_wanting {
            *held = self.renewed().await?;
        }
        match &*held {
            Held::Policy(policy) => Ok(Some(policy.clone())),
            Held::Closed | Held::Nothing => Ok(None),
        }
    }

    async fn renewed(&self) -> Result<Held, ApiError> {
        match self.run.api.renew_batch_policy(self.batch).await {
            Err(ApiError::Refused { status: 409, .. }) => Ok(Held::Closed),
            Err(error) => Err(error),
            Ok(Batch { upload: Some(policy), .. }) => Ok(Held::Policy(policy)),
            Ok(Batch { closed_at: Some(_), .. }) => Ok(Held::Closed),
            Ok(_) => Err(self.run.api.strange("the fresh policy is none")),
        }
    }
}

/// Whether little of it is left: a minute, or a tenth where it is short.
fn is_ending(policy: &PolicyForm) -> bool {
    let margin = MARGIN.min(Duration::from_secs(policy.expires) / 10);
    Instant::now() + margin >= policy.ends()
}
