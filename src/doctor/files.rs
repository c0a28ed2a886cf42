//! The bucket where it is a folder: whether this user may read its files and write into it.
//!
//! A bucket may have millions of files, so a few hundred are opened, the newest of some from each of its folders: a mistake with
//! owners and modes mostly concerns them all, or those that came last.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Outcome;

/// How many of each of the 256 folders are looked at.
const OF_EACH: usize = 16;
/// How many files are opened.
const SAMPLE: usize = 300;

/// `is_ours`: whether this is the user of the service.
pub(super) async fn look(folder: PathBuf, is_ours: bool) -> Outcome {
    if !is_ours {
        return Outcome::skipped(
            "a folder of another user: run this as the service's user to see whether it may read and write it",
        );
    }
    let looked = tokio::task::spawn_blocking(move || judge(&folder, &sample(&folder)));
    looked.await.unwrap_or_else(|error| Outcome::failed(error.to_string(), "report this as a bug of longshore"))
}

/// What was tried: how many files were opened, and what was refused.
#[derive(Debug, Default)]
struct Sample {
    read: usize,
    refused: Vec<(PathBuf, io::Error)>,
}

impl Sample {
    /// What is not there is none of ours: files come and go beside a service.
    fn note<T>(&mut self, path: &Path, tried: io::Result<T>) -> Option<T> {
        match tried {
            Ok(done) => return Some(done),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.refused.push((path.to_owned(), error)),
        }
        None
    }
}

fn sample(folder: &Path) -> Sample {
    let mut sample = Sample::default();
    for (name, writes) in [("index.db", true), ("credentials.json", false)] {
        let path = folder.join(name);
        let opened = OpenOptions::new().read(true).write(writes).open(&path);
        sample.note(&path, opened);
    }
    let folders = folders_of_files(folder, &mut sample);
    for folder in [folder, &folder.join("tmp")].into_iter().chain(folders.iter().map(PathBuf::as_path)) {
        sample.note(folder, may_write(folder));
    }
    let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
    for folder in folders {
        let entries = sample.note(&folder, fs::read_dir(&folder));
        files.extend(entries.into_iter().flatten().flatten().take(OF_EACH).filter_map(|entry| aged(&entry)));
    }
    files.sort_unstable_by(|one, other| other.cmp(one));
    for (_, file) in files.into_iter().take(SAMPLE) {
        let opened = File::open(&file);
        sample.read += usize::from(sample.note(&file, opened).is_some());
    }
    sample
}

fn folders_of_files(folder: &Path, sample: &mut Sample) -> Vec<PathBuf> {
    let path = folder.join("data");
    let entries = sample.note(&path, fs::read_dir(&path));
    let folders = entries.into_iter().flatten().flatten();
    folders.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn aged(entry: &DirEntry) -> Option<(SystemTime, PathBuf)> {
    let metadata = entry.metadata().ok()?;
    Some((metadata.modified().ok()?, entry.path()))
}

fn may_write(folder: &Path) -> io::Result<()> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    Ok(accessat(CWD, folder, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
}

fn judge(folder: &Path, sample: &Sample) -> Outcome {
    let shown = folder.display();
    if let Some((path, error)) = sample.refused.first() {
        return Outcome::failed(
            format!(
                "{} of what was tried in {shown} is refused, first {}: {error}",
                sample.refused.len(),
                path.display()
            ),
            format!(
                "find {shown} ! -readable -o -type d ! -writable\nlists them for the user who runs it; \
                 `chown -R USER {shown} && chmod -R u+rwX {shown}` gives them back to the service's user"
            ),
        );
    }
    if !folder.exists() {
        return Outcome::skipped(format!("{shown} is not there yet: the first start makes it"));
    }
    let files = if sample.read == 1 { "file was" } else { "files were" };
    Outcome::ok(format!("a folder that may be written to; {} of its newest {files} opened", sample.read))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn bucket() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data/00", "data/ff", "tmp"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in ["index.db", "credentials.json", "data/00/one", "data/ff/two"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        folder
    }

    #[test]
    fn the_files_of_a_bucket_are_opened_and_one_that_is_not_there_yet_is_let_be() {
        let folder = bucket();
        let seen = sample(folder.path());
        assert_eq!((seen.read, seen.refused.len()), (2, 0));
        assert_eq!(judge(folder.path(), &seen).of("bucket").status(), Status::Ok);

        let none = folder.path().join("none");
        assert_eq!(judge(&none, &sample(&none)).of("bucket").status(), Status::Skipped);
    }

    #[test]
    fn what_is_no_folder_is_refused_whoever_asks() {
        let folder = bucket();
        fs::remove_dir(folder.path().join("tmp")).unwrap();
        fs::remove_dir_all(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data"), "a file").unwrap();

        let Outcome::Failed(trouble) = judge(folder.path(), &sample(folder.path())) else { panic!("failed") };

        assert!(trouble.mend.contains("! -readable"), "{}", trouble.mend);
    }

    #[test]
    fn what_is_refused_is_named() {
        let refused = vec![(PathBuf::from("data/bucket/data/00/one"), io::ErrorKind::PermissionDenied.into())];
        let Outcome::Failed(trouble) = judge(Path::new("data/bucket"), &Sample { read: 0, refused }) else {
            panic!("failed")
        };
        assert!(trouble.detail.contains("data/bucket/data/00/one: permission denied"), "{}", trouble.detail);
    }
}
