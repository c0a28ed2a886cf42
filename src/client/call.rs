//! One call of the API: what is asked, how it is answered, and what a refusal says.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api::Api;
use super::transport::{ApiError, backoff, travelling};

/// How long an answer may take, beyond what the client asked the server to wait and what the body needs to get there.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often an answer may break off in its middle before that stands.
const CUTS: u32 = 5;

/// A request, as far as one differs from another. All of them may be sent twice.
pub(super) struct Call<'a> {
    method: Method,
    path: &'a str,
    wait: Option<Duration>,
    body: Option<(&'static str, Bytes)>,
    key: Option<&'a str>,
}

/// An answer that means success, whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Bytes,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    message: String,
    error: RefusalDetail,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RefusalDetail {
    #[serde(rename = "type")]
    slug: String,
    message: String,
}

impl Api {
    /// Calls, and again when the answer breaks off in its middle, as it does where a server is restarted.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, ApiError> {
        let url = self.join(call.path)?;
        let mut cuts = 0;
        loop {
            let answer =
                self.transport.send(&url, |client| Ok(call.request(client, &url).bearer_auth(&self.token))).await?;
            let status = answer.status();
            match answer.bytes().await {
                Ok(body) if status.is_success() => return Ok(Answer { status, body }),
                Ok(body) => return Err(refusal(status, &body)),
                Err(_) if cuts < CUTS => cuts += 1,
                Err(source) => return Err(ApiError::Unreachable { url: self.base.to_string(), source }),
            }
            tokio::time::sleep(backoff(cuts)).await;
        }
    }

    pub(super) fn join(&self, path: &str) -> Result<Url, ApiError> {
        self.base.join(path).map_err(|error| self.strange(&error.to_string()))
    }

    pub(super) fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, ApiError> {
        serde_json::from_slice(&answer.body).map_err(|error| self.strange(&error.to_string()))
    }
}

impl<'a> Call<'a> {
    pub(super) fn of(method: Method, path: &'a str) -> Self {
        Self { method, path, wait: None, body: None, key: None }
    }

    pub(super) fn get(path: &'a str) -> Self {
        Self::of(Method::GET, path)
    }

    pub(super) fn post(path: &'a str) -> Self {
        Self::of(Method::POST, path)
    }

    pub(super) fn json(self, body: Vec<u8>) -> Self {
        self.body("application/json", body.into())
    }

    pub(super) fn body(self, content_type: &'static str, body: Bytes) -> Self {
        Self { body: Some((content_type, body)), ..self }
    }

    /// The answer may come so much later.
    pub(super) fn waiting(self, wait: Option<Duration>) -> Self {
        Self { wait, ..self }
    }

    /// A second request with this key is answered as the first was.
    pub(super) fn keyed(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }

    fn request(&self, client: &Client, url: &Url) -> RequestBuilder {
        let mut request = client.request(self.method.clone(), url.clone());
        let sent = self.body.as_ref().map_or(0, |(_, body)| body.len() as u64);
        request = request.timeout(PATIENCE + self.wait.unwrap_or_default() + travelling(sent));
        if let Some(wait) = self.wait {
            request = request.header("prefer", format!("wait={}", wait.as_secs()));
        }
        if let Some(key) = self.key {
            request = request.header("idempotency-key", key);
        }
        if let Some((content_type, body)) = &self.body {
            request = request.header("content-type", *content_type).body(body.clone());
        }
        request
    }
}

/// The inner message says what to do about it, so it goes along with the outer one where they differ.
fn refusal(status: StatusCode, body: &[u8]) -> ApiError {
    let told: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let (outer, inner) = (told.message, told.error.message);
    let message = match (outer.is_empty(), inner.is_empty()) {
        (true, true) => status.canonical_reason().unwrap_or("no reason given").to_owned(),
        (false, true) => outer,
        (true, false) => inner,
        (false, false) => format!("{outer}: {inner}"),
    };
    ApiError::Refused { status: status.as_u16(), slug: told.error.slug, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_is_given_the_time_that_it_needs() {
        crate::client::choose_cryptography();
        let (client, url) =
            (Client::builder().tls_certs_only([]).build().unwrap(), "http://127.0.0.1/".parse().unwrap());
        let limit = |bytes| {
            let call = Call::of(Method::PUT, "x").body("text/plain", vec![b'x'; bytes].into());
            *call.request(&client, &url).build().unwrap().timeout().unwrap()
        };
        assert_eq!((limit(0), limit(50_000_000)), (PATIENCE, PATIENCE + Duration::from_secs(1_000)));
    }
}
