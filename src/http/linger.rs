//! Gives up bodies whose senders fall silent, and reads what a refused request still sends.
//!
//! A client that is answered in the middle of its body finds the connection reset, often before it has read the answer. So
//! what is left of a body is read and thrown away first, as far as that is little and quick.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::header;
use tokio::time::Sleep;

/// How long a body may pause between two bytes.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// What is left over is read up to so many bytes,
const MOST: usize = 32 << 20;
/// for so long.
const LONGEST: Duration = Duration::from_secs(3);

/// The rest of a request's body.
pub struct Rest {
    body: Arc<Mutex<Heard>>,
    /// The client sends nothing before it is told to (`Expect: 100-continue`), and reading is telling.
    held_back: Arc<AtomicBool>,
}

impl Rest {
    /// Puts a body into the request that leaves behind what was not read of it.
    pub fn of(request: Request) -> (Request, Self) {
        let held_back = Arc::new(AtomicBool::new(request.headers().contains_key(header::EXPECT)));
        let (head, body) = request.into_parts();
        let shared = Arc::new(Mutex::new(Heard::new(body, LONGEST_SILENCE)));
        let rest = Self { body: Arc::clone(&shared), held_back: Arc::clone(&held_back) };
        let body = stream::poll_fn(move |context| {
            held_back.store(false, Ordering::Relaxed);
            lock(&shared).poll(context)
        });
        (Request::from_parts(head, Body::from_stream(body)), rest)
    }

    /// Reads it and throws it away.
    pub async fn drain(self) {
        if self.held_back.load(Ordering::Relaxed) {
            return;
        }
        let mut read = 0;
        let draining = stream::poll_fn(|context| match lock(&self.body).poll(context) {
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

fn lock(body: &Mutex<Heard>) -> std::sync::MutexGuard<'_, Heard> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body that breaks off when nothing of it is heard for too long.
struct Heard {
    body: BodyDataStream,
    longest: Duration,
    /// Set while the body pauses.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Heard {
    fn new(body: Body, longest: Duration) -> Self {
        Self { body: body.into_data_stream(), longest, alarm: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        if let Poll::Ready(chunk) = self.body.poll_next_unpin(context) {
            self.alarm = None;
            return Poll::Ready(chunk);
        }
        let longest = self.longest;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(longest)));
        alarm.as_mut().poll(context).map(|()| {
            let silent = io::Error::new(io::ErrorKind::TimedOut, "the sender has fallen silent");
            Some(Err(axum::Error::new(silent)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(more: &'static [&'static [u8]]) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> {
        stream::iter(more).map(|piece| Ok(Bytes::from_static(piece)))
    }

    #[tokio::test]
    async fn a_body_whose_sender_falls_silent_breaks_off() {
        let silent = Body::from_stream(pieces(&[b"a", b"b"]).chain(stream::pending()));
        let mut heard = Heard::new(silent, Duration::from_millis(10));

        let read: Vec<_> = stream::poll_fn(|context| heard.poll(context)).take(3).collect().await;

        assert!(read[0].is_ok() && read[1].is_ok());
        assert!(read[2].as_ref().unwrap_err().to_string().contains("silent"));
    }

    #[tokio::test]
    async fn a_body_that_ends_is_whole_and_sets_no_alarm() {
        let mut heard = Heard::new(Body::from_stream(pieces(&[b"a", b"b"])), Duration::ZERO);
        let read: Vec<_> = stream::poll_fn(|context| heard.poll(context)).collect().await;
        assert!(read.len() == 2 && read.iter().all(Result::is_ok) && heard.alarm.is_none());
    }
}
