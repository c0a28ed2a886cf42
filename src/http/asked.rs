//! What a request asks for besides its body: the id in its path, its query, and its `Prefer` header.
//!
//! Axum's own extractors refuse in plain text; these refuse in the envelope, or take what cannot be read for absent.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use http::{HeaderValue, Method};
use uuid::Uuid;

use super::Http;
use super::errors::ApiError;

/// The longest that `Prefer: wait=N` is followed, in seconds.
const LONGEST_WAIT: u64 = 60;

/// The id in the path; `None` when it is none.
pub struct Id(pub Option<Uuid>);

impl FromRequestParts<Arc<Http>> for Id {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, http: &Arc<Http>) -> Result<Self, Infallible> {
        let text = Path::<String>::from_request_parts(parts, http).await.ok();
        Ok(Self(text.and_then(|Path(text)| Uuid::try_parse(&text).ok())))
    }
}

/// The query. An empty value is as good as none; of two values the last counts.
pub struct Query {
    values: HashMap<String, String>,
    /// Whether it came with a post.
    posted: bool,
}

impl FromRequestParts<Arc<Http>> for Query {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Http>) -> Result<Self, Infallible> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned();
        let values = pairs.filter(|(_, value)| !value.is_empty()).collect();
        Ok(Self { values, posted: parts.method == Method::POST })
    }
}

impl Query {
    /// A parameter as it was sent; 422 naming it when it holds control characters, which no stored text does.
    pub fn text(&self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.values.get(name) {
            Some(value) if value.chars().any(char::is_control) => {
                Err(self.fault(name, "must not hold control characters"))
            }
            value => Ok(value.cloned()),
        }
    }

    /// A parameter that has to be a `T`; 422 naming it when it is not.
    pub fn parsed<T>(&self, name: &'static str) -> Result<Option<T>, ApiError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let parsed = self.values.get(name).map(|value| value.parse()).transpose();
        parsed.map_err(|fault: T::Err| self.fault(name, format!("will not do: {fault}")))
    }

    /// A whole number from 1 on; 422 naming it when it is not.
    pub fn counting(&self, name: &'static str, unsaid: i64) -> Result<i64, ApiError> {
        match self.values.get(name).map(|value| value.parse()) {
            None => Ok(unsaid),
            Some(Ok(number)) if number >= 1 => Ok(number),
            Some(_) => Err(self.fault(name, "must be a whole number from 1 on")),
        }
    }

    /// The refusal of one parameter.
    pub fn fault(&self, name: &'static str, fault: impl Into<String>) -> ApiError {
        ApiError::UnprocessableQuery { posted: self.posted, name, fault: fault.into() }
    }
}

/// What the client would like about waiting (RFC 7240).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// It did not say.
    Unsaid,
    /// `respond-async`: not at all.
    Async,
    /// `wait=N`: up to so many seconds, also beside `respond-async`.
    Wait(u64),
}

impl FromRequestParts<Arc<Http>> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Http>) -> Result<Self, Infallible> {
        let sent = parts.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        Ok(Self::read(sent))
    }
}

impl Prefer {
    fn read<'a>(headers: impl Iterator<Item = &'a str>) -> Self {
        let mut prefer = Self::Unsaid;
        for preference in headers.flat_map(|header| header.split(',')) {
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            match (prefer, value.parse::<u64>()) {
                (Self::Unsaid | Self::Async, Ok(seconds)) if name.eq_ignore_ascii_case("wait") => {
                    prefer = Self::Wait(seconds.min(LONGEST_WAIT));
                }
                (Self::Unsaid, _) if name.eq_ignore_ascii_case("respond-async") => prefer = Self::Async,
                _ => {}
            }
        }
        prefer
    }

    /// How long to wait, when nothing said otherwise is `unsaid`.
    pub const fn wait(self, unsaid: Duration) -> Duration {
        match self {
            Self::Unsaid => unsaid,
            Self::Async => Duration::ZERO,
            Self::Wait(seconds) => Duration::from_secs(seconds),
        }
    }

    /// The value of `Preference-Applied`.
    pub fn applied(self) -> Option<HeaderValue> {
        match self {
            Self::Unsaid => None,
            Self::Async => Some(HeaderValue::from_static("respond-async")),
            Self::Wait(seconds) => HeaderValue::from_str(&format!("wait={seconds}")).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_as_in_the_standard() {
        for (headers, expected) in [
            (&[][..], Prefer::Unsaid),
            (&["respond-async"], Prefer::Async),
            (&["wait=10"], Prefer::Wait(10)),
            (&["respond-async, wait=10"], Prefer::Wait(10)),
            (&["Wait = \"7\"; foo=1", "respond-async"], Prefer::Wait(7)),
            (&["wait=3", "wait=9"], Prefer::Wait(3)),
            (&["wait=100000"], Prefer::Wait(60)),
            (&["wait=soon", "return=minimal"], Prefer::Unsaid),
        ] {
            assert_eq!(Prefer::read(headers.iter().copied()), expected, "{headers:?}");
        }
    }
}
