//! Object keys: opaque ASCII that we make up. File names never enter one, but for those of prefix batches, whose keys end in
//! the relative path that the client has chosen.

use uuid::Uuid;

use super::Digest;

/// Everything that clients put lies below.
pub const STAGING: &str = "staging/";
/// Everything that we keep lies below; no policy ever names it.
pub const BLOBS: &str = "blobs/";
/// No org has this id: what lies below it `longshore doctor` has tried out and not removed.
pub const NOBODY: Uuid = Uuid::nil();

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

/// The org whose blob the key is of; `None` for a key that we have not made.
#[must_use]
pub fn blob_org_of(key: &str) -> Option<Uuid> {
    let mut parts = key.strip_prefix(BLOBS)?.split('/');
    let (org, digest, random) = (parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, digits| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let ours = parts.next().is_none() && is_hex(org, 32) && is_hex(digest, 64) && is_hex(random, 32);
    if ours { Uuid::try_parse(org).ok() } else { None }
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

/// A segment of its own, which is no UUID: no key can be read both as an upload's and as a batch's.
const BATCH: &str = "batch";

/// What the keys of a batch's objects begin with: `staging/{org}/batch/{batch}/`. The relative path comes behind.
#[must_use]
pub fn batch_prefix(org: Uuid, batch: Uuid) -> String {
    format!("{STAGING}{}/{BATCH}/{}/", org.simple(), batch.simple())
}

/// The batch below whose prefix the key is, and the relative path; `None` for any other key, however like one it looks.
#[must_use]
pub fn batch_of(key: &str) -> Option<(Uuid, &str)> {
    let mut parts = key.strip_prefix(STAGING)?.splitn(4, '/');
    let (org, segment, batch, path) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (org, batch) = (Uuid::try_parse(org).ok()?, Uuid::try_parse(batch).ok()?);
    // A UUID can be written in many ways, of which ours is one. No ledger can keep a path with U+0000.
    let ours = segment == BATCH && key.starts_with(&batch_prefix(org, batch)) && !path.contains('\0');
    ours.then_some((batch, path))
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

    #[test]
    fn a_blobs_key_names_its_org_and_what_else_lies_there_names_none() {
        let (org, digest) = (Uuid::now_v7(), Digest::of(b""));
        let key = blob(org, digest);
        assert_eq!(blob_org_of(&key), Some(org));
        for other in [
            staging(org, org),
            format!("{key}/x"),
            format!("{key}0"),
            format!("{BLOBS}{org}/notes.txt"),
            BLOBS.to_owned(),
        ] {
            assert_eq!(blob_org_of(&other), None, "{other}");
        }
    }

    #[test]
    fn a_batchs_key_names_its_batch_and_path_and_never_an_upload() {
        let (org, batch) = (Uuid::now_v7(), Uuid::now_v7());
        let prefix = batch_prefix(org, batch);
        for path in ["a", "a/b/c.jpg", "наряд 🎉", "", "../up", "a//b", "/", &staging(org, batch)] {
            let key = format!("{prefix}{path}");
            assert_eq!(batch_of(&key), Some((batch, path)), "{key}");
            assert_eq!((upload_of(&key), org_of(&key)), (None, Some(org)), "{key}");
        }
        let hyphened = format!("{STAGING}{org}/batch/{batch}/a");
        let capital = prefix.to_uppercase().replace("STAGING", "staging").replace("BATCH", "batch");
        let (above, unkeepable) = (prefix.trim_end_matches('/').to_owned(), format!("{prefix}a\0"));
        for other in [staging(org, batch), above, unkeepable, hyphened, format!("{capital}a")] {
            assert_eq!(batch_of(&other), None, "{other}");
        }
    }
}
