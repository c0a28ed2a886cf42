//! New rows of the ledger, and what a media type may be.

use longshore_jobs::model::{Status, Timestamp, Upload, keys};
use uuid::Uuid;

use super::auth::Caller;

/// The longest media type in bytes.
const LONGEST_TYPE: usize = 255;

/// An upload that was just asked for, about which only its name and its owner are known.
pub fn fresh(caller: &Caller, filename: String, now: Timestamp) -> Upload {
    let id = Uuid::now_v7();
    Upload {
        id,
        org_id: caller.org(),
        user_id: caller.user(),
        status: Status::Requested,
        reason: None,
        content_type: guess_type(&filename),
        filename,
        size: None,
        arrived_size: None,
        sha256: None,
        verified_sha256: None,
        target_kind: None,
        target_number: None,
        client_ref: None,
        metadata: None,
        object_key: keys::staging(caller.org(), id),
        policy: None,
        policy_expires_at: None,
        etag: None,
        arrived_via: None,
        changes: 0,
        file_id: Uuid::now_v7(),
        deduplicated: None,
        resume_at: None,
        resumes: 0,
        created_at: now,
        updated_at: now,
        arrived_at: None,
    }
}

/// The media type that a name suggests; `None` when it suggests none.
fn guess_type(filename: &str) -> Option<String> {
    mime_guess::from_path(filename).first_raw().map(str::to_owned)
}

/// Whether the text could be a media type (RFC 9110, section 8.3.1): `type/subtype`, perhaps with parameters.
pub fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let essence_fits = essence.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype));
    text.len() <= LONGEST_TYPE && printable && essence_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_told_from_other_text() {
        for good in ["image/jpeg", "text/plain; charset=utf-8", "application/vnd.api+json"] {
            assert!(is_media_type(good), "{good}");
        }
        for bad in ["", "jpeg", "image/", "/jpeg", "image/jp eg", "image/jpeg\r\nx: y", "a/b/c", &"a/".repeat(200)] {
            assert!(!is_media_type(bad), "{bad:?}");
        }
    }
}
