//! The data files: written aside, made durable, renamed into place, never changed after.
//!
//! Names are made up here: the number of the opening, then 96 random bits, in a folder by the last two digits. No
//! part of one comes from a key. That the opening stands in the name lets the sweep tell leftovers from files on
//! their way, by no clock.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write as _};
use std::mem;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longshore_jobs::model::Digest;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::task::{JoinHandle, spawn_blocking};

use super::index::Row;

/// What is handed to a blocking thread at once; whatever is smaller is stored in one go.
const BLOCK: usize = 256 * 1024;

/// The folder of data files. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Files {
    dir: Arc<Path>,
    opening: u32,
    /// Which folders are known to be there, durably.
    made: Arc<[AtomicBool; 256]>,
}

/// A data file that is in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) name: String,
    pub(crate) size: i64,
    pub(crate) sha256: Digest,
}

impl Files {
    /// Makes the folders and removes what an earlier run left half-written. Blocks.
    pub(crate) fn open(dir: &Path, opening: u32) -> io::Result<Self> {
        let files = Self::beside(dir, opening);
        make_folder(&files.dir.join("tmp"))?;
        make_folder(&files.dir.join("data"))?;
        sync_folder(&files.dir)?;
        files.clear_tmp()?;
        Ok(files)
    }

    /// What another process may have open: nothing is made or removed.
    pub(crate) fn beside(dir: &Path, opening: u32) -> Self {
        Self { dir: dir.into(), opening, made: Arc::new([const { AtomicBool::new(false) }; 256]) }
    }

    fn clear_tmp(&self) -> io::Result<()> {
        let mut removed = 0_u64;
        for entry in fs::read_dir(self.dir.join("tmp"))? {
            fs::remove_file(entry?.path())?;
            removed += 1;
        }
        if removed > 0 {
            tracing::info!(removed, "removed half-written files of an earlier run");
        }
        Ok(())
    }

    /// The folders' names, all 256; each is made when its first file comes.
    pub(crate) fn folders() -> impl Iterator<Item = String> {
        (0..=u8::MAX).map(|byte| format!("{byte:02x}"))
    }

