//! One file's bytes, posted under a policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Run;
use super::content::Ready;
use super::outcome::{Stop, rejection};
use crate::client::api::PolicyForm;
use crate::client::form::{self, Content, Sent};
use crate::client::transport::ApiError;

/// Posts the file. `false` when the policy ran out, before or while the bucket looked at it.
pub(super) async fn post(
    run: &Run,
    policy: &PolicyForm,
    ready: &Ready,
    travelled: &Arc<AtomicU64>,
) -> Result<bool, Stop> {
    if Instant::now() >= policy.ends() {
        return Ok(false);
    }
    let content = ready.content()?;
    match form::post(&run.api.transport, policy, &content, tell(run, travelled)).await {
        Ok(()) => {
            if let Content::Whole(bytes) = &content {
                tell(run, travelled)(Sent::More(bytes.len() as u64));
            }
            Ok(true)
        }
        // Clocks differ, so the bucket's word counts as much as our own.
        Err(ApiError::FormRefused { status, message, .. })
            if status == 403 && (Instant::now() >= policy.ends() || message.to_lowercase().contains("expired")) =>
        {
            Ok(false)
        }
        // A bucket may hang up on a policy that ran out, rather than read to the end of the form.
        Err(ApiError::Unreachable { .. } | ApiError::TooSlow { .. }) if Instant::now() >= policy.ends() => Ok(false),
        // A bucket that checks the signed checksum says at once what the server would find out later.
        Err(ApiError::FormRefused { code, .. }) if code == "BadDigest" => {
            Err(Stop::File(rejection(Some("digest_mismatch"), run.is_pinned())))
        }
        Err(error) => Err(error.into()),
    }
}

fn tell(run: &Run, travelled: &Arc<AtomicU64>) -> impl Fn(Sent) + Clone + Send + Sync + 'static {
    let (progress, travelled) = (Arc::clone(&run.progress), Arc::clone(travelled));
    move |sent| match sent {
        Sent::More(bytes) => {
            travelled.fetch_add(bytes, Ordering::Relaxed);
            progress.sent(bytes);
        }
        Sent::Again => progress.unsent(travelled.swap(0, Ordering::Relaxed)),
    }
}
