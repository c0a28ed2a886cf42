//! The local bucket from outside: its contract, its folder, and its HTTP side.

mod lost;
mod posts;
mod prefixes;
mod reads;
mod refusals;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use longshore_jobs::model::policy::{Place, PolicyTerms};
use longshore_jobs::outside::{Bucket as _, Chunks, Clock as _};
use longshore_jobs::testkit::{HandClock, contract};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::*;

const BOUNDARY: &str = "----boundary-of-the-form";

struct Rig {
    dir: TempDir,
    clock: Arc<HandClock>,
    bucket: Arc<LocalBucket>,
    events: mpsc::Receiver<String>,
}

impl Rig {
    async fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap()).await
    }

    async fn at(dir: TempDir) -> Self {
        let clock = Arc::new(HandClock::default());
        let (events, taken) = mpsc::channel(64);
        let patience = Duration::from_millis(500);
        let options = Options { clock: clock.clone(), patience, ..Self::options() };
        let bucket = LocalBucket::open(dir.path(), options, events).await.unwrap();
        Self { dir, clock, bucket: Arc::new(bucket), events: taken }
    }

    async fn reopen(self) -> Self {
        self.bucket.close().await;
        Self::at(self.dir).await
    }

    fn terms(&self) -> PolicyTerms {
        PolicyTerms {
            place: Place::Key("staging/o/u/r".to_owned(), Uuid::nil()),
            min_size: 2,
            max_size: 10_000_000,
            content_type: Some("text/plain".to_owned()),
            sha256: None,
            traceparent: None,
            expires_at: self.clock.now() + Duration::from_secs(900),
        }
    }

    async fn form(&self, terms: PolicyTerms, file: &[u8]) -> Form {
        let fields = self.bucket.sign(terms).await.unwrap().fields;
        let mut parts: Vec<_> = fields.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
        parts.push(("file".to_owned(), file.to_vec()));
        Form {
            path: "/bucket/longshore".to_owned(),
            parts,
            boundary: Some(BOUNDARY),
            cut: 0,
            filename: "a.bin".to_owned(),
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let app = Router::new().nest("/bucket", router(Arc::clone(&self.bucket)));
        let response = app.oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: head.status, headers: head.headers, body }
    }

    async fn post(&self, form: Form) -> Answer {
        self.send(form.request()).await
    }

    fn options() -> Options {
        Options::new(Url::parse("http://127.0.0.1:8080/bucket").unwrap())
    }

    async fn posted(&mut self, terms: PolicyTerms, file: &[u8]) -> Answer {
        let answer = self.post(self.form(terms, file).await).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        answer
    }

    async fn keys(&self) -> Vec<String> {
        let listing = self.bucket.list("", None).await.unwrap();
        listing.objects.into_iter().map(|head| head.key).collect()
    }

    fn data_files(&self) -> usize {
        Files::folders().map(|folder| count(&self.dir.path().join("data").join(folder))).sum()
    }

    fn tmp_files(&self) -> usize {
        count(&self.dir.path().join("tmp"))
    }

    async fn assert_nothing_stored(&mut self) {
        assert_eq!(self.keys().await, Vec::<String>::new());
        assert_eq!((self.data_files(), self.tmp_files()), (0, 0));
        assert!(self.events.try_recv().is_err());
    }
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, Iterator::count)
}

