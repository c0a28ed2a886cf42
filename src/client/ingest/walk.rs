//! Which files there are below the paths of a run, and what each is to be called.
//!
//! A file of a folder is called by its path relative to that folder, so that a second run gives the same names; where two
//! folders of one run hold the same relative path, the later one has its folder's name put before. Links are not followed.
//! What longshore itself keeps, credentials among it, is left out wherever it lies: what the configuration names, and any
//! other folder that bears longshore's lock, since the configuration of this run may not be that of the server.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use crate::folder::is_kept_by_longshore;

/// A file to upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What it is called, with `/` between folders; unique within the run.
    pub(super) name: String,
    /// Bytes when it was found.
    pub(super) size: u64,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// In order of the paths given, each sorted.
    pub(super) files: Vec<Found>,
    /// Path and reason.
    pub(super) failures: Vec<(String, String)>,
    /// Links and special files.
    pub(super) skipped: u64,
    /// Folders and files of longshore's own that were met on the way.
    pub(super) left_out: Vec<PathBuf>,
    names: HashSet<String>,
    seen: HashSet<PathBuf>,
}

/// Finds every file below the paths but for what longshore keeps: the `own` folders and files, and folders that bear its lock.
/// Blocks.
pub(super) fn walk(paths: &[PathBuf], own: &[PathBuf]) -> Walked {
    // What is not there cannot be met.
    let own: Vec<_> = own.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut walked = Walked::default();
    for root in paths {
        match root.canonicalize() {
            Ok(real) if own.iter().any(|own| real.starts_with(own)) || is_kept_by_longshore(&real) => {
                walked.failures.push((root.display().to_string(), "it is longshore's own".to_owned()));
            }
            Ok(real) => walked.add_root((root, &real), &own),
            Err(error) => walked.failures.push((root.display().to_string(), error.to_string())),
        }
    }
    walked
}

impl Walked {
    fn add_root(&mut self, (given, real): (&Path, &Path), own: &[PathBuf]) {
        let mut entries = WalkDir::new(real).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if is_left_out(&entry, own) => {
                    if entry.file_type().is_dir() {
                        entries.skip_current_dir();
                    }
                    self.left_out.push(entry.into_path());
                }
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) if entry.file_type().is_file() => self.add_file(real, &entry),
                Ok(_) => self.skipped += 1,
                Err(error) => {
                    let path = error.path().unwrap_or(given).display().to_string();
                    let why = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
                    self.failures.push((path, why));
                }
            }
        }
    }

    fn add_file(&mut self, root: &Path, entry: &DirEntry) {
        if !self.seen.insert(entry.path().to_owned()) {
            return;
        }
        let size = match entry.metadata() {
            Ok(metadata) => metadata.len(),
            Err(error) => return self.failures.push((entry.path().display().to_string(), error.to_string())),
        };
        let name = self.free_name(root, entry.path());
        self.files.push(Found { path: entry.path().to_owned(), name, size });
    }

    /// The path below the root, or below the nearest folder above it that makes a name which is not taken.
    fn free_name(&mut self, root: &Path, path: &Path) -> String {
        let base = if root == path { root.parent() } else { Some(root) };
        for base in base.into_iter().flat_map(Path::ancestors) {
            let name = slashed(path.strip_prefix(base).unwrap_or(path));
            if self.names.insert(name.clone()) {
                return name;
            }
        }
        slashed(path)
    }
}

fn is_left_out(entry: &DirEntry, own: &[PathBuf]) -> bool {
    own.iter().any(|own| own == entry.path()) || (entry.file_type().is_dir() && is_kept_by_longshore(entry.path()))
}

fn slashed(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn names(walked: &Walked) -> Vec<&str> {
        walked.files.iter().map(|file| file.name.as_str()).collect()
    }

    #[test]
    fn names_are_relative_sorted_and_include_hidden_files() {
        let folder = folder(&["b/2.txt", "a.txt", ".hidden", "b/1.txt"]);
        let walked = walk(&[folder.path().to_owned()], &[]);
        assert_eq!(names(&walked), [".hidden", "a.txt", "b/1.txt", "b/2.txt"]);
        assert_eq!(walked.files[2].size, 7);
    }

    #[test]
    fn a_file_is_called_by_its_own_name_and_found_once() {
        let folder = folder(&["b/2.txt"]);
        let path = folder.path().join("b/2.txt");
        let walked = walk(&[path.clone(), path, folder.path().to_owned()], &[]);
        assert_eq!(names(&walked), ["2.txt"]);
    }

    #[test]
    fn the_same_name_in_two_folders_stays_apart() {
        let folder = folder(&["x/a.txt", "y/a.txt", "y/b.txt"]);
        let walked = walk(&[folder.path().join("x"), folder.path().join("y")], &[]);
        assert_eq!(names(&walked), ["a.txt", "y/a.txt", "b.txt"]);
        let walked = walk(&[folder.path().join("x/a.txt"), folder.path().join("y/a.txt")], &[]);
        assert_eq!(names(&walked), ["a.txt", "y/a.txt"]);
    }

    #[test]
    fn what_longshore_keeps_is_never_uploaded() {
        let folder =
            folder(&["a.txt", "data/credentials.json", "data/bucket/x", "led/ger.db", "led/ger.db-wal", "led/b"]);
        let at = |path: &str| folder.path().join(path);
        let own = [at("led/../data"), at("led/ger.db"), at("led/ger.db-wal"), at("not-there")];

        let walked = walk(&[folder.path().to_owned()], &own);
        assert_eq!(names(&walked), ["a.txt", "led/b"]);
        let real = folder.path().canonicalize().unwrap();
        assert_eq!(walked.left_out, [real.join("data"), real.join("led/ger.db"), real.join("led/ger.db-wal")]);

        for asked in [at("data"), at("data/bucket"), at("data/credentials.json")] {
            let walked = walk(std::slice::from_ref(&asked), &own);
            assert_eq!((names(&walked).len(), walked.failures.len()), (0, 1), "{}", asked.display());
        }
    }

    #[test]
    fn a_data_folder_that_the_configuration_does_not_know_is_left_out_too() {
        let folder = folder(&["a.txt", "d/longshore.lock", "d/longshore.db", "b/longshore-bucket.lock", "b/x"]);
        let walked = walk(&[folder.path().to_owned()], &[]);
        assert_eq!((names(&walked), walked.left_out.len()), (vec!["a.txt"], 2));
        let walked = walk(&[folder.path().join("d")], &[]);
        assert_eq!((names(&walked).len(), walked.failures.len()), (0, 1));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_skipped_and_what_is_not_there_is_a_failure() {
        let folder = folder(&["a.txt"]);
        std::os::unix::fs::symlink(folder.path().join("a.txt"), folder.path().join("link")).unwrap();
        let walked = walk(&[folder.path().to_owned(), folder.path().join("missing")], &[]);
        assert_eq!((names(&walked), walked.skipped, walked.failures.len()), (vec!["a.txt"], 1, 1));
    }
}
