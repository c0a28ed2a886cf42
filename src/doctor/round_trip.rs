//! An upload through the real API, as a client would make it: asked for, posted, noticed, stored, read and deleted.
//!
//! Nothing but the upload itself is touched. Doctor keeps silent about the bytes until the notice has had its time, since a
//! callback would hide that no notice came. The poller would hide it too: who told is read from the ledger, and where there is
//! none to read, the notice has to come before the poller looks.

use std::time::{Duration, Instant};

use bytes::Bytes;
use longshore_jobs::job::{Limits, with_causes};
use longshore_jobs::ledger::{Db, uploads};
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::model::{self, Digest, Status};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Finding, Outcome};
use crate::client::api::{NewUpload, Upload};
use crate::client::form::Content;
use crate::client::{Api, ApiError};
use crate::config::InboxEngine;

/// The org that the uploads of examinations belong to. It stays.
pub(crate) const ORG: &str = "longshore-doctor";
const FILENAME: &str = "longshore-doctor.bin";
/// Large enough to be told from nothing.
const SIZE: usize = 64 * 1024;

/// How long one answer may take, with all tries.
const ANSWER: Duration = Duration::from_secs(20);
/// How long hashing and storing may take.
const SETTLING: Duration = Duration::from_secs(30);
const BETWEEN: Duration = Duration::from_millis(15);

/// How a round trip is made.
pub(crate) struct Trip {
    /// How long the bucket's notice may take.
    notice: Duration,
    /// Whether notices are to be expected at all.
    has_notices: bool,
    /// When the poller looks.
    first_poll: Duration,
    /// Where to read who told of the bytes.
    ledger: Option<Db>,
}

const MEND_NOTICES: &str = "see the checks `notification` and `inbox`; the log of the intake says what it receives. Until it is \
    mended, uploads whose clients do not call back wait for the poller";

impl Trip {
    /// By what the settings say of notices.
    pub(crate) fn of(inbox: &InboxEngine, limits: &Limits, notice: Duration) -> Self {
        Self { notice, has_notices: *inbox != InboxEngine::None, first_poll: limits.first_poll, ledger: None }
    }

    /// With the ledger of the server, as far as is known here.
    pub(crate) fn with_ledger(self, ledger: Option<Db>) -> Self {
        Self { ledger, ..self }
    }

    /// Makes it, until it is stopped. What cannot be taken back when it fails halfway is told of.
    pub(crate) async fn make(self, api: &Api, stop: &CancellationToken) -> Vec<Finding> {
        let mut steps = Steps::default();
        let made = stop.run_until_cancelled(self.go(api, &mut steps)).await.unwrap_or(Err(Stop::Interrupted));
        if let Err(stop) = made {
            let left = steps.clear(api).await;
            steps.findings.push(stop.outcome(left).of("round trip"));
        } else {
            steps.findings.push(Outcome::ok(steps.told.join(", ")).of("round trip"));
        }
        steps.findings
    }

    async fn go(&self, api: &Api, steps: &mut Steps) -> Result<(), Stop> {
        let bytes: Bytes = (0..SIZE).map(|_| rand::random::<u8>()).collect::<Vec<_>>().into();
        let upload = steps.time("sign", self.ask(api, &bytes)).await?;
        steps.upload = Some(upload.id);
        let form = upload.upload.as_ref().ok_or(Stop::Unsigned)?;
        steps.time("post", answered("post", api.post_form(form, &Content::Whole(bytes.clone())))).await?;
        let upload = self.follow(api, upload.id, steps).await?;
        if upload.status != Status::Done {
            return Err(Stop::Ended(upload.status, upload.reason));
        }
        let file = upload.file_id.ok_or(Stop::Ended(upload.status, None))?;
        steps.file = Some(file);
        let came = steps.time("get", answered("get", api.content(file))).await?;
        if came != bytes {
            return Err(Stop::Different(came.len()));
        }
        steps.time("delete", answered("delete", api.delete_file(file))).await?;
        (steps.upload, steps.file) = (None, None);
        Ok(())
    }

    async fn ask(&self, api: &Api, bytes: &Bytes) -> Result<Upload, Stop> {
        let client_ref = Uuid::new_v4().to_string();
        let new = NewUpload {
            filename: FILENAME,
            size: bytes.len() as u64,
            content_type: None,
            sha256: Digest::of(bytes),
            target: None,
            client_ref: &client_ref,
        };
        answered("ask for an upload", api.create_upload(&new, Some(Duration::from_secs(10))))
            .await
            .map(|(upload, _)| upload)
    }

