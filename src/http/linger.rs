//! Reads what a refused request still sends.
//!
//! A client that is answered in the middle of its body finds the connection reset, often before it has read the answer. So
//! what is left of a body is read and thrown away first, as far as that is little and quick.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use futures_util::stream::{self, StreamExt as _};
use http::header;

/// What is left over is read up to so many bytes,
const MOST: usize = 32 << 20;
/// for so long.
const LONGEST: Duration = Duration::from_secs(3);

/// The rest of a request's body.
pub struct Rest {
    body: Arc<Mutex<BodyDataStream>>,
    /// The client sends nothing before it is told to (`Expect: 100-continue`), and reading is telling.
    held_back: Arc<AtomicBool>,
}

impl Rest {
    /// Puts a body into the request that leaves behind what was not read of it.
    pub fn of(request: Request) -> (Request, Self) {
        let held_back = Arc::new(AtomicBool::new(request.headers().contains_key(header::EXPECT)));
        let (head, body) = request.into_parts();
        let shared = Arc::new(Mutex::new(body.into_data_stream()));
        let rest = Self { body: Arc::clone(&shared), held_back: Arc::clone(&held_back) };
        let body = stream::poll_fn(move |context| {
            held_back.store(false, Ordering::Relaxed);
            lock(&shared).poll_next_unpin(context)
        });
        (Request::from_parts(head, Body::from_stream(body)), rest)
    }

    /// Reads it and throws it away.
    pub async fn drain(self) {
        if self.held_back.load(Ordering::Relaxed) {
            return;
        }
        let mut read = 0;
        let draining = stream::poll_fn(|context| match lock(&self.body).poll_next_unpin(context) {
            Poll::Ready(Some(Ok(chunk))) if read < MOST => {
                read += chunk.len();
                Poll::Ready(Some(Ok::<_, Infallible>(())))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => Poll::Ready(None),
        });
        let drained = tokio::time::timeout(LONGEST, draining.for_each(async |_| ())).await;
        if drained.is_err() {
            tracing::debug!("the rest of a body came too slowly");
        }
    }
}

fn lock(stream: &Mutex<BodyDataStream>) -> std::sync::MutexGuard<'_, BodyDataStream> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}
