//! One file's way: hash, ask, post the form, wait until it is final.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longshore_jobs::job::with_causes;
use longshore_jobs::model::{Digest, Status, Target};
use serde::Serialize;
use uuid::Uuid;

use super::content;
use super::progress::Progress;
use super::walk::Found;
use crate::client::api::{Api, NewUpload, PolicyForm, Upload};
use crate::client::form::{self, Content, Sent};
use crate::client::transport::ApiError;

/// How long the server may take before we tell it by a callback that the bytes are there.
const NOTICE: Duration = Duration::from_secs(5);
/// How long one request waits for the final state after that.
const WAIT: Duration = Duration::from_secs(20);
/// How long a policy may take to be signed.
const SIGNING: Duration = Duration::from_secs(60);
/// How long an upload may take to become final; a second more per megabyte.
const SETTLING: Duration = Duration::from_secs(600);
/// How often a policy is renewed before the file is given up.
const RENEWALS: u32 = 3;

/// How a file ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    /// What it is called.
    #[serde(rename = "path")]
    pub(crate) name: String,
    /// What came of it.
    #[serde(flatten)]
    pub(crate) end: End,
    /// Bytes when it was found.
    pub(crate) size: u64,
    /// `None` when it could not be read.
    pub(crate) hash: Option<Digest>,
    /// The upload; `None` when there is none.
    pub(crate) upload_id: Option<Uuid>,
    /// The file entry, once there is one.
    pub(crate) file_id: Option<Uuid>,
    /// When its upload last moved by what this run did; empty otherwise. By the server's clock, sorts as text.
    #[serde(skip)]
    pub(super) moved_at: String,
    /// Bytes that progress was told of while the file was on its way.
    #[serde(skip)]
    pub(super) travelled: u64,
}

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(crate) enum End {
    /// The org has new bytes.
    Uploaded,
    /// The org had the bytes; it has a new entry for them.
    Duplicate,
    /// An earlier run has uploaded this very file.
    AlreadyThere,
    /// It is not there.
    Failed {
        /// For a human.
        reason: String,
    },
}

/// Why a file stops short of its end.
enum Stop {
    /// This file alone.
    File(String),
    /// Every file.
    Run(ApiError),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        if error.is_about_everything() { Self::Run(error) } else { Self::File(with_causes(&error)) }
    }
}

/// Takes one file all the way. An error is one that no other file would escape.
pub(super) async fn ingest(
    api: Api,
    target: Arc<Option<Target>>,
    found: Found,
    progress: Arc<Progress>,
) -> Result<Outcome, ApiError> {
    let end = End::Uploaded;
    let (name, size) = (found.name.clone(), found.size);
    let (hash, upload_id, file_id, moved_at, travelled) = (None, None, None, String::new(), 0);
    let outcome = Outcome { name, end, size, hash, upload_id, file_id, moved_at, travelled };
    let mut journey = Journey { api, progress, outcome, created: false, sent: false, travelled: Arc::default() };
    match journey.travel(&found, target.as_ref().as_ref()).await {
        Ok(end) => journey.outcome.end = end,
        Err(Stop::File(reason)) => journey.outcome.end = End::Failed { reason },
        Err(Stop::Run(error)) => return Err(error),
    }
    journey.outcome.travelled = journey.travelled.load(Ordering::Relaxed);
    Ok(journey.outcome)
}

struct Journey {
    api: Api,
    progress: Arc<Progress>,
    outcome: Outcome,
    /// Whether the upload is new with this run.
    created: bool,
    /// Whether this run has posted the bytes.
    sent: bool,
    /// Bytes that progress has been told of.
    travelled: Arc<AtomicU64>,
}

impl Journey {
    async fn travel(&mut self, found: &Found, target: Option<&Target>) -> Result<End, Stop> {
        let (content, sha256) = content::read(found).await?;
        self.outcome.hash = Some(sha256);
        let client_ref = content::client_ref(&found.name, sha256, target);
        let new = NewUpload {
            filename: &found.name,
            size: content.size(),
            content_type: mime_guess::from_path(&found.path).first_raw(),
            sha256,
            target,
            client_ref: &client_ref,
        };
        let upload = self.ask(&new, None).await?;
        let upload = self.settle(upload, &new, &content).await?;
        self.outcome.file_id = upload.file_id;
        let moved = self.created || self.sent;
        if moved {
            self.outcome.moved_at = upload.updated_at;
        }
        Ok(match (upload.deduplicated, moved) {
            (_, false) => End::AlreadyThere,
            (Some(true), true) => End::Duplicate,
            (_, true) => End::Uploaded,
        })
    }

    async fn ask(&mut self, new: &NewUpload<'_>, wait: Option<Duration>) -> Result<Upload, Stop> {
        let (upload, created) = self.api.create_upload(new, wait).await?;
        self.created |= created;
        self.outcome.upload_id = Some(upload.id);
        Ok(upload)
    }

