//! The files that a manifest names, with the hashes that it has for them.

use std::collections::{HashMap, HashSet};

use longshore_jobs::model::Digest;

use super::walk::Walked;

/// Hashes by relative path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins(HashMap<String, Digest>);

impl Pins {
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
        let missing = missing.into_iter().map(|name| (name.clone(), "it is in the manifest and not in the folder".to_owned()));
        walked.failures = missing.collect();
    }
}

impl FromIterator<(String, Digest)> for Pins {
    fn from_iter<I: IntoIterator<Item = (String, Digest)>>(lines: I) -> Self {
        Self(lines.into_iter().collect())
    }
}