    /// What lies in a folder that an earlier opening has written. Blocks.
    pub(crate) fn earlier(&self, folder: &str) -> io::Result<Vec<String>> {
        let current = self.name_prefix();
        let entries = match fs::read_dir(self.dir.join("data").join(folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names: Vec<_> = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        let is_ours = |name: &String| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        Ok(names.filter(|name| is_ours(name) && !name.starts_with(&current)).collect())
    }

    /// Opens the data file that a row names; `None` when it is lost. Blocks.
    pub(crate) fn open_whole(&self, row: &Row) -> io::Result<Option<File>> {
        let file = match File::open(self.path(&row.file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.lost(),
            file => file?,
        };
        Ok(is_whole(&file.metadata()?, row).then_some(file))
    }

    /// Looks at the data file that a row names; `None` when it is lost. Blocks.
    pub(crate) fn stat(&self, row: &Row) -> io::Result<Option<()>> {
        match fs::metadata(self.path(&row.file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.lost(),
            found => Ok(is_whole(&found?, row).then_some(())),
        }
    }

    /// A file that is not there is lost; where no other is either, their disk is away.
    fn lost<T>(&self) -> io::Result<Option<T>> {
        match fs::read_dir(self.dir.join("data"))?.next() {
            Some(_) => Ok(None),
            None => Err(io::Error::other("the folder of all data files is empty: is its disk there?")),
        }
    }

    /// The bucket's folder.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes data files; a failure is logged, and left to the sweep of the next opening.
    pub(crate) async fn remove(&self, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let files = self.clone();
        let removal = spawn_blocking(move || {
            for name in names {
                if let Err(error) = fs::remove_file(files.path(&name)) {
                    tracing::warn!(%error, name, "a data file could not be removed");
                }
            }
        });
        if let Err(error) = removal.await {
            tracing::warn!(%error, "the removal of data files was lost");
        }
    }

    /// Starts a data file.
    pub(crate) fn receive(&self) -> Incoming {
        Incoming { files: self.clone(), size: 0, block: Vec::new(), writing: None }
    }

    /// A name and the number of its folder.
    fn new_name(&self) -> (String, u8) {
        let mut random = [0; 12];
        rand::fill(&mut random);
        (format!("{}{}", self.name_prefix(), hex::encode(random)), random[11])
    }

    fn name_prefix(&self) -> String {
        format!("{:08x}", self.opening)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.join("data").join(&name[name.len() - 2..])
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder(name).join(name)
    }
}

fn is_whole(found: &Metadata, row: &Row) -> bool {
    found.is_file() && i64::try_from(found.len()) == Ok(row.size)
}

/// Bytes on their way into a data file. Dropped, or refused at the end, it leaves nothing behind.
///
/// Hashing and writing go on on a blocking thread, block by block, while the next block comes in; no thread is held
/// while a slow sender pauses. At most two blocks are in memory.
pub(crate) struct Incoming {
    files: Files,
    size: i64,
    block: Vec<u8>,
    writing: Option<JoinHandle<io::Result<Block>>>,
}

/// A draft with a block written to it, and that block, empty again.
type Block = (Draft, Vec<u8>);

impl Incoming {
    /// How many bytes there are so far.
    pub(crate) fn size(&self) -> i64 {
        self.size
    }

    pub(crate) async fn push(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.size += i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        self.block.extend_from_slice(chunk);
        if self.block.len() >= BLOCK { self.write_block().await } else { Ok(()) }
    }

    async fn write_block(&mut self) -> io::Result<()> {
        let (draft, spare) = self.written().await?.unzip();
        let block = mem::replace(&mut self.block, spare.unwrap_or_else(|| Vec::with_capacity(BLOCK * 2)));
        let files = self.files.clone();
        self.writing = Some(spawn_blocking(move || write(&files, draft, block)));
        Ok(())
    }

    /// Waits for the block that is being written, if one is.
    async fn written(&mut self) -> io::Result<Option<Block>> {
        match self.writing.take() {
            Some(writing) => writing.await.map_err(io::Error::other)?.map(Some),
            None => Ok(None),
        }
    }

    /// Puts the file in its place, unless `judge` refuses its size and digest.
    pub(crate) async fn finish<E, J>(mut self, judge: J) -> io::Result<Result<Written, E>>
    where
        E: Send + 'static,
        J: FnOnce(i64, Digest) -> Result<(), E> + Send + 'static,
    {
        let draft = self.written().await?.map(|(draft, _)| draft);
        let (files, size, block) = (self.files.clone(), self.size, mem::take(&mut self.block));
        let ending = spawn_blocking(move || match draft {
            Some(draft) => draft.finish(&files, size, &block, judge),
            None => store_small(&files, size, &block, judge),
        });
        ending.await.map_err(io::Error::other)?
    }

    /// Drops it, and waits until nothing is left on the disk.
    pub(crate) async fn abandon(mut self) {
        if let Err(error) = self.written().await {
            tracing::warn!(%error, "a file that was refused had failed before");
        }
    }
}

/// A file that is being written.
struct Draft {
    file: NamedTempFile,
    hasher: Sha256,
}

fn write(files: &Files, draft: Option<Draft>, mut block: Vec<u8>) -> io::Result<Block> {
    let mut draft = match draft {
        Some(draft) => draft,
        None => Draft { file: NamedTempFile::new_in(files.dir.join("tmp"))?, hasher: Sha256::new() },
    };
    draft.hasher.update(&block);
    draft.file.write_all(&block)?;
    block.clear();
    Ok((draft, block))
}

impl Draft {
    fn finish<E>(
        mut self,
        files: &Files,
        size: i64,
        rest: &[u8],
        judge: impl FnOnce(i64, Digest) -> Result<(), E>,
    ) -> io::Result<Result<Written, E>> {
        self.hasher.update(rest);
        self.file.write_all(rest)?;
        let sha256 = Digest::finish(self.hasher);
        if let Err(refusal) = judge(size, sha256) {
            return Ok(Err(refusal));
        }
        Ok(Ok(Written { name: put_in_place(files, self.file)?, size, sha256 }))
    }
}

/// A refused small file never touches the disk.
fn store_small<E>(
    files: &Files,
    size: i64,
    bytes: &[u8],
    judge: impl FnOnce(i64, Digest) -> Result<(), E>,
) -> io::Result<Result<Written, E>> {
    let sha256 = Digest::of(bytes);
    if let Err(refusal) = judge(size, sha256) {
        return Ok(Err(refusal));
    }
    let mut file = NamedTempFile::new_in(files.dir.join("tmp"))?;
    file.write_all(bytes)?;
    Ok(Ok(Written { name: put_in_place(files, file)?, size, sha256 }))
}

/// The bytes are durable before the name is, and the name before any row speaks of it.
fn put_in_place(files: &Files, file: NamedTempFile) -> io::Result<String> {
    file.as_file().sync_data()?;
    let (name, number) = files.new_name();
    let folder = files.folder(&name);
    let made = &files.made[usize::from(number)];
    if !made.load(Ordering::Acquire) {
        make_folder(&folder)?;
        sync_folder(&files.dir.join("data"))?;
        made.store(true, Ordering::Release);
    }
    file.persist_noclobber(folder.join(&name))?;
    sync_folder(&folder)?;
    Ok(name)
}

/// For the owner alone.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
