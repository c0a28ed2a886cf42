//! Slowness like that of a server far away: a time until the first byte, and a bandwidth that each stream has for itself.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep, sleep_until};

/// Bytes that are paced as one: several milliseconds' worth at usual bandwidths, which the timer can tell apart.
const STRIDE: usize = 256 * 1024;
/// How much of a delay, by a timer that fires late or a reader that pauses, may be made up for.
const CREDIT: Duration = Duration::from_millis(10);

/// How slowly S3 answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Slowness {
    /// Before each answer.
    pub(crate) first_byte: Duration,
    /// Bytes per second of one answer; `None` is as fast as can be.
    pub(crate) bandwidth: Option<u64>,
}

impl Slowness {
    /// Waits for as long as a request takes before it is answered.
    pub(super) async fn wait(&self) {
        if !self.first_byte.is_zero() {
            sleep(self.first_byte).await;
        }
    }

    /// These bytes, at this speed.
    pub(super) fn body(&self, mut segments: Vec<Bytes>) -> Body {
        match self.bandwidth {
            None if segments.len() == 1 => Body::from(segments.remove(0)),
            None => Body::from_stream(stream::iter(segments.into_iter().map(Ok::<_, std::convert::Infallible>))),
            Some(bandwidth) => Body::from_stream(paced(segments, bandwidth).map(Ok::<_, std::convert::Infallible>)),
        }
    }
}

fn paced(segments: Vec<Bytes>, bandwidth: u64) -> impl stream::Stream<Item = Bytes> {
    let strides = segments.into_iter().flat_map(strides);
    stream::unfold((strides, Instant::now()), move |(mut strides, due)| async move {
        let stride = strides.next()?;
        let due = due.max(Instant::now() - CREDIT) + cost(stride.len(), bandwidth);
        sleep_until(due).await;
        Some((stride, (strides, due)))
    })
}

fn strides(mut segment: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let length = segment.len().min(STRIDE);
        (length > 0).then(|| segment.split_to(length))
    })
}

#[expect(clippy::cast_precision_loss, reason = "a length of time, to the microsecond")]
fn cost(length: usize, bandwidth: u64) -> Duration {
    Duration::from_secs_f64(length as f64 / bandwidth.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_takes_as_long_as_its_bandwidth_says() {
        let segments = vec![Bytes::from(vec![1; 1_000_000]), Bytes::from(vec![2; 1_000_000])];
        let started = Instant::now();

        let arrived: Vec<Bytes> = paced(segments, 20_000_000).collect().await;

        let took = started.elapsed();
        assert_eq!(arrived.concat(), [vec![1; 1_000_000], vec![2; 1_000_000]].concat());
        assert!(took >= Duration::from_millis(99), "{took:?} for what takes 100 ms");
    }
}
