//! New rows of the ledger, and what a media type may be.

use longshore_jobs::model::{Timestamp, Upload};

use super::auth::Caller;

/// The longest media type in bytes.
const LONGEST_TYPE: usize = 255;

/// An upload that was just asked for, with the media type that its name suggests.
pub fn fresh(caller: &Caller, filename: String, now: Timestamp) -> Upload {
    let content_type = guess_type(&filename);
    let traceparent = caller.trace();
    Upload { content_type, traceparent, ..Upload::requested(caller.org(), caller.user(), filename, now) }
}

/// The media type that a name suggests; `None` when it suggests none.
pub fn guess_type(filename: &str) -> Option<String> {
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
