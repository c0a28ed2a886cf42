//! One file's way: asked for, delivered, waited for, told of.
//!
//! A file that travels alone takes all the steps by itself. In a batch the asking and the waiting are done for many at once, and
//! the steps between, and whatever goes wrong, are the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longshore_jobs::model::Status;
use uuid::Uuid;

use super::Run;
use super::content::Ready;
use super::outcome::{DEAD, Landed, Outcome, Stop};
use super::post::post;
use crate::client::api::Upload;
use crate::client::transport::ApiError;

/// How long the server may take before we tell it by a callback that the bytes are there.
pub(super) const NOTICE: Duration = Duration::from_secs(5);
/// How long one request waits for the final state after that.
pub(super) const WAIT: Duration = Duration::from_secs(20);
/// How long a policy may take to be signed.
pub(super) const SIGNING: Duration = Duration::from_secs(60);
/// The least time between two questions: a server that does not wait must not be asked in a tight loop.
pub(super) const BETWEEN: Duration = Duration::from_millis(250);
/// How often a policy is renewed before the file is given up.
const RENEWALS: u32 = 3;

/// How long so many bytes may take to become final: ten minutes, and a second for each megabyte.
pub(super) fn settling(bytes: u64) -> Duration {
    Duration::from_secs(600 + bytes / 1_000_000)
}

/// A file on its way.
pub(super) struct Journey {
    run: Arc<Run>,
    ready: Ready,
    upload_id: Option<Uuid>,
    /// Whether the upload is new with this run.
    created: bool,
    /// Whether this run has posted the bytes.
    sent: bool,
    renewals: u32,
    /// Bytes that progress has been told of.
    travelled: Arc<AtomicU64>,
}

impl Journey {
    /// A file whose upload is yet to be asked for.
    pub(super) fn new(run: &Arc<Run>, ready: Ready) -> Self {
        let (upload_id, created, sent, renewals) = (None, false, false, 0);
        Self { run: Arc::clone(run), ready, upload_id, created, sent, renewals, travelled: Arc::default() }
    }

    /// A file whose upload a batch has; `created`: by that batch.
    pub(super) fn within(run: &Arc<Run>, ready: Ready, upload: &Upload, created: bool) -> Self {
        Self { upload_id: Some(upload.id), created, ..Self::new(run, ready) }
    }

    /// All the way. An error is one that no other file would escape.
    pub(super) async fn alone(mut self) -> Result<(), ApiError> {
        let ended = match self.ask(None).await {
            Ok(upload) => self.settle(upload).await,
            Err(stop) => Err(stop),
        };
        self.end(ended).await
    }

    /// From where the upload stands to its end.
    pub(super) async fn go_on(mut self, upload: Upload) -> Result<(), ApiError> {
        let ended = self.settle(upload).await;
        self.end(ended).await
    }

    async fn ask(&mut self, wait: Option<Duration>) -> Result<Upload, Stop> {
        let target = self.run.target.as_ref();
        let client_ref = self.ready.client_ref(target);
        let wish = self.ready.wish(target, &client_ref);
        let (upload, created) = self.run.api.create_upload(&wish, wait).await?;
        self.created |= created;
        self.upload_id = Some(upload.id);
        Ok(upload)
    }

    async fn settle(&mut self, mut upload: Upload) -> Result<Upload, Stop> {
        loop {
            // Bytes that came too late for their policy get another.
            if !self.sent || upload.status == Status::Expired {
                upload = self.deliver(upload).await?;
            }
            upload = self.wait(upload).await?;
            if upload.status != Status::Expired {
                return Ok(upload);
            }
        }
    }

    /// Posts the bytes where they are wanted, and again under a fresh policy where the first ran out.
    pub(super) async fn deliver(&mut self, mut upload: Upload) -> Result<Upload, Stop> {
        loop {
            upload = self.signed(upload).await?;
            match (upload.status, &upload.upload) {
                (Status::Issued, Some(policy)) => {
                    if post(&self.run, policy, &self.ready, &self.travelled).await? {
                        self.sent = true;
                        return Ok(upload);
                    }
                }
                (Status::Expired, _) => {}
                _ => return Ok(upload),
            }
            if self.renewals == RENEWALS {
                return Err(Stop::File(format!(
                    "its policy ran out {} times before the bytes were there",
                    RENEWALS + 1
                )));
            }
            self.renewals += 1;
            upload = self.renew(&upload).await?;
        }
    }

    /// Asks until the upload has a policy or needs none.
    async fn signed(&mut self, mut upload: Upload) -> Result<Upload, Stop> {
        let deadline = Instant::now() + SIGNING;
        while lacks_policy(&upload) {
            if upload.attention || Instant::now() >= deadline {
                return Err(Stop::File("no policy was signed in time: does a worker run?".to_owned()));
            }
            // A known `ref` answers with the same upload, so asking again is how to wait for its policy.
            tokio::time::sleep(Duration::from_millis(50)).await;
            upload = self.ask(Some(Duration::from_secs(10))).await?;
        }
        Ok(upload)
    }

    async fn renew(&self, upload: &Upload) -> Result<Upload, Stop> {
        match self.run.api.renew_policy(upload.id).await {
            // It has moved on in the meantime: the bytes are there.
            Err(ApiError::Refused { status: 409, .. }) => Ok(self.run.api.upload(upload.id, None).await?),
            other => Ok(other?),
        }
    }

    /// Waits until the upload is final; calls back once when that takes long.
    async fn wait(&self, mut upload: Upload) -> Result<Upload, Stop> {
        let deadline = Instant::now() + settling(self.ready.size);
        let mut wait = NOTICE;
        while !upload.status.is_final() {
            if upload.attention {
                return Err(Stop::File(DEAD.to_owned()));
            }
            if Instant::now() >= deadline {
                return Err(Stop::File(format!("still {} after a long wait: run again to go on", upload.status)));
            }
            let asked = Instant::now();
            upload = self.run.api.upload(upload.id, Some(wait)).await?;
            if upload.status.is_final() {
                break;
            }
            if wait == NOTICE {
                self.run.api.callback(upload.id).await?;
                wait = WAIT;
            }
            tokio::time::sleep(BETWEEN.saturating_sub(asked.elapsed())).await;
        }
        Ok(upload)
    }

    /// Tells how the file ended. An upload of this run that the bytes will never come for is given up, which frees its `ref`.
    pub(super) async fn end(self, ended: Result<Upload, Stop>) -> Result<(), ApiError> {
        if let Err(Stop::File(_)) = ended {
            self.give_up().await;
        }
        let Self { run, ready, upload_id, created, sent, travelled, .. } = self;
        let landed = Landed { ready, moved: created || sent, sent, travelled: travelled.load(Ordering::Relaxed) };
        match ended {
            Ok(upload) => run.tell_end(landed, upload).await,
            Err(Stop::File(reason)) => run.tell(Outcome::short(landed, upload_id, reason)).await,
            Err(Stop::Run(error)) => return Err(error),
        }
        Ok(())
    }

    async fn give_up(&self) {
        let Some(id) = self.upload_id.filter(|_| self.created && !self.sent) else { return };
        if let Err(error) = self.run.api.cancel_upload(id).await {
            tracing::debug!(%error, upload = %id, "it will expire instead");
        }
    }
}

/// Whether a worker has yet to sign its policy: the first, or a fresh one in place of one that ran out.
fn lacks_policy(upload: &Upload) -> bool {
    upload.status == Status::Requested || (upload.status == Status::Issued && upload.upload.is_none())
}