    /// Watches the upload on its way to its end.
    async fn follow(&self, api: &Api, id: Uuid, steps: &mut Steps) -> Result<Upload, Stop> {
        let posted = Instant::now();
        let patience = self.patience(self.row(id).await.is_some());
        let mut upload = watch(api, id, patience, |status| !is_waiting(status)).await?;
        if is_waiting(upload.status) {
            answered("call back", api.callback(id)).await?;
            steps.findings.push(self.judge_silence(patience).of("notices"));
            upload = watch(api, id, SETTLING, |status| !is_waiting(status)).await?;
        } else {
            let took = posted.elapsed();
            let via = self.row(id).await.and_then(|row| row.arrived_via);
            steps.findings.push(judge_arrival(via, took).of("notices"));
        }
        if is_waiting(upload.status) {
            return Err(Stop::Unseen);
        }
        steps.told.push(format!("event {} ms", posted.elapsed().as_millis()));
        let arrived = Instant::now();
        let upload = watch(api, id, SETTLING, Status::is_final).await?;
        if !upload.status.is_final() {
            return Err(Stop::Standing(upload.status, upload.attention));
        }
        steps.told.push(format!("hash and store {} ms", arrived.elapsed().as_millis()));
        Ok(upload)
    }

    /// The upload as the ledger has it; `None` where that is not at hand, or is another than the server's.
    async fn row(&self, id: Uuid) -> Option<model::Upload> {
        let found = timeout(ANSWER, uploads::find(self.ledger.as_ref()?, id)).await;
        found.ok()?.ok()?
    }

    /// How long to wait for the notice; where nobody says who told, not for as long as the poller takes.
    fn patience(&self, is_told: bool) -> Duration {
        match (self.has_notices, is_told) {
            (false, _) => Duration::ZERO,
            (true, true) => self.notice,
            (true, false) => self.notice.min(self.first_poll / 10 * 9),
        }
    }

    fn judge_silence(&self, waited: Duration) -> Outcome {
        if !self.has_notices {
            return Outcome::skipped("inbox_url is none: doctor has called back, as clients have to");
        }
        Outcome::failed(format!("no notice came within {waited:?}; doctor had to call back"), MEND_NOTICES)
    }
}

fn judge_arrival(via: Option<ArrivedVia>, took: Duration) -> Outcome {
    let took = took.as_millis();
    match via {
        Some(ArrivedVia::Poll) => {
            Outcome::failed(format!("no notice came: the poller found the bytes after {took} ms"), MEND_NOTICES)
        }
        Some(ArrivedVia::Callback) => {
            Outcome::warning(format!("somebody else called back after {took} ms, before any notice came"), "ask again")
        }
        _ => Outcome::ok(format!("the bucket told of the bytes in {took} ms")),
    }
}

/// What has been done, and what is there to be cleared away.
#[derive(Default)]
struct Steps {
    told: Vec<String>,
    findings: Vec<Finding>,
    upload: Option<Uuid>,
    file: Option<Uuid>,
}

impl Steps {
    async fn time<T>(&mut self, step: &str, work: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
        let started = Instant::now();
        let done = work.await?;
        self.told.push(format!("{step} {} ms", started.elapsed().as_millis()));
        Ok(done)
    }

    /// Takes back what was done; says what could not be.
    async fn clear(&self, api: &Api) -> Option<String> {
        let upload = self.upload?;
        let why = match timeout(ANSWER, self.take_back(api, upload)).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => with_causes(&error),
            Err(_) => format!("no answer within {ANSWER:?}"),
        };
        Some(format!("the upload {upload} is left in the org {ORG}: {why}"))
    }

    async fn take_back(&self, api: &Api, upload: Uuid) -> Result<(), ApiError> {
        if let Some(file) = self.file {
            return api.delete_file(file).await;
        }
        let Err(refused) = api.cancel_upload(upload).await else { return Ok(()) };
        let upload = api.upload(upload, None).await?;
        match upload.file_id {
            Some(file) => api.delete_file(file).await,
            None if upload.status.is_final() => Ok(()),
            None => Err(refused),
        }
    }
}

/// Whether the bytes are yet to be noticed.
const fn is_waiting(status: Status) -> bool {
    matches!(status, Status::Requested | Status::Issued)
}

/// The upload once `enough` holds of it, or that time is over.
async fn watch(api: &Api, id: Uuid, patience: Duration, enough: impl Fn(Status) -> bool) -> Result<Upload, Stop> {
    let started = Instant::now();
    loop {
        let upload = answered("look at the upload", api.upload(id, None)).await?;
        if enough(upload.status) || upload.attention || started.elapsed() >= patience {
            return Ok(upload);
        }
        sleep(BETWEEN).await;
    }
}

async fn answered<T>(step: &'static str, call: impl Future<Output = Result<T, ApiError>>) -> Result<T, Stop> {
    match timeout(ANSWER, Box::pin(call)).await {
        Ok(answer) => answer.map_err(|error| Stop::Call(step, error)),
        Err(_) => Err(Stop::Silent(step)),
    }
}

