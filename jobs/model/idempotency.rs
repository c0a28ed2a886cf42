//! The key by which a client says that two requests are one (IETF draft `httpapi-idempotency-key-header`).

use std::time::Duration;

use uuid::Uuid;

use super::{Digest, Timestamp, words};

/// How long the same request makes nothing new.
pub const KEY_LIFE: Duration = Duration::from_secs(24 * 3600);

/// The longest key in bytes.
pub const LONGEST_KEY: usize = 255;

words! {
    /// What a key was sent to: the same one on two routes is two keys.
    Route, "a route" {
        /// `POST /api/uploads`.
        Uploads = "uploads",
        /// `POST /api/batches`.
        Batches = "batches",
    }
}

/// A request that is to be carried out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Whose key it is: orgs do not meet.
    pub org_id: Uuid,
    /// Where it was sent.
    pub route: Route,
    /// As the client wrote it.
    pub key: String,
    /// Of the body that came with it.
    pub body_sha256: Digest,
    /// When it came.
    pub sent_at: Timestamp,
}

/// Whether a key can be one: 1 to [`LONGEST_KEY`] visible ASCII characters.
#[must_use]
pub fn is_key(text: &str) -> bool {
    (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_other_text() {
        let longest = "k".repeat(LONGEST_KEY);
        for good in ["k", "\"8e03978e-40d5\"", "~!{}", &longest] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", "two words", "tab\t", "ключ", "nul\0", &format!("{longest}k")] {
            assert!(!is_key(bad), "{bad:?}");
        }
    }
}
