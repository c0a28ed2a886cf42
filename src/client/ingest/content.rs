//! A file's bytes and their digest, read before anything is asked of the server.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use longshore_jobs::model::{Digest, Target};
use sha2::{Digest as _, Sha256};

use super::walk::Found;
use crate::client::ApiError;
use crate::client::form::Content;

/// Up to here a file is read whole and hashed where we are: 0.2 ms at most, less than a hand-over to another thread is worth.
const SMALL: u64 = 128 * 1024;

/// Reads the file: a small one into memory, a large one through a hash alone.
pub(super) async fn read(found: &Found) -> Result<(Content, Digest), ApiError> {
    let unreadable = |source| ApiError::Unreadable { path: found.path.clone(), source };
    if found.size <= SMALL {
        let bytes = fs::read(&found.path).map_err(unreadable)?;
        let digest = Digest::of(&bytes);
        return Ok((Content::Whole(Bytes::from(bytes)), digest));
    }
    let path = found.path.clone();
    let hashed = tokio::task::spawn_blocking(move || hash(&path)).await;
    let (size, digest) = hashed.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(unreadable)?;
    Ok((Content::File { path: found.path.clone(), size }, digest))
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
pub(super) fn client_ref(name: &str, digest: Digest, target: Option<&Target>) -> String {
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
            let (content, digest) = read(&Found { path, name: "file".to_owned(), size }).await.unwrap();
            assert_eq!((content.size(), digest), (size, Digest::of(&bytes)));
        }
    }
}
