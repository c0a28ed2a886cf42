//! `Idempotency-Key`: the same request again answers with what the first one made.
//!
//! A route reads the key with [`sent_with`], asks [`made`] whether it stands for something, and else has the ledger write it
//! down together with what it makes. Where that fails because a twin was faster, [`made_meanwhile`] says what the twin has made.

use http::HeaderMap;
use longshore_jobs::ledger::idempotency::{self, Standing};
use longshore_jobs::model::Digest;
use longshore_jobs::model::idempotency::{IdempotencyKey, LONGEST_KEY, Route, is_key};
use uuid::Uuid;

use super::Http;
use super::auth::Caller;
use super::errors::ApiError;

const HEADER: &str = "idempotency-key";

/// The text of the header; `None` without one, 400 when it is no key or there are two.
pub fn header(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut sent = headers.get_all(HEADER).iter();
    let Some(value) = sent.next() else {
        return Ok(None);
    };
    if sent.next().is_some() {
        return Err(ApiError::BadRequest("Send one `Idempotency-Key`".to_owned()));
    }
    match value.to_str() {
        Ok(text) if is_key(text) => Ok(Some(text.to_owned())),
        _ => {
            let fault = format!("`Idempotency-Key` must be 1 to {LONGEST_KEY} visible ASCII characters");
            Err(ApiError::BadRequest(fault))
        }
    }
}

/// The request as the ledger tells it from others: by its key and the bytes of its body.
pub fn sent_with(
    http: &Http,
    caller: &Caller,
    (route, header): (Route, Option<String>),
    body: &[u8],
) -> Option<IdempotencyKey> {
    let (org_id, sent_at) = (caller.org(), http.ctx.now());
    header.map(|key| IdempotencyKey { org_id, route, key, body_sha256: Digest::of(body), sent_at })
}

/// What the same request has made before; 422 when its key came with another body.
pub async fn made(http: &Http, key: Option<&IdempotencyKey>) -> Result<Option<Uuid>, ApiError> {
    let Some(key) = key else {
        return Ok(None);
    };
    match idempotency::find(&http.ctx.db, key).await? {
        None => Ok(None),
        Some(Standing::Made(id)) => Ok(Some(id)),
        Some(Standing::OtherBody) => Err(ApiError::Unprocessable {
            field: "Idempotency-Key".to_owned(),
            fault: "was sent with another body before; a new request needs a new key".to_owned(),
        }),
    }
}

/// As [`made`], after the ledger has said that the key is taken.
pub async fn made_meanwhile(http: &Http, key: Option<&IdempotencyKey>) -> Result<Uuid, ApiError> {
    let made = made(http, key).await?;
    made.ok_or_else(|| ApiError::Conflict("The `Idempotency-Key` was forgotten just now; post again".to_owned()))
}
