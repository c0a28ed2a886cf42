//! The local bucket: a folder that behaves like S3, for one machine with nothing else installed.
//!
//! Data files hold the bytes and an SQLite index says which object is which file ([`files`], [`index`]). Copies
//! share a data file, so copying 5 GB costs a row. Names on the disk never come from a key. [`router`] is the HTTP
//! side: form posts and presigned reads. The folder belongs to one process at a time: whoever opens it takes its lock. Commands
//! that look and remove may do so beside it.
//!
//! ETags are derived from the content: identical bytes posted twice are the same version, as on S3.

mod credentials;
pub(crate) mod fault;
mod files;
mod form;
mod index;
mod object;
mod serve;
mod sweep;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use longshore_jobs::ledger::LedgerError;
use longshore_jobs::model::keys::STAGING;
use longshore_jobs::model::notice::{self, Arrival};
use longshore_jobs::model::policy::check::Permit;
use longshore_jobs::model::policy::{self, Credentials, PolicyTerms, PostPolicy};
use longshore_jobs::model::sigv4::{Request, Signer, encode_path};
use longshore_jobs::model::{Digest, Timestamp};
use longshore_jobs::outside::{
    Body, Bucket, BucketAddress, BucketError, Chunks, Clock, Listing, ObjectHead, Stored, SystemClock,
};
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;
use tokio::task::{JoinError, spawn_blocking};
use url::Url;

use super::attachment::attachment;
use crate::folder::{BUCKET_LOCK, FolderError, Lock};
use fault::Fault;
use files::{Files, Incoming, Written};
use index::{Copied, Index, Row};
pub(crate) use serve::router;
use whole::Opened;

/// The most keys that a page of a listing has.
const PAGE: usize = 1000;

/// How a local bucket presents itself.
#[derive(Clone)]
pub(crate) struct Options {
    /// Its name.
    pub(crate) name: String,
    /// Its region, for signatures.
    pub(crate) region: String,
    /// Where [`router`] can be reached from outside, as `http://127.0.0.1:8080/bucket`. Presigned URLs are good for
    /// it alone.
    pub(crate) public_url: Url,
    /// What clients sign with; `None` for what the folder holds, made at random the first time.
    pub(crate) credentials: Option<Credentials>,
    /// Tells the time.
    pub(crate) clock: Arc<dyn Clock>,
    /// How long the sender of a form may pause before it is given up.
    pub(crate) patience: Duration,
}

impl Options {
    /// The usual name, region and clock, and the folder's own credentials.
    pub(crate) fn new(public_url: Url) -> Self {
        let (name, region) = ("longshore".to_owned(), "local".to_owned());
        let (clock, patience) = (Arc::new(SystemClock), Duration::from_secs(60));
        Self { name, region, public_url, credentials: None, clock, patience }
    }
}

/// A bucket in a folder.
pub(crate) struct LocalBucket {
    name: String,
    region: String,
    public_url: Url,
    credentials: Credentials,
    clock: Arc<dyn Clock>,
    patience: Duration,
    files: Files,
    index: Index,
    events: mpsc::Sender<String>,
    /// `None`: somebody else may have it.
    lock: Option<Lock>,
}

