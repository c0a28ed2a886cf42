//! The routes of the API that the client uses, typed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use longshore_jobs::model::{Digest, Status, Target};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::call::{Answer, Call};
use super::form::{self, Content};
use super::transport::{ApiError, Transport};

/// A server and the token to come in with. Cheap to clone; `Debug` hides the token.
#[derive(Clone)]
pub(crate) struct Api {
    pub(super) base: Url,
    pub(super) token: String,
    pub(super) transport: Transport,
}

/// What to ask an upload for.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NewUpload<'a> {
    /// Shown, and never a path or key.
    pub(crate) filename: &'a str,
    /// Bytes.
    pub(crate) size: u64,
    /// The media type; `None` when the name tells none.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<&'a str>,
    /// Of the bytes.
    pub(crate) sha256: Digest,
    /// Order or style.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<&'a Target>,
    /// The client's own id: asking twice gives the same upload.
    #[serde(rename = "ref")]
    pub(crate) client_ref: &'a str,
}

/// An upload as the server shows it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Upload {
    /// Its id.
    pub(crate) id: Uuid,
    /// Where it stands.
    pub(crate) status: Status,
    /// The file's name; its relative path in a prefix batch.
    #[serde(default)]
    pub(crate) filename: String,
    /// The client's own id.
    #[serde(default, rename = "ref")]
    pub(crate) client_ref: Option<String>,
    /// Why it was rejected.
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// The file that it became; `None` before that, and again when that file was deleted.
    #[serde(default)]
    pub(crate) file_id: Option<Uuid>,
    /// Of its bytes, as far as the server knows.
    #[serde(default)]
    pub(crate) hash: Option<Digest>,
    /// Whether the org already had the bytes; `None` until that is known.
    #[serde(default)]
    pub(crate) deduplicated: Option<bool>,
    /// The batch that has made it.
    #[serde(default)]
    pub(crate) batch_id: Option<Uuid>,
    /// RFC 3339 in UTC with milliseconds, so that it sorts as text.
    #[serde(default)]
    pub(crate) updated_at: String,
    /// Whether its job is dead, so that nothing will happen until an operator acts.
    #[serde(default)]
    pub(crate) attention: bool,
    /// The form to post; `None` when there is none yet or none is needed.
    #[serde(default)]
    pub(crate) upload: Option<PolicyForm>,
}

/// A signed policy.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PolicyForm {
    /// Where to post.
    pub(crate) url: String,
    /// What goes before the file.
    pub(crate) fields: BTreeMap<String, String>,
    /// Seconds from when it came.
    pub(crate) expires: u64,
    /// When it came.
    #[serde(skip, default = "Instant::now")]
    pub(crate) came: Instant,
}

impl PolicyForm {
    /// When it is of no use any more, by our clock.
    pub(crate) fn ends(&self) -> Instant {
        self.came + Duration::from_secs(self.expires)
    }
}

/// The org's report.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Entries.
    pub(crate) count: u64,
    /// Megabytes of all entries.
    pub(crate) size: f64,
    /// Distinct contents.
    #[serde(default)]
    pub(crate) unique_count: u64,
    /// Megabytes of the distinct contents.
    #[serde(default)]
    pub(crate) unique_size: f64,
    /// When it was last folded; sorts as text. `None` before the first time.
    #[serde(default)]
    pub(crate) as_of: Option<String>,
}

#[derive(Deserialize)]
struct Uploads {
    uploads: Vec<Upload>,
}

#[derive(Deserialize)]
struct Reports {
    files: Vec<Report>,
}

impl Api {
    /// The server at `base`, for example `http://127.0.0.1:8080`.
    pub(crate) fn new(mut base: Url, token: String) -> Self {
        // Without a slash at its end, joining a path would cut off the last segment of the base.
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Self { base, token, transport: Transport::default() }
    }

    /// Where the server is.
    #[cfg(test)]
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// Asks for an upload. The flag says whether it is a new one; `false`: the server knew the `ref`.
    pub(crate) async fn create_upload(
        &self,
        new: &NewUpload<'_>,
        wait: Option<Duration>,
    ) -> Result<(Upload, bool), ApiError> {
        let body = serde_json::to_vec(new).expect("an upload is texts and numbers");
        let answer = self.call(Call::post("api/uploads").json(body).waiting(wait)).await?;
        Ok((self.first_upload(&answer)?, answer.status != StatusCode::OK))
    }

    /// Where an upload stands; with `wait`, the answer comes when it is final or that time is over.
    pub(crate) async fn upload(&self, id: Uuid, wait: Option<Duration>) -> Result<Upload, ApiError> {
        let answer = self.call(Call::get(&format!("api/uploads/{id}")).waiting(wait)).await?;
        self.first_upload(&answer)
    }

    /// Posts the bytes with a policy's form to the bucket.
    pub(crate) async fn post_form(&self, form: &PolicyForm, content: &Content) -> Result<(), ApiError> {
        form::post(&self.transport, form, content, |_| {}).await
    }

    /// Tells that the bytes are there, should the bucket's notice be late.
    pub(crate) async fn callback(&self, id: Uuid) -> Result<(), ApiError> {
        self.call(Call::post(&format!("api/uploads/{id}/callback"))).await.map(drop)
    }

    /// Gives an upload up whose bytes will not come; refused with 409 when it has moved on.
    pub(crate) async fn cancel_upload(&self, id: Uuid) -> Result<(), ApiError> {
        self.call(Call::of(Method::DELETE, &format!("api/uploads/{id}"))).await.map(drop)
    }

    /// A fresh policy for an upload whose policy ran out; refused with 409 when the upload has moved on.
    pub(crate) async fn renew_policy(&self, id: Uuid) -> Result<Upload, ApiError> {
        let answer = self.call(Call::post(&format!("api/uploads/{id}/policy"))).await?;
        self.first_upload(&answer)
    }

    /// The report of the token's org.
    pub(crate) async fn report(&self) -> Result<Report, ApiError> {
        let reports: Reports = self.read(&self.call(Call::get("api/files/report")).await?)?;
        reports.files.into_iter().next().ok_or_else(|| self.strange("the report is empty"))
    }

    fn first_upload(&self, answer: &Answer) -> Result<Upload, ApiError> {
        let uploads: Uploads = self.read(answer)?;
        uploads.uploads.into_iter().next().ok_or_else(|| self.strange("the answer has no upload"))
    }

    pub(super) fn strange(&self, what: &str) -> ApiError {
        ApiError::Strange { url: self.base.to_string(), what: what.to_owned() }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}
