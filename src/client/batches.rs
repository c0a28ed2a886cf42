//! The routes of batches, typed.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use longshore_jobs::model::Target;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::api::{Api, PolicyForm, Upload};
use super::call::{Answer, Call};
use super::transport::ApiError;

/// How many uploads one page of a listing shows.
const PAGE: usize = 1_000;

/// A batch as the server shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Batch {
    /// Its id.
    pub(crate) id: Uuid,
    /// When it ceased to take anything in.
    #[serde(default)]
    pub(crate) closed_at: Option<String>,
    /// Whether every line has its upload.
    pub(crate) ready: bool,
    /// Tasks of which nothing has come in yet.
    #[serde(rename = "taskStatusPending")]
    pub(crate) pending: u64,
    /// Tasks whose bytes are being verified and stored.
    #[serde(rename = "taskStatusRunning")]
    pub(crate) running: u64,
    /// The form under which all its files are posted; mode `prefix`.
    #[serde(default)]
    pub(crate) upload: Option<PolicyForm>,
}

impl Batch {
    /// Whether every task has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.pending == 0 && self.running == 0
    }
}

/// What to ask a prefix batch for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewPrefix<'a> {
    /// How many files there will be.
    pub(crate) max_files: usize,
    /// Bytes of the largest.
    pub(crate) max_file_size: u64,
    /// Order or style.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<&'a Target>,
}

#[derive(Serialize)]
struct Prefix<'a> {
    mode: &'static str,
    #[serde(flatten)]
    asked: &'a NewPrefix<'a>,
}

/// A page of a batch's uploads.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    /// In the order of their lines.
    pub(crate) uploads: Vec<Upload>,
    /// Where the next page begins; `None` on the last.
    #[serde(default)]
    pub(crate) next: Option<String>,
}

#[derive(Deserialize)]
struct Batches {
    batches: Vec<Batch>,
}

impl Api {
    /// Asks for many uploads: NDJSON lines, each as for a single one. Their policies follow.
    pub(crate) async fn create_batch(&self, lines: Bytes, key: &str) -> Result<Batch, ApiError> {
        let call = Call::post("api/batches").body("application/x-ndjson", lines).keyed(key);
        self.first_batch(&self.call(call).await?)
    }

    /// Asks for one policy for many files. The flag says whether the batch is a new one; `false`: the server knew the key.
    pub(crate) async fn create_prefix(&self, asked: &NewPrefix<'_>, key: &str) -> Result<(Batch, bool), ApiError> {
        let body = serde_json::to_vec(&Prefix { mode: "prefix", asked }).expect("a batch is texts and numbers");
        let answer = self.call(Call::post("api/batches").json(body).keyed(key)).await?;
        Ok((self.first_batch(&answer)?, answer.status != StatusCode::OK))
    }

    /// Where a batch stands; with `wait`, the answer comes when its tasks have ended or that time is over.
    pub(crate) async fn batch(&self, id: Uuid, wait: Option<Duration>) -> Result<Batch, ApiError> {
        self.first_batch(&self.call(Call::get(&format!("api/batches/{id}")).waiting(wait)).await?)
    }

    /// The uploads of a batch behind `after`, those among them that earlier calls had asked for. In pages rather than as one stream: a page
    /// that breaks off is asked for again.
    pub(crate) async fn batch_uploads(&self, id: Uuid, after: Option<&str>) -> Result<Page, ApiError> {
        let after = after.map_or_else(String::new, |after| format!("&after={after}"));
        let answer = self.call(Call::get(&format!("api/batches/{id}/uploads?perPage={PAGE}{after}"))).await?;
        self.read(&answer)
    }

    /// Pins the hashes of a batch's files: `sha256sum` lines in place of those that were there.
    pub(crate) async fn put_manifest(&self, id: Uuid, lines: Bytes) -> Result<(), ApiError> {
        let path = format!("api/batches/{id}/manifest");
        self.call(Call::of(Method::PUT, &path).body("text/plain", lines)).await.map(drop)
    }

    /// A fresh policy for a prefix batch; refused with 409 when it is closed.
    pub(crate) async fn renew_batch_policy(&self, id: Uuid) -> Result<Batch, ApiError> {
        self.first_batch(&self.call(Call::post(&format!("api/batches/{id}/policy"))).await?)
    }

    /// Tells that a prefix batch's bytes are there, should the bucket's notices be late.
    pub(crate) async fn batch_callback(&self, id: Uuid) -> Result<(), ApiError> {
        self.call(Call::post(&format!("api/batches/{id}/callback"))).await.map(drop)
    }

    fn first_batch(&self, answer: &Answer) -> Result<Batch, ApiError> {
        let batches: Batches = self.read(answer)?;
        batches.batches.into_iter().next().ok_or_else(|| self.strange("the answer has no batch"))
    }
}