/// The folder could not be opened as a bucket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// A file or folder could not be made or read.
    #[error("open the bucket's folder")]
    Folder(#[from] io::Error),
    /// Another process has it.
    #[error(transparent)]
    Lock(#[from] FolderError),
    /// The index could not be opened.
    #[error("open the bucket's index")]
    Index(#[from] LedgerError),
    /// The credentials that the folder holds cannot be read.
    #[error("read the bucket's credentials")]
    Credentials(#[from] serde_json::Error),
}

/// The bucket itself failed: its disk, its index, or a task of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("{op} the object {key} at {}", path.display())]
    Object {
        op: &'static str,
        key: String,
        /// Of its data file, or of the bucket's folder where it has none yet.
        path: PathBuf,
        source: io::Error,
    },
    #[error("the bucket's files failed")]
    Files(#[from] io::Error),
    #[error("the bucket's index failed")]
    Index(#[from] LedgerError),
    #[error("a task of the bucket was lost")]
    Lost(#[from] JoinError),
}

impl StoreError {
    fn during(op: &'static str) -> impl FnOnce(Self) -> BucketError {
        move |source| BucketError::Failed { op, source: source.into() }
    }
}

/// What goes with an object's bytes.
struct Label {
    key: String,
    content_type: Option<String>,
    metadata: BTreeMap<String, String>,
}

impl LocalBucket {
    /// Opens a folder as a bucket, made if it is not there. A notice of every object that is posted goes to `events`.
    pub(crate) async fn open(dir: &Path, options: Options, events: mpsc::Sender<String>) -> Result<Self, OpenError> {
        files::make_folder(dir)?;
        let lock = Lock::take(("the bucket's folder", dir), &dir.join(BUCKET_LOCK))?;
        let index = Index::open(&dir.join("index.db")).await?;
        let (folder, given, opening) = (dir.to_owned(), options.credentials, index.opening());
        let opened = spawn_blocking(move || {
            let credentials = given.map_or_else(|| credentials::load_or_make(&folder), Ok)?;
            Ok::<_, OpenError>((Files::open(&folder, opening)?, credentials))
        });
        let (files, credentials) = opened.await.map_err(io::Error::other)??;
        tokio::spawn(sweep::sweep_and_log(files.clone(), index.clone()));
        let Options { name, region, public_url, clock, patience, .. } = options;
        let lock = Some(lock);
        Ok(Self { name, region, public_url, credentials, clock, patience, files, index, events, lock })
    }

    /// Opens a bucket that is there, to look at objects and to remove them, also while another process serves it: that one's
    /// files on their way are let be. Removals are transactions of the index, and no row means no file, whoever asks.
    pub(crate) async fn open_beside(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let path = dir.join("index.db");
        if !path.is_file() {
            return Err(OpenError::Folder(io::Error::new(io::ErrorKind::NotFound, format!("no {}", path.display()))));
        }
        let index = Index::open_beside(&path).await?;
        let (folder, given) = (dir.to_owned(), options.credentials);
        let found = spawn_blocking(move || given.map_or_else(|| credentials::load_or_make(&folder), Ok));
        let credentials = found.await.map_err(io::Error::other)??;
        let Options { name, region, public_url, clock, patience, .. } = options;
        let (files, (events, _)) = (Files::beside(dir, index.opening()), mpsc::channel(1));
        Ok(Self { name, region, public_url, credentials, clock, patience, files, index, events, lock: None })
    }

    /// Finishes what is being written, closes the index and lets the folder go.
    pub(crate) async fn close(&self) {
        self.index.close().await;
        if let Some(lock) = &self.lock {
            lock.release();
        }
    }

    fn signer(&self) -> Signer<'_> {
        Signer { credentials: &self.credentials, region: &self.region, now: self.clock.now() }
    }

    /// The `Host` that clients send, and the path of a key, neither encoded.
    fn place(&self, key: &str) -> (String, String) {
        let host = self.public_url.host_str().unwrap_or_default();
        let host = self.public_url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let base = percent_decode_str(self.public_url.path().trim_end_matches('/')).decode_utf8_lossy();
        (host, format!("{base}/{}/{key}", self.name))
    }

    /// The URL of a key, without a signature.
    fn url_of(&self, key: &str) -> String {
        format!("{}/{}", self.form_url(), encode_path(key))
    }

    fn form_url(&self) -> String {
        format!("{}/{}", self.public_url.as_str().trim_end_matches('/'), self.name)
    }

    /// Makes what a form has brought an object, unless its permit refuses it, and tells of it when it lies where clients
    /// put. Once begun it runs to its end, even when the client goes away.
    async fn land(self: &Arc<Self>, incoming: Incoming, permit: Permit) -> Result<Row, Fault> {
        let bucket = Arc::clone(self);
        let task = async move {
            let judge = permit.clone();
            let finished = incoming.finish(move |size, sha256| judge.check_whole(size, sha256)).await;
            let written = finished.map_err(bucket.unwritten(&permit.key))??;
            let label = Label { key: permit.key, content_type: permit.content_type, metadata: permit.metadata };
            let row = record(&bucket.files, &bucket.index, label.row(written, bucket.clock.now())).await?;
            if row.key.starts_with(STAGING) {
                bucket.tell(&row).await;
            }
            Ok(row)
        };
        tokio::spawn(task).await.map_err(StoreError::from)?
    }

    /// As [`LocalBucket::land`], for what the service itself puts.
    async fn keep(&self, incoming: Incoming, label: Label) -> Result<Row, StoreError> {
        let (files, index, now) = (self.files.clone(), self.index.clone(), self.clock.now());
        let unwritten = self.unwritten(&label.key);
        let task = async move {
            let finished = incoming.finish(|_, _| Ok::<(), Infallible>(())).await;
            let written = match finished.map_err(unwritten)? {
                Ok(written) => written,
                Err(never) => match never {},
            };
            record(&files, &index, label.row(written, now)).await
        };
        tokio::spawn(task).await?
    }

    async fn tell(&self, row: &Row) {
        let arrival = Arrival {
            bucket: self.name.clone(),
            key: row.key.clone(),
            size: Some(row.size),
            etag: Some(row.etag.clone()),
            sequencer: Some(row.sequencer.clone()),
        };
        let notice = notice::render(&arrival, &self.region, row.modified_at);
        if self.events.send(notice).await.is_err() {
            tracing::warn!(key = row.key, "nobody takes notices any more; the poller will find the object");
        }
    }
}

impl Label {
    fn row(self, written: Written, now: Timestamp) -> Row {
        Row {
            key: self.key,
            file: written.name,
            size: written.size,
            etag: written.sha256.to_hex(),
            content_type: self.content_type,
            metadata: serde_json::json!(self.metadata).to_string(),
            sha256: written.sha256,
            sequencer: String::new(),
            modified_at: now,
        }
    }
}

/// Names a data file in the index. Where that fails the file stays, since the row may be there all the same: if it is
/// not, the sweep of the next opening finds the file.
async fn record(files: &Files, index: &Index, row: Row) -> Result<Row, StoreError> {
    let (row, unused) = index.put(row).await?;
    files.remove(unused.into_iter().collect()).await;
    Ok(row)
}

#[async_trait]
impl Bucket for LocalBucket {
    async fn sign(&self, terms: PolicyTerms) -> Result<PostPolicy, BucketError> {
        let fields = policy::sign(&terms, &self.name, &self.signer());
        Ok(PostPolicy { url: self.form_url(), fields, expires_at: terms.expires_at })
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectHead>, BucketError> {
        let found = self.look(key).await.map_err(StoreError::during("head"))?;
        Ok(found.map(|row| row.head()))
    }

    async fn read(&self, head: &ObjectHead) -> Result<Body, BucketError> {
        let failed = |error: StoreError| StoreError::during("read")(error);
        let key = || head.key.clone();
        let row = self.index.find(&head.key).await.map_err(|error| failed(error.into()))?;
        let row = row.ok_or_else(|| BucketError::Missing { key: key() })?;
        if row.etag != head.etag {
            return Err(BucketError::Changed { key: key() });
        }
        match self.open_version(row).await.map_err(failed)? {
            Opened::Whole(file) => Ok(Body::File(file)),
            Opened::Changed => Err(BucketError::Changed { key: key() }),
            Opened::Lost => Err(BucketError::Missing { key: key() }),
        }
    }

    async fn put(&self, key: &str, content_type: Option<&str>, bytes: Chunks<'_>) -> Result<Stored, BucketError> {
        let incoming = self.receive(key, bytes).await?;
        let (key, content_type) = (key.to_owned(), content_type.map(str::to_owned));
        let label = Label { key, content_type, metadata: BTreeMap::new() };
        let row = self.keep(incoming, label).await.map_err(StoreError::during("put"))?;
        Ok(Stored { head: row.head(), sha256: row.sha256 })
    }

    async fn copy(&self, from: &ObjectHead, to: &str) -> Result<Option<Digest>, BucketError> {
        let now = self.clock.now();
        let copied = self.index.copy(from.clone(), to.to_owned(), now).await;
        match copied.map_err(|error| StoreError::during("copy")(error.into()))? {
            Copied::Done { sha256, unused } => {
                self.files.remove(unused.into_iter().collect()).await;
                Ok(Some(sha256))
            }
            Copied::Missing => Err(BucketError::Missing { key: from.key.clone() }),
            Copied::Changed => Err(BucketError::Changed { key: from.key.clone() }),
        }
    }

    async fn delete(&self, keys: &[String]) -> Result<(), BucketError> {
        let unused = self.index.delete(keys).await.map_err(|error| StoreError::during("delete")(error.into()))?;
        self.files.remove(unused).await;
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Listing, BucketError> {
        let rows = self.index.list(prefix, after.unwrap_or_default(), PAGE + 1).await;
        let mut rows = rows.map_err(|error| StoreError::during("list")(error.into()))?;
        let more = rows.len() > PAGE;
        rows.truncate(PAGE);
        let next = rows.last().filter(|_| more).map(|row| row.key.clone());
        let rows = self.all_whole(rows).await.map_err(StoreError::during("list"))?;
        Ok(Listing { objects: rows.iter().map(Row::head).collect(), next })
    }

    async fn presign_get(&self, key: &str, filename: &str, life: Duration) -> Result<String, BucketError> {
        let (host, path) = self.place(key);
        let query = vec![("response-content-disposition".to_owned(), attachment(filename))];
        let query = self.signer().presign(Request { method: "GET", host: &host, path: &path, query }, life);
        Ok(format!("{}?{query}", self.url_of(key)))
    }

    fn address(&self) -> BucketAddress {
        BucketAddress {
            url: self.form_url(),
            bucket: self.name.clone(),
            region: self.region.clone(),
            access_key_id: self.credentials.access_key_id.clone(),
        }
    }
}

impl LocalBucket {
    async fn receive(&self, key: &str, mut bytes: Chunks<'_>) -> Result<Incoming, BucketError> {
        let unwritten = self.unwritten(key);
        let failed = |error: io::Error| StoreError::during("put")(unwritten(error));
        let mut incoming = self.files.receive();
        while let Some(chunk) = bytes.next().await {
            match chunk {
                Ok(chunk) => incoming.push(&chunk).await.map_err(&failed)?,
                Err(source) => {
                    incoming.abandon().await;
                    return Err(BucketError::BrokenOff { key: key.to_owned(), source });
                }
            }
        }
        Ok(incoming)
    }
}

/// Seconds are enough for HTTP (RFC 9110, section 5.6.7).
fn http_date(time: Timestamp) -> String {
    time.to_utc().format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
