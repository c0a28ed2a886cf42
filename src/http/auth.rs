//! Who calls, and what they may do.
//!
//! Secrets of at least 192 random bits need no slow hash: the ledger keeps their SHA-256, and what is sent is hashed and
//! compared in constant time. Keys that stand are remembered for some seconds, so revoking one takes as long to be felt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::FromRequestParts;
use base64::Engine as _;
use http::request::Parts;
use http::{HeaderMap, header};
use longshore_jobs::job::Context;
use longshore_jobs::ledger::{LedgerError, api_keys};
use longshore_jobs::model::org::{ApiKey, Scope, Token};
use longshore_jobs::model::{Digest, Timestamp, TraceParent};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::Http;
use super::errors::ApiError;

/// How long a key is remembered.
const LIFE: Duration = Duration::from_secs(5);
/// How many keys are remembered at most.
const MOST: usize = 10_000;

/// An API key whose secret was shown, and the trace that the call belongs to.
#[derive(Clone, Debug)]
pub struct Caller {
    key: ApiKey,
    trace: Option<TraceParent>,
}

impl Caller {
    /// Whose files it reaches.
    pub const fn org(&self) -> Uuid {
        self.key.org_id
    }

    /// Who owns what it uploads.
    pub const fn user(&self) -> Uuid {
        self.key.user_id
    }

    /// Our part in the trace, for what the call makes.
    pub const fn trace(&self) -> Option<TraceParent> {
        self.trace
    }

    /// Its public half.
    pub fn key(&self) -> &str {
        &self.key.key
    }

    /// Whether it has the scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.key.scopes.has(scope)
    }

    /// Refuses a caller without the scope.
    pub fn needs(&self, scope: Scope) -> Result<(), ApiError> {
        self.needs_one_of(&[scope])
    }

    /// Refuses a caller with none of the scopes.
    pub fn needs_one_of(&self, scopes: &[Scope]) -> Result<(), ApiError> {
        if scopes.iter().any(|&scope| self.may(scope)) {
            return Ok(());
        }
        let words: Vec<_> = scopes.iter().map(|scope| format!("`{scope}`")).collect();
        Err(ApiError::Authorization(format!("This needs an API key with the scope {}", words.join(" or "))))
    }
}

impl FromRequestParts<Arc<Http>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, http: &Arc<Http>) -> Result<Self, ApiError> {
        let shown = credentials(&parts.headers).ok_or(ApiError::Authentication)?;
        let found = http.keys.find(&http.ctx, &shown.key).await?;
        let sent = shown.secret_hash();
        // An unknown key is compared as well, so that it takes as long to be refused as a known one.
        let kept = found.as_ref().map_or(Digest::of(b""), |key| key.secret_hash);
        let matches = bool::from(sent.as_bytes().ct_eq(kept.as_bytes()));
        let key = found.filter(|key| matches && key.stands(http.ctx.now()));
        let trace = parts.extensions.get::<TraceParent>().copied();
        key.map(|key| Self { key, trace }).ok_or(ApiError::Authentication)
    }
}

/// Key and secret as they were sent, in any of the three ways.
fn credentials(headers: &HeaderMap) -> Option<Token> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(authorization) = text(header::AUTHORIZATION.as_str()) else {
        return pair(text("x-api-key")?, text("x-api-secret")?);
    };
    let (scheme, rest) = authorization.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return rest.trim().parse().ok();
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let (key, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    pair(key, secret)
}

/// Through the token's own spelling, so that all ways have the same limits.
fn pair(key: &str, secret: &str) -> Option<Token> {
    format!("lsk_{key}_{secret}").parse().ok()
}

/// Keys that were found in the ledger, for some seconds.
#[derive(Default)]
pub struct Keys(Mutex<HashMap<String, (ApiKey, Timestamp)>>);

impl Keys {
    /// The key with that public half, perhaps as it was a few seconds ago; `None` when there is none.
    async fn find(&self, ctx: &Context, key: &str) -> Result<Option<ApiKey>, LedgerError> {
        let now = ctx.now();
        if let Some(fresh) = self.fresh(key, now) {
            return Ok(Some(fresh));
        }
        let found = api_keys::find(&ctx.db, key).await?;
        if let Some(key) = found.clone().filter(|key| key.stands(now)) {
            self.remember(key, now);
        }
        Ok(found)
    }

    fn fresh(&self, key: &str, now: Timestamp) -> Option<ApiKey> {
        let known = self.lock();
        let (key, since) = known.get(key)?;
        (now < *since + LIFE).then(|| key.clone())
    }

    fn remember(&self, key: ApiKey, now: Timestamp) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (_, since)| now < *since + LIFE);
        }
        if known.len() < MOST {
            known.insert(key.key.clone(), (key, now));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (ApiKey, Timestamp)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn all_three_ways_read_the_same_token() {
        let token = Token::random();
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", token.key, token.secret));

        for sent in [
            headers(&[("authorization", &format!("Bearer {token}"))]),
            headers(&[("authorization", &format!("bearer  {token} "))]),
            headers(&[("authorization", &format!("Basic {basic}"))]),
            headers(&[("x-api-key", &token.key), ("x-api-secret", &token.secret)]),
        ] {
            assert_eq!(credentials(&sent), Some(token.clone()));
        }
    }

    #[test]
    fn anything_else_is_nobody() {
        let token = Token::random();
        for sent in [
            headers(&[]),
            headers(&[("x-api-key", &token.key)]),
            headers(&[("authorization", "Bearer")]),
            headers(&[("authorization", "Bearer lsk_x")]),
            headers(&[("authorization", "Basic !!!")]),
            headers(&[("authorization", &format!("Digest {token}"))]),
        ] {
            assert_eq!(credentials(&sent), None, "{sent:?}");
        }
    }
}
