//! Room on the disks: of the data folder, the bucket's folder, the ledger's file and the folder for temporary files.

use std::io;
use std::path::{Path, PathBuf};

use super::Outcome;
use crate::config::Config;

const GIGABYTE: u64 = 1_000_000_000;
const LITTLE: u64 = GIGABYTE;
const TOO_LITTLE: u64 = GIGABYTE / 10;
/// A disk with less than this share is nearly full, whatever its size.
const LITTLE_SHARE: u64 = 10;

/// What is kept where, as far as it is on this machine.
pub(super) fn places(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let ledger = config.database.file().and_then(Path::parent).map(|folder| ("disk: ledger", folder.to_owned()));
    let bucket = config.bucket.folder().map(|folder| ("disk: bucket", folder.to_owned()));
    let data = config.is_local().then(|| ("disk: data folder", config.data_dir.clone()));
    let temporary = ("disk: temporary", std::env::temp_dir());
    // Mostly the ledger is in the data folder, and its disk the same.
    let ledger = ledger.filter(|(_, folder)| *folder != config.data_dir);
    data.into_iter().chain(ledger).chain(bucket).chain([temporary]).collect()
}

/// Looks at the disk of a folder, or at that of its nearest parent which is there.
pub(super) async fn look(path: PathBuf) -> Outcome {
    let looked = tokio::task::spawn_blocking(move || {
        let there = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
        judge(&path, room(if there.as_os_str().is_empty() { Path::new(".") } else { there }))
    });
    looked.await.unwrap_or_else(|error| Outcome::failed(error.to_string(), "report this as a bug of longshore"))
}

/// Bytes that can be written there, and bytes in all. Files count too: a disk without inodes is full.
#[derive(Clone, Copy, Debug)]
struct Room {
    free: u64,
    total: u64,
    files_free: u64,
    files: u64,
}

fn room(path: &Path) -> io::Result<Room> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(Room {
        free: disk.f_bavail.saturating_mul(disk.f_frsize),
        total: disk.f_blocks.saturating_mul(disk.f_frsize),
        files_free: disk.f_favail,
        files: disk.f_files,
    })
}

fn judge(path: &Path, room: io::Result<Room>) -> Outcome {
    let shown = path.display();
    let room = match room {
        Ok(room) => room,
        Err(error) => {
            return Outcome::failed(format!("{shown} cannot be looked at: {error}"), "check the path in the settings");
        }
    };
    let share = room.free.saturating_mul(100).checked_div(room.total).unwrap_or(0);
    let seen = format!("{shown}: {} free of {} ({share} %)", bytes(room.free), bytes(room.total));
    let mend = "free some space or enlarge the disk: runbook, *A full disk*";
    // Some file systems have no fixed number of files, and say 0.
    if room.files > 0 && room.files_free == 0 {
        return Outcome::failed(format!("{seen}, and not one more file can be made"), mend);
    }
    if room.free < TOO_LITTLE {
        return Outcome::failed(seen, mend);
    }
    if room.free < LITTLE || share < LITTLE_SHARE { Outcome::warning(seen, mend) } else { Outcome::ok(seen) }
}

/// Whether an error says what a full disk says. SQLite's I/O error is mostly that: its shared memory found no room.
pub(crate) fn sounds_full(said: &str) -> bool {
    ["is full", "No space left", "could not extend file", "disk I/O error"].iter().any(|words| said.contains(words))
}

fn bytes(count: u64) -> String {
    if count >= GIGABYTE {
        return format!("{}.{} GB", count / GIGABYTE, count % GIGABYTE / (GIGABYTE / 10));
    }
    format!("{} MB", count / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    const ROOM: Room = Room { free: 50 * GIGABYTE, total: 100 * GIGABYTE, files_free: 1, files: 10 };

    #[test]
    fn a_disk_is_judged_by_what_is_free_of_it() {
        let judge = |room| judge(Path::new("/data"), Ok(room)).of("disk").status();
        assert_eq!(judge(ROOM), Status::Ok);
        assert_eq!(judge(Room { free: 9 * GIGABYTE, ..ROOM }), Status::Warning);
        assert_eq!(judge(Room { free: GIGABYTE / 2, total: GIGABYTE, ..ROOM }), Status::Warning);
        assert_eq!(judge(Room { free: 99_000_000, total: 150_000_000, ..ROOM }), Status::Failed);
        assert_eq!(judge(Room { files_free: 0, ..ROOM }), Status::Failed);
        assert_eq!(judge(Room { files_free: 0, files: 0, ..ROOM }), Status::Ok);
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_yet_will_be_on_its_parents_disk() {
        let folder = tempfile::tempdir().unwrap();
        let looked = look(folder.path().join("not/there")).await.of("disk").status();
        assert_ne!(looked, Status::Skipped);
        assert!(room(folder.path()).unwrap().total > 0);
    }
}
