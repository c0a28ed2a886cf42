//! The files that a manifest names, with the hashes that it has for them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use longshore_jobs::model::manifest::{BadLine, Line, MOST_BYTES, MOST_LINES, Reader};
use longshore_jobs::model::{Digest, filename};

use super::walk::Walked;

/// Hashes by relative path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins(HashMap<String, Digest>);

impl Pins {
    /// Reads a manifest from a file.
    pub(crate) fn open(path: &Path) -> Result<Self, BadManifest> {
        Self::read(File::open(path)?)
    }

    /// Reads lines as `sha256sum` prints them.
    pub(crate) fn read(mut from: impl Read) -> Result<Self, BadManifest> {
        let (mut pins, mut reader, mut bytes, mut chunk) = (Self::default(), Reader::default(), 0, vec![0; 64 << 10]);
        loop {
            let read = from.read(&mut chunk)?;
            bytes += read;
            if bytes > MOST_BYTES {
                return Err(BadManifest::TooLarge);
            }
            if read == 0 {
                break;
            }
            reader.read(&chunk[..read])?.into_iter().try_for_each(|line| pins.add(line))?;
        }
        reader.finish()?.map_or(Ok(()), |line| pins.add(line))?;
        if pins.0.is_empty() { Err(BadManifest::Empty) } else { Ok(pins) }
    }

    fn add(&mut self, Line { number, path, sha256 }: Line) -> Result<(), BadManifest> {
        if let Some(fault) = filename::fault(&path) {
            return Err(BadLine::new(number, format!("its path {fault}")).into());
        }
        match self.0.insert(path.clone(), sha256) {
            Some(other) if other != sha256 => {
                Err(BadLine::new(number, format!("gives `{path}` another hash than a line before")).into())
            }
            _ if self.0.len() > MOST_LINES => Err(BadManifest::TooLarge),
            _ => Ok(()),
        }
    }

    /// The hash of a file; `None` when the manifest does not name it.
    pub(super) fn of(&self, name: &str) -> Option<Digest> {
        self.0.get(name).copied()
    }

    /// Leaves the files that are named, and tells of those that are not there. What else could not be read below the folder does not
    /// matter then.
    pub(super) fn select(&self, walked: &mut Walked) {
        walked.files.retain(|file| self.0.contains_key(&file.name));
        walked.skipped = 0;
        let there: HashSet<_> = walked.files.iter().map(|file| file.name.as_str()).collect();
        let mut missing: Vec<_> = self.0.keys().filter(|name| !there.contains(name.as_str())).collect();
        missing.sort();
        let missing =
            missing.into_iter().map(|name| (name.clone(), "it is in the manifest and not in the folder".to_owned()));
        walked.failures = missing.collect();
    }
}

/// A manifest that will not do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadManifest {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// One of its lines is wrong.
    #[error(transparent)]
    Line(#[from] BadLine),
    /// It is larger than the server would take.
    #[error("it has more than {MOST_LINES} lines or {MOST_BYTES} bytes")]
    TooLarge,
    /// It names nothing.
    #[error("it names no file")]
    Empty,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ingest::walk::Found;

    const LINE: &str = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  a.txt\n";

    fn read(text: &str) -> Result<Pins, BadManifest> {
        Pins::read(text.as_bytes())
    }

    #[test]
    fn a_line_that_will_not_do_is_told_by_its_number() {
        let other = LINE.replace("ca97", "0000");
        for (bad, told) in [
            (format!("{LINE}nonsense\n"), "Line 2: "),
            (format!("{LINE}{}", LINE.replace("a.txt", "../a.txt")), "Line 2: its path must be a relative path"),
            (format!("{LINE}{LINE}\n{other}"), "Line 4: gives `a.txt` another hash"),
            (String::new(), "it names no file"),
        ] {
            let fault = read(&bad).unwrap_err().to_string();
            assert!(fault.contains(told), "{fault}");
        }
    }

    #[test]
    fn only_the_files_that_are_named_are_left_and_those_that_are_not_there_are_told() {
        let found = |name: &str| Found { path: name.into(), name: name.to_owned(), size: 1 };
        let mut walked = Walked::default();
        (walked.files, walked.skipped) = (vec![found("a.txt"), found("c.txt")], 3);
        walked.failures.push(("d".to_owned(), "permission denied".to_owned()));

        read(&format!("{LINE}{}", LINE.replace("a.txt", "b/b.txt"))).unwrap().select(&mut walked);

        assert_eq!((walked.files, walked.skipped), (vec![found("a.txt")], 0));
        let [(missing, _)] = &walked.failures[..] else { panic!("{:?}", walked.failures) };
        assert_eq!(missing, "b/b.txt");
    }
}
