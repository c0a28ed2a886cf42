//! Requests with time limits and second tries.
//!
//! Whatever is sent here may be sent twice: uploads are asked for with a `ref`, forms carry the same bytes, callbacks prove
//! nothing. So broken connections, 429 and 5xx are tried again with exponential backoff and jitter, or after as long as the
//! server asks for.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::RETRY_AFTER;
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, Url};

/// How often a request is sent before its failure stands: about 12 seconds of trying.
pub(super) const ATTEMPTS: u32 = 8;
/// The same for a server that has answered before and now is away or has no time: about two minutes, enough for a restart.
const PATIENT_ATTEMPTS: u32 = 30;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The most that a server's `Retry-After` is obeyed for.
const LONGEST_WISH: Duration = Duration::from_secs(30);

/// The slowest line that is waited for, in bytes per second.
const SLOWEST: u64 = 50_000;

/// How long so many bytes may be under way.
pub(super) fn travelling(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST)
}

/// Connections that are kept and used again. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transport(Arc<Clients>);

/// Each is made when it is first needed: the one for other machines loads the system's certificates, which a bare machine
/// may lack, and obeys the proxy of the environment, which cannot reach this machine's own addresses.
#[derive(Debug, Default)]
struct Clients {
    here: OnceLock<Client>,
    elsewhere: OnceLock<Client>,
    /// Whether anybody has answered yet: an address that never did is more likely wrong than restarting.
    answered: AtomicBool,
}

impl Transport {
    /// The client for a URL.
    fn client(&self, url: &Url) -> Result<&Client, ApiError> {
        let here = is_loopback(url);
        let slot = if here { &self.0.here } else { &self.0.elsewhere };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let client = build(here).map_err(|source| ApiError::Unreachable { url: url.to_string(), source })?;
        Ok(slot.get_or_init(|| client))
    }

    /// Sends what `request` builds until it is answered for good. Any answer that a second try would not change is `Ok`.
    pub(super) async fn send(
        &self,
        url: &Url,
        request: impl Fn(&Client) -> Result<RequestBuilder, ApiError>,
    ) -> Result<Response, ApiError> {
        let client = self.client(url)?;
        let mut attempt = 1;
        loop {
            let answer = request(client)?.send().await;
            if answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
                self.0.answered.store(true, Ordering::Relaxed);
            }
            let Some(pause) = pause_after(&answer, attempt, self.0.answered.load(Ordering::Relaxed)) else {
                return answer.map_err(|source| judge(url, source));
            };
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }
}

/// What TLS is made of. Someone else in the process may have chosen before; either will do.
pub(crate) fn choose_cryptography() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// A client for a question at that address, all of whose answer comes within `limit`.
pub(crate) fn build_for(url: &Url, limit: Duration) -> Result<Client, reqwest::Error> {
    let here = is_loopback(url);
    finish(builder().timeout(limit), here)
}

fn build(here: bool) -> Result<Client, reqwest::Error> {
    finish(builder(), here)
}

fn builder() -> ClientBuilder {
    choose_cryptography();
    Client::builder()
        .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
}

fn finish(builder: ClientBuilder, here: bool) -> Result<Client, reqwest::Error> {
    if here { builder.no_proxy().tls_certs_only([]).build() } else { builder.build() }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// How long to wait before the next attempt; `None` when there is to be none.
fn pause_after(answer: &Result<Response, reqwest::Error>, attempt: u32, answered: bool) -> Option<Duration> {
    let away = if answered { PATIENT_ATTEMPTS } else { ATTEMPTS };
    let (wish, attempts) = match answer {
        Err(error) if local_fault(error).is_some() || error.is_builder() => return None,
        Err(error) if error.is_timeout() && !error.is_connect() => (None, ATTEMPTS),
        Err(_) => (None, away),
        Ok(answer) if matches!(answer.status().as_u16(), 429 | 503) => (retry_after(answer), away),
        Ok(answer) if answer.status().is_server_error() => (retry_after(answer), ATTEMPTS),
        Ok(_) => return None,
    };
    (attempt < attempts).then(|| wish.unwrap_or_else(|| backoff(attempt)))
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WISH))
}

/// Doubled for each attempt, with a jitter of a quarter to either side.
pub(super) fn backoff(attempt: u32) -> Duration {
    let base = FIRST_PAUSE.saturating_mul(1 << attempt.min(16).saturating_sub(1)).min(LONGEST_PAUSE);
    base.mul_f64(rand::random_range(0.75..1.25))
}

fn judge(url: &Url, source: reqwest::Error) -> ApiError {
    match local_fault(&source) {
        Some(fault) => {
            ApiError::Unreadable { path: fault.path.clone(), source: io::Error::new(fault.kind, fault.what.clone()) }
        }
        None => ApiError::Unreachable { url: without_query(url), source: source.without_url() },
    }
}

fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// A file could not be read on while it was being sent: no server's fault, and no second try helps.
#[derive(Clone, Debug, thiserror::Error)]
#[error("read {}: {what}", path.display())]
pub(super) struct LocalFault {
    pub(super) path: PathBuf,
    pub(super) kind: io::ErrorKind,
    pub(super) what: String,
}

fn local_fault(error: &reqwest::Error) -> Option<&LocalFault> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(fault) = inner.downcast_ref() {
            return Some(fault);
        }
        cause = inner.source();
    }
    None
}

/// What can go wrong between a client and its server, as far as the client treats it differently.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// No answer, after several tries.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why the last try failed.
        #[source]
        source: reqwest::Error,
    },
    /// The server said no.
    #[error("the server answered {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error's `type`; empty when the answer had none.
        slug: String,
        /// For a human.
        message: String,
    },
    /// The bucket did not take the form.
    #[error("the bucket answered {status} {code}: {message}")]
    FormRefused {
        /// The HTTP status.
        status: u16,
        /// S3's error code; empty when the answer had none.
        code: String,
        /// For a human.
        message: String,
    },
    /// The bytes of one file did not get through in the time that they were given.
    #[error("{url} took the bytes too slowly")]
    TooSlow {
        /// Where they were to go.
        url: String,
    },
    /// The answer is none that a longshore server would give.
    #[error("{url} does not answer as a longshore server would: {what}")]
    Strange {
        /// What was asked.
        url: String,
        /// What is odd.
        what: String,
    },
    /// A file of ours could not be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ApiError {
    /// Whether the next file would fare no better: nobody answers or has time for us, or the token does not do.
    pub(crate) fn is_about_everything(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Strange { .. } => true,
            Self::Refused { status, slug, .. } => {
                matches!(status, 401 | 403 | 404 | 405 | 429 | 503) && slug != "upload_not_found_error"
            }
            Self::FormRefused { .. } | Self::TooSlow { .. } | Self::Unreadable { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end_at_a_limit() {
        for attempt in 1..ATTEMPTS {
            let pause = backoff(attempt);
            assert!(pause >= FIRST_PAUSE.mul_f64(0.75) && pause <= LONGEST_PAUSE.mul_f64(1.25), "{pause:?}");
        }
        assert!(backoff(6) > backoff(1));
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy() {
        for (url, expected) in [
            ("http://127.0.0.1:8080/", true),
            ("http://localhost/", true),
            ("http://[::1]:1/", true),
            ("https://uploads.example.com/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