/// Where a round trip ended early.
#[derive(Debug)]
enum Stop {
    Interrupted,
    Call(&'static str, ApiError),
    Silent(&'static str),
    Unsigned,
    Unseen,
    Standing(Status, bool),
    Ended(Status, Option<String>),
    Different(usize),
}

impl Stop {
    /// `left`: what could not be taken back.
    fn outcome(&self, left: Option<String>) -> Outcome {
        let (detail, mend) = match self {
            Self::Interrupted => ("it was stopped".to_owned(), "run it again"),
            Self::Call(step, error) => (format!("{step}: {}", with_causes(error)), mend_call(error)),
            Self::Silent(step) => {
                (format!("{step}: no answer within {ANSWER:?}"), "see the checks above, and the log of the service")
            }
            Self::Unsigned => (
                "no worker has signed the policy".to_owned(),
                "see that a worker runs for the pool issue and that it is not paused: `longshore pool list`",
            ),
            Self::Unseen => (
                "the bytes were posted, and no worker has seen them, not even after a callback".to_owned(),
                "see that a worker runs for the pool arrive and that it is not paused; its log says why it cannot HEAD",
            ),
            Self::Standing(status, true) => (
                format!("its job is dead, and the upload stands at {status}"),
                "longshore jobs list\nthen `longshore jobs explain ID`",
            ),
            Self::Standing(status, false) => (
                format!("the upload stands at {status} after {SETTLING:?}"),
                "see that workers run for the pools verify and store and that neither is paused: `longshore pool list`; their log",
            ),
            Self::Ended(status, reason) => (
                format!(
                    "the upload ended as {status}{}",
                    reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default()
                ),
                "the bucket does not keep bytes as they were sent; see its log, and that nobody else writes below staging/",
            ),
            Self::Different(size) => (
                format!("{size} other bytes came back than the {SIZE} that were sent"),
                "something between here and the bucket changes what it passes on: a proxy, or a CDN",
            ),
        };
        Outcome::failed(left.map_or_else(|| detail.clone(), |left| format!("{detail}; {left}")), mend)
    }
}

fn mend_call(error: &ApiError) -> &'static str {
    match error {
        ApiError::Unreachable { .. } | ApiError::TooSlow { .. } => {
            "see that the address is reached from here: name, proxy, firewall, certificate"
        }
        ApiError::Refused { status: 401, .. } => "give a token that this server knows: --token, or leave --server away",
        ApiError::Refused { status: 403, .. } => "give a token with the scopes upload and read: `longshore key create`",
        ApiError::FormRefused { .. } => "see the checks of the bucket",
        _ => "see the log of the service: the request's id is in it",
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status as Word;
    use super::*;

    #[test]
    fn a_notice_that_does_not_come_fails_unless_there_are_none() {
        let silence = |inbox| {
            let trip = Trip::of(&inbox, &Limits::default(), NOTICE);
            trip.judge_silence(NOTICE).of("notices").status()
        };
        assert_eq!(silence(InboxEngine::Webhook), Word::Failed);
        assert_eq!(silence(InboxEngine::None), Word::Skipped);
    }

    const NOTICE: Duration = Duration::from_secs(120);

    /// Once any move of the upload was taken for the bucket's notice, and `--notice-within 2m` waited for the poller's.
    #[test]
    fn what_the_poller_has_found_the_bucket_has_not_told() {
        let judge = |via| judge_arrival(via, NOTICE).of("notices").status();
        assert_eq!(judge(Some(ArrivedVia::Poll)), Word::Failed);
        assert_eq!(judge(Some(ArrivedVia::Notice)), Word::Ok);
        assert_eq!(judge(None), Word::Ok, "it came before the poller looked");

        let trip = Trip::of(&InboxEngine::Webhook, &Limits::default(), NOTICE);
        assert_eq!(trip.patience(true), NOTICE);
        assert!(trip.patience(false) < Limits::default().first_poll);
    }

    #[test]
    fn where_a_trip_ends_early_there_is_something_to_do() {
        let refused = |status| ApiError::Refused { status, slug: String::new(), message: "no".to_owned() };
        for stop in [
            Stop::Call("get", refused(401)),
            Stop::Silent("post"),
            Stop::Unsigned,
            Stop::Unseen,
            Stop::Standing(Status::Arrived, true),
            Stop::Standing(Status::Verified, false),
            Stop::Ended(Status::Rejected, Some("digest_mismatch".to_owned())),
            Stop::Different(0),
        ] {
            let Outcome::Failed(trouble) = stop.outcome(Some("it is left".to_owned())) else { panic!("{stop:?}") };
            assert!(!trouble.mend.is_empty() && trouble.detail.ends_with("; it is left"), "{stop:?}");
        }
    }
}
