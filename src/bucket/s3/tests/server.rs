//! A server that speaks as much S3 as one object needs, and does what a test tells it to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

pub(super) const ETAG: &str = "version-1";

/// What came in, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    /// The first byte of a range.
    pub(super) start: Option<u64>,
    pub(super) if_match: Option<String>,
}

/// What the server does with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Serve,
    Refuse(u16, &'static str),
    /// Answers as somebody does who stands before S3: a page with this status.
    Intercept(u16),
    /// Tells of the object with everything but its length.
    HideLength,
    /// Sends half a body, then drops the connection.
    BreakOff,
    /// Sends half a range as if it were all of it.
    CutShort,
    IgnoreRange,
    /// Answers when this many others have been answered.
    After(usize),
    /// Answers never.
    Never,
    /// Says in which region the bucket is.
    Redirect(&'static str),
    /// Answers 200 with an error in it.
    Pretend(&'static str),
}

type Rule = Box<dyn FnMut(&Asked) -> Act + Send>;

pub(super) struct Server {
    pub(super) url: Url,
    state: Arc<Inner>,
    _task: AbortOnDropHandle<()>,
}

struct Inner {
    object: Mutex<Bytes>,
    parts: Mutex<Vec<Bytes>>,
    rule: Mutex<Rule>,
    asked: Mutex<Vec<Asked>>,
    counts: watch::Sender<Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Requests that have come in and are not answered.
    pub(super) open: usize,
    /// The most of them at one time.
    pub(super) most_open: usize,
    pub(super) answered: usize,
    /// Multipart uploads that are neither completed nor aborted.
    pub(super) uploads: usize,
    pub(super) aborted: usize,
}

impl Server {
    pub(super) async fn start(object: Vec<u8>, rule: impl FnMut(&Asked) -> Act + Send + 'static) -> Self {
        let inner = Arc::new(Inner {
            object: Mutex::new(object.into()),
            parts: Mutex::default(),
            rule: Mutex::new(Box::new(rule)),
            asked: Mutex::default(),
            counts: watch::Sender::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let app = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let task = AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, app).await.unwrap() }));
        Self { url, state: inner, _task: task }
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    pub(super) fn object(&self) -> Bytes {
        self.state.object.lock().unwrap().clone()
    }

    pub(super) async fn until(&self, holds: impl FnMut(&Counts) -> bool) -> Counts {
        let mut counts = self.state.counts.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(10), counts.wait_for(holds)).await;
        *waited.expect("it should have come to this within 10 s").unwrap()
    }
}

/// Counts a request as open until its answer is made, or its sender has gone away.
struct Open<'a>(&'a Inner);

impl<'a> Open<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.counts.send_modify(|counts| {
            counts.open += 1;
            counts.most_open = counts.most_open.max(counts.open);
        });
        Self(inner)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counts.send_modify(|counts| counts.open -= 1);
    }
}

async fn serve(State(inner): State<Arc<Inner>>, request: Request<Body>) -> Response {
    let _open = Open::new(&inner);
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let if_match = head.headers.get(header::IF_MATCH).map(|tag| tag.to_str().unwrap().to_owned());
    let path = head.uri.path().to_owned();
    let asked = Asked { method: head.method.clone(), path, query, start: start_of(&head.headers), if_match };
    let body = to_bytes(body, usize::MAX).await.unwrap();
    inner.asked.lock().unwrap().push(asked.clone());
    let act = (inner.rule.lock().unwrap())(&asked);
    match act {
        Act::After(answered) => {
            inner.counts.subscribe().wait_for(|counts| counts.answered >= answered).await.unwrap();
        }
        Act::Never => std::future::pending().await,
        _ => {}
    }
    let response = match act {
        Act::Refuse(status, code) => refusal(StatusCode::from_u16(status).unwrap(), code),
        Act::Intercept(status) => {
            let page = [(header::CONTENT_TYPE, "text/html")];
            (StatusCode::from_u16(status).unwrap(), page, "<html><h1>No such route</h1></html>").into_response()
        }
        Act::HideLength => (etag(), Body::from_stream(stream::empty::<std::io::Result<Bytes>>())).into_response(),
        Act::Redirect(region) => {
            let at = [("x-amz-bucket-region", region)];
            (StatusCode::MOVED_PERMANENTLY, at).into_response()
        }
        Act::Pretend(code) => refusal(StatusCode::OK, code),
        act => inner.answer(act, &asked, &head.headers, body),
    };
    inner.counts.send_modify(|counts| counts.answered += 1);
    response
}

fn start_of(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::RANGE)?.to_str().unwrap();
    range.strip_prefix("bytes=")?.split_once('-')?.0.parse().ok()
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let text = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>as told</Message></Error>");
    (status, [(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

impl Inner {
    fn answer(&self, act: Act, asked: &Asked, headers: &HeaderMap, body: Bytes) -> Response {
        let id = asked.query.split('&').find_map(|pair| pair.strip_prefix("uploadId="));
        match (asked.method.as_str(), id) {
            ("GET", _) => self.get(act, headers),
            ("POST", None) => {
                self.counts.send_modify(|counts| counts.uploads += 1);
                xml("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")
            }
            ("PUT", Some(_)) => {
                self.parts.lock().unwrap().push(body);
                etag().into_response()
            }
            ("POST", Some(_)) => {
                *self.object.lock().unwrap() = self.parts.lock().unwrap().concat().into();
                self.counts.send_modify(|counts| counts.uploads -= 1);
                let result = "CompleteMultipartUploadResult";
                xml(&format!("<{result}><ETag>\"{ETAG}\"</ETag></{result}>"))
            }
            ("PUT", None) => {
                *self.object.lock().unwrap() = body;
                etag().into_response()
            }
            ("DELETE", Some(_)) => {
                self.counts.send_modify(|counts| {
                    counts.uploads -= 1;
                    counts.aborted += 1;
                });
                StatusCode::NO_CONTENT.into_response()
            }
            _ => StatusCode::OK.into_response(),
        }
    }

    fn get(&self, act: Act, headers: &HeaderMap) -> Response {
        let object = self.object();
        let range = headers.get(header::RANGE).filter(|_| !matches!(act, Act::IgnoreRange));
        let Some(range) = range else { return (etag(), send(act, object)).into_response() };
        let bounds = range.to_str().unwrap().strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (bounds.0.parse().unwrap(), bounds.1.parse().unwrap());
        let told = [(header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", object.len()))];
        (StatusCode::PARTIAL_CONTENT, etag(), told, send(act, object.slice(first..=last))).into_response()
    }

    fn object(&self) -> Bytes {
        self.object.lock().unwrap().clone()
    }
}

fn etag() -> [(header::HeaderName, String); 1] {
    [(header::ETAG, format!("\"{ETAG}\""))]
}

fn xml(text: &str) -> Response {
    format!("<?xml version=\"1.0\"?>\n{text}").into_response()
}

fn send(act: Act, bytes: Bytes) -> Response {
    let half = bytes.slice(..bytes.len() / 2);
    match act {
        Act::CutShort => half.into_response(),
        Act::BreakOff => {
            // Nobody is ready in between, so the first half goes out.
            let end = stream::once(async {
                tokio::task::yield_now().await;
                Err(std::io::Error::other("as told"))
            });
            let broken = stream::iter([Ok(half)]).chain(end).boxed();
            let length = [(header::CONTENT_LENGTH, bytes.len().to_string())];
            (length, Body::from_stream(broken)).into_response()
        }
        _ => bytes.into_response(),
    }
}
