//! A file's digest, taken before anything is asked of the server, and its bytes, read when they are to travel.
//!
//! Between the two nothing of the file is kept: a thousand files may be asked for at once.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use longshore_jobs::job::with_causes;
use longshore_jobs::model::{Digest, Target};
use sha2::{Digest as _, Sha256};

use super::outcome::Stop;
use super::walk::Found;
use crate::client::ApiError;
use crate::client::api::NewUpload;
use crate::client::form::Content;

/// Up to here a file is read whole and hashed where we are: 0.2 ms at most, less than a hand-over to another thread is worth.
const SMALL: u64 = 128 * 1024;

/// What to say of a file that was not sent, since the org has the bytes that the manifest tells of, and is another.
const OTHER_BYTES: &str = "digest_mismatch (its bytes are not those of the manifest; nothing was sent)";

/// A file that an upload can be asked for.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    /// The file.
    pub(super) found: Found,
    /// Bytes when it was hashed.
    pub(super) size: u64,
    /// Of its bytes, as far as we know.
    pub(super) sha256: Digest,
}

impl Ready {
    /// The file under a digest that is told elsewhere; it is not read.
    pub(super) fn pinned(found: Found, sha256: Digest) -> Self {
        Self { size: found.size, found, sha256 }
    }

    /// The file under its own digest; a small one is read here, a large one on a thread for that.
    pub(super) async fn hashed(found: Found) -> Result<Self, (Found, ApiError)> {
        match digest(&found).await {
            Ok((size, sha256)) => Ok(Self { found, size, sha256 }),
            Err(source) => {
                let path = found.path.clone();
                Err((found, ApiError::Unreadable { path, source }))
            }
        }
    }

    /// What is wrong with the file under this digest, if anything: reads it.
    pub(super) async fn fault(&self) -> Option<String> {
        match digest(&self.found).await {
            Ok((_, sha256)) => (sha256 != self.sha256).then(|| OTHER_BYTES.to_owned()),
            Err(source) => Some(with_causes(&ApiError::Unreadable { path: self.found.path.clone(), source })),
        }
    }

    /// See [`client_ref`].
    pub(super) fn client_ref(&self, target: Option<&Target>) -> String {
        client_ref(&self.found.name, self.sha256, target)
    }

    /// What to ask for.
    pub(super) fn wish<'a>(&'a self, target: Option<&'a Target>, client_ref: &'a str) -> NewUpload<'a> {
        NewUpload {
            filename: &self.found.name,
            size: self.size,
            content_type: mime_guess::from_path(&self.found.path).first_raw(),
            sha256: self.sha256,
            target,
            client_ref,
        }
    }

    /// What to post: a small file's bytes, a large one's place.
    pub(super) fn content(&self) -> Result<Content, Stop> {
        if self.size > SMALL {
            return Ok(Content::File { path: self.found.path.clone(), size: self.size });
        }
        let unreadable = |source| ApiError::Unreadable { path: self.found.path.clone(), source };
        let bytes = fs::read(&self.found.path).map_err(unreadable)?;
        if bytes.len() as u64 != self.size {
            return Err(Stop::File("it changed while it was on its way: run again".to_owned()));
        }
        Ok(Content::Whole(Bytes::from(bytes)))
    }
}

async fn digest(found: &Found) -> io::Result<(u64, Digest)> {
    if found.size <= SMALL {
        let bytes = fs::read(&found.path)?;
        return Ok((bytes.len() as u64, Digest::of(&bytes)));
    }
    let path = found.path.clone();
    tokio::task::spawn_blocking(move || hash(&path)).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn hash(path: &Path) -> io::Result<(u64, Digest)> {
    let mut file = fs::File::open(path)?;
    let (mut hasher, mut buffer, mut size) = (Sha256::new(), vec![0; 1 << 20], 0);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((size, Digest::finish(hasher)));
        }
        hasher.update(&buffer[..read]);
        size += read as u64;
    }
}

/// What makes a second run find the uploads of the first: hex SHA-256 of relative path, digest and target.
fn client_ref(name: &str, digest: Digest, target: Option<&Target>) -> String {
    let (kind, number) = target.map_or(("", ""), |target| (target.kind.as_str(), target.number.as_str()));
    let text = [name, &digest.to_hex(), kind, number].join("\0");
    Digest::of(text.as_bytes()).to_hex()
}

#[cfg(test)]
mod tests {
    use longshore_jobs::model::target::TargetKind;

    use super::*;

    #[test]
    fn a_ref_changes_with_path_bytes_and_target_and_with_nothing_else() {
        let digest = Digest::of(b"a");
        let target = Target { kind: TargetKind::Order, number: "A-100".to_owned() };
        let first = client_ref("a.txt", digest, None);
        assert_eq!(first, client_ref("a.txt", digest, None));
        assert_eq!(first.len(), 64);
        for other in [
            client_ref("b.txt", digest, None),
            client_ref("a.txt", Digest::of(b"b"), None),
            client_ref("a.txt", digest, Some(&target)),
        ] {
            assert_ne!(first, other);
        }
    }

    #[tokio::test]
    async fn small_and_large_files_have_the_same_kind_of_digest() {
        let folder = tempfile::tempdir().unwrap();
        for size in [0, 10, SMALL, SMALL + 1, 3_000_000] {
            let bytes = vec![7; usize::try_from(size).unwrap()];
            let path = folder.path().join("file");
            fs::write(&path, &bytes).unwrap();
            let ready = Ready::hashed(Found { path, name: "file".to_owned(), size }).await.unwrap();
            assert_eq!((ready.size, ready.sha256), (size, Digest::of(&bytes)));
            assert!(ready.content().is_ok_and(|content| content.size() == size));
        }
    }
}