    /// Asks until the upload has a policy or needs none.
    async fn signed(&mut self, mut upload: Upload, new: &NewUpload<'_>) -> Result<Upload, Stop> {
        let deadline = Instant::now() + SIGNING;
        while lacks_policy(&upload) {
            if upload.attention || Instant::now() >= deadline {
                return Err(Stop::File("no policy was signed in time: does a worker run?".to_owned()));
            }
            // A known `ref` answers with the same upload, so asking again is how to wait for its policy.
            tokio::time::sleep(Duration::from_millis(50)).await;
            upload = self.ask(new, Some(Duration::from_secs(10))).await?;
        }
        Ok(upload)
    }

    /// Posts the bytes where they are wanted, and again under a fresh policy where the first ran out.
    async fn settle(&mut self, mut upload: Upload, new: &NewUpload<'_>, content: &Content) -> Result<Upload, Stop> {
        let mut renewals = 0;
        loop {
            upload = self.signed(upload, new).await?;
            let ran_out = match (upload.status, &upload.upload) {
                (Status::Issued, Some(form)) => !self.post(form, content).await?,
                _ => upload.status == Status::Expired,
            };
            if !ran_out {
                upload = self.wait(upload, content.size()).await?;
            }
            match upload.status {
                Status::Done => return Ok(upload),
                Status::Issued | Status::Expired if renewals < RENEWALS => upload = self.renew(&upload).await?,
                Status::Rejected => return Err(Stop::File(rejection(&upload))),
                other => return Err(Stop::File(format!("the upload ended {other}"))),
            }
            renewals += 1;
        }
    }

    /// `false` when the bucket refused because the policy ran out.
    async fn post(&mut self, policy: &PolicyForm, content: &Content) -> Result<bool, Stop> {
        let ends = Instant::now() + Duration::from_secs(policy.expires);
        let (progress, travelled) = (Arc::clone(&self.progress), Arc::clone(&self.travelled));
        let sent = move |sent| match sent {
            Sent::More(bytes) => {
                travelled.fetch_add(bytes, Ordering::Relaxed);
                progress.sent(bytes);
            }
            Sent::Again => progress.unsent(travelled.swap(0, Ordering::Relaxed)),
        };
        match form::post(&self.api.transport, policy, content, sent).await {
            Ok(()) => {
                self.sent = true;
                Ok(true)
            }
            // Clocks differ, so the bucket's word counts as much as our own.
            Err(ApiError::FormRefused { status, message, .. })
                if status == 403 && (Instant::now() >= ends || message.to_lowercase().contains("expired")) =>
            {
                Ok(false)
            }
            // A bucket may hang up on a policy that ran out, rather than read to the end of the form.
            Err(ApiError::Unreachable { .. } | ApiError::TooSlow { .. }) if Instant::now() >= ends => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn renew(&self, upload: &Upload) -> Result<Upload, Stop> {
        match self.api.renew_policy(upload.id).await {
            // It has moved on in the meantime: the bytes are there.
            Err(ApiError::Refused { status: 409, .. }) => Ok(self.api.upload(upload.id, None).await?),
            other => Ok(other?),
        }
    }

    /// Waits until the upload is final; calls back once when that takes long.
    async fn wait(&self, mut upload: Upload, size: u64) -> Result<Upload, Stop> {
        let deadline = Instant::now() + SETTLING + Duration::from_secs(size / 1_000_000);
        let mut wait = NOTICE;
        while !upload.status.is_final() {
            if upload.attention {
                return Err(Stop::File("its job is dead: ask the operator for `longshore jobs list`".to_owned()));
            }
            if Instant::now() >= deadline {
                return Err(Stop::File(format!("still {} after {SETTLING:?}: run again to go on", upload.status)));
            }
            let asked = Instant::now();
            upload = self.api.upload(upload.id, Some(wait)).await?;
            if upload.status.is_final() {
                break;
            }
            if wait == NOTICE {
                self.api.callback(upload.id).await?;
                wait = WAIT;
            }
            // A server that does not wait must not be asked in a tight loop.
            tokio::time::sleep(Duration::from_millis(250).saturating_sub(asked.elapsed())).await;
        }
        Ok(upload)
    }
}

/// Whether a worker has yet to sign its policy: the first, or a fresh one in place of one that ran out.
fn lacks_policy(upload: &Upload) -> bool {
    upload.status == Status::Requested || (upload.status == Status::Issued && upload.upload.is_none())
}

fn rejection(upload: &Upload) -> String {
    let reason = upload.reason.as_deref().unwrap_or("no reason given");
    match reason {
        "digest_mismatch" | "size_mismatch" => {
            format!("rejected: {reason} (did it change while it was sent? run again)")
        }
        _ => format!("rejected: {reason}"),
    }
}
