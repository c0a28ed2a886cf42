//! Object keys: opaque ASCII that we make up. File names never enter one.

use uuid::Uuid;

use super::Digest;

/// Everything that clients put lies below.
pub const STAGING: &str = "staging/";
/// Everything that we keep lies below; no policy ever names it.
pub const BLOBS: &str = "blobs/";

/// A fresh key for an upload's bytes: `staging/{org}/{upload}/{random}`.
#[must_use]
pub fn staging(org: Uuid, upload: Uuid) -> String {
    format!("{STAGING}{}/{}/{}", org.simple(), upload.simple(), Uuid::new_v4().simple())
}

/// A fresh key for a blob: `blobs/{org}/{sha256}/{random}`. Never used twice, so a late delete can only hit its own.
#[must_use]
pub fn blob(org: Uuid, digest: Digest) -> String {
    format!("{BLOBS}{}/{}/{}", org.simple(), digest.to_hex(), Uuid::new_v4().simple())
}

/// The upload whose staging key this is; `None` for any other key.
#[must_use]
pub fn upload_of(key: &str) -> Option<Uuid> {
    let mut parts = key.strip_prefix(STAGING)?.split('/');
    let (_org, upload, _random) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    Uuid::try_parse(upload).ok()
}

/// The org in whose part of staging the key is; `None` for a key that names none.
#[must_use]
pub fn org_of(key: &str) -> Option<Uuid> {
    let (org, _rest) = key.strip_prefix(STAGING)?.split_once('/')?;
    Uuid::try_parse(org).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staging_key_names_its_upload_and_a_blob_key_names_none() {
        let (org, upload) = (Uuid::now_v7(), Uuid::now_v7());
        assert_eq!(upload_of(&staging(org, upload)), Some(upload));
        assert_eq!(org_of(&staging(org, upload)), Some(org));
        assert_eq!((org_of(&blob(org, Digest::of(b""))), org_of("staging/a/b")), (None, None));
        assert_ne!(staging(org, upload), staging(org, upload));
        for other in [blob(org, Digest::of(b"")), "staging/a/b".into(), format!("{}/x", staging(org, upload))] {
            assert_eq!(upload_of(&other), None, "{other}");
        }
    }
}