fn chunks(text: &'static [u8]) -> Chunks<'static> {
    futures_util::stream::iter([Ok(Bytes::from_static(text))]).boxed()
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn code(&self) -> String {
        let text = self.text();
        let code = text.split("<Code>").nth(1).and_then(|rest| rest.split("</Code>").next());
        code.unwrap_or_default().to_owned()
    }
}

/// A form as a client would send it, to be bent by tests.
struct Form {
    path: String,
    parts: Vec<(String, Vec<u8>)>,
    /// `None` sends none in the header.
    boundary: Option<&'static str>,
    /// How many bytes to leave off at the end.
    cut: usize,
    /// As it stands in the header of the file's part.
    filename: String,
}

impl Form {
    fn set(&mut self, name: &str, value: &str) {
        let part = self.parts.iter_mut().find(|(given, _)| given == name);
        part.unwrap().1 = value.as_bytes().to_vec();
    }

    fn replace(&mut self, name: &str, old: &str, new: &str) {
        let part = self.parts.iter_mut().find(|(given, _)| given == name).unwrap();
        let text = String::from_utf8(part.1.clone()).unwrap();
        assert!(text.contains(old), "{text}");
        part.1 = text.replace(old, new).into_bytes();
    }

    fn remove(&mut self, name: &str) {
        self.parts.retain(|(given, _)| given != name);
    }

    fn add_first(&mut self, name: &str, value: &str) {
        self.parts.insert(0, (name.to_owned(), value.as_bytes().to_vec()));
    }

    fn add_last(&mut self, name: &str, value: &str) {
        self.parts.push((name.to_owned(), value.as_bytes().to_vec()));
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.parts {
            let of_file = format!("; filename=\"{}\"\r\nContent-Type: text/html", self.filename);
            let more = if name == "file" { of_file.as_str() } else { "" };
            let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
        body.truncate(body.len() - self.cut);
        body
    }

    fn request(&self) -> Request<Body> {
        let boundary = self.boundary.map(|boundary| format!("; boundary={boundary}")).unwrap_or_default();
        // In pieces, as from a network.
        let pieces: Vec<_> = self.body().chunks(50_000).map(Bytes::copy_from_slice).map(Ok::<_, io::Error>).collect();
        Request::post(&self.path)
            .header("content-type", format!("multipart/form-data{boundary}"))
            .body(Body::from_stream(futures_util::stream::iter(pieces)))
            .unwrap()
    }
}

#[tokio::test]
async fn it_is_a_bucket() {
    let rig = Rig::new().await;
    contract::bucket(&*rig.bucket).await;
}

#[tokio::test]
async fn a_replaced_object_leaves_no_data_file_behind() {
    let rig = Rig::new().await;

    rig.bucket.put("k", None, chunks(b"one")).await.unwrap();
    rig.bucket.put("k", None, chunks(b"two")).await.unwrap();
    assert_eq!(rig.data_files(), 1);

    rig.bucket.delete(&["k".to_owned()]).await.unwrap();
    assert_eq!(rig.data_files(), 0);
}

#[tokio::test]
async fn a_copy_shares_its_data_file_until_the_last_goes() {
    let rig = Rig::new().await;
    let from = rig.bucket.put("a", None, chunks(b"bytes")).await.unwrap();

    assert_eq!(rig.bucket.copy(&from.head, "b").await.unwrap(), Some(from.sha256));
    assert_eq!(rig.bucket.copy(&from.head, "a").await.unwrap(), Some(from.sha256));
    assert_eq!(rig.data_files(), 1);

    rig.bucket.delete(&["a".to_owned()]).await.unwrap();
    assert_eq!(rig.data_files(), 1);
    rig.bucket.put("b", None, chunks(b"other")).await.unwrap();
    assert_eq!(rig.data_files(), 1);
    rig.bucket.delete(&["b".to_owned()]).await.unwrap();
    assert_eq!(rig.data_files(), 0);
}

#[tokio::test]
async fn objects_and_credentials_outlive_the_process() {
    let rig = Rig::new().await;
    let stored = rig.bucket.put("k", Some("a/b"), chunks(b"bytes")).await.unwrap();
    let address = rig.bucket.address();

    let rig = rig.reopen().await;

    assert_eq!(rig.bucket.head("k").await.unwrap(), Some(stored.head));
    assert_eq!(rig.bucket.address(), address);
}

#[tokio::test]
async fn what_a_crash_left_is_swept_and_nothing_else() {
    let rig = Rig::new().await;
    rig.bucket.put("k", None, chunks(b"bytes")).await.unwrap();
    let (data, orphan) = (rig.dir.path().join("data"), "00000001aaaaaaaaaaaaaaaaaaaaaaff");
    fs::create_dir_all(data.join("ff")).unwrap();
    fs::write(data.join("ff").join(orphan), "no row names it").unwrap();
    fs::write(data.join("ff").join("notes of the owner ff"), "not ours").unwrap();
    fs::write(rig.dir.path().join("tmp/.tmpabc"), "half").unwrap();

    let rig = rig.reopen().await;
    let on_its_way = rig.bucket.files.receive();
    let on_its_way = on_its_way.finish(|_, _| Ok::<_, ()>(())).await.unwrap().unwrap();
    sweep::sweep(&rig.bucket.files, &rig.bucket.index).await.unwrap();

    assert_eq!(rig.tmp_files(), 0);
    assert!(!data.join("ff").join(orphan).exists());
    assert!(data.join("ff").join("notes of the owner ff").exists());
    assert!(rig.bucket.files.path(&on_its_way.name).exists());
    assert_eq!(rig.keys().await, ["k"]);
    let head = rig.bucket.head("k").await.unwrap().unwrap();
    assert!(rig.bucket.read(&head).await.is_ok());
}

#[tokio::test]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let rig = Rig::new().await;
    let mut incoming = rig.bucket.files.receive();
    // The second block waits until the first is written.
    for _ in 0..2 {
        incoming.push(&[7; 1_000_000]).await.unwrap();
    }
    assert_eq!(rig.tmp_files(), 1);

    incoming.abandon().await;

    assert_eq!((rig.tmp_files(), rig.data_files()), (0, 0));
}

#[tokio::test]
async fn bytes_that_are_posted_again_while_they_are_opened_are_still_that_version() {
    let mut rig = Rig::new().await;
    rig.posted(rig.terms(), b"the same").await;
    let seen = rig.bucket.index.find("staging/o/u/r").await.unwrap().unwrap();

    rig.posted(rig.terms(), b"the same").await;
    assert_eq!(rig.data_files(), 1, "the file that was seen is gone");
    let Opened::Whole(file) = rig.bucket.open_version(seen.clone()).await.unwrap() else { panic!("it is there") };
    assert_eq!(io::read_to_string(file).unwrap(), "the same");

    rig.posted(rig.terms(), b"others").await;
    assert!(matches!(rig.bucket.open_version(seen).await.unwrap(), Opened::Changed));
}

#[tokio::test]
async fn what_is_removed_beside_the_process_that_serves_takes_nothing_else_with_it() {
    let rig = Rig::new().await;
    let from = rig.bucket.put("blobs/removed", None, chunks(b"shared")).await.unwrap().head;
    rig.bucket.put("blobs/removed2", None, chunks(b"alone")).await.unwrap();
    rig.bucket.copy(&from, "blobs/kept").await.unwrap();
    fs::write(rig.dir.path().join("tmp/on-its-way"), b"half").unwrap();
    let before = (rig.data_files(), rig.tmp_files());

    let beside = LocalBucket::open_beside(rig.dir.path(), Rig::options()).await.unwrap();
    assert_eq!(beside.list("", None).await.unwrap().objects, rig.bucket.list("", None).await.unwrap().objects);
    beside.delete(&["blobs/removed".to_owned(), "blobs/removed2".to_owned()]).await.unwrap();
    beside.close().await;

    assert_eq!(rig.keys().await, ["blobs/kept"]);
    assert_eq!((rig.data_files(), rig.tmp_files()), (before.0 - 1, before.1));
    let head = rig.bucket.head("blobs/kept").await.unwrap().unwrap();
    assert!(rig.bucket.read(&head).await.is_ok());
    assert!(LocalBucket::open_beside(&rig.dir.path().join("none"), Rig::options()).await.is_err());
}

#[tokio::test]
async fn a_folder_is_one_buckets_at_a_time() {
    let rig = Rig::new().await;
    let (events, _taken) = mpsc::channel(1);

    let second = LocalBucket::open(rig.dir.path(), Rig::options(), events.clone()).await;
    assert!(matches!(second, Err(OpenError::Lock(FolderError::Taken { .. }))));

    rig.bucket.close().await;
    assert!(LocalBucket::open(rig.dir.path(), Rig::options(), events).await.is_ok());
}
