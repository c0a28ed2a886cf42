//! What keeps notices waiting, and how often that is told.

use std::sync::atomic::{AtomicU8, Ordering};

use longshore_jobs::job::with_causes;
use longshore_jobs::outside::QueueError;

use crate::inbox::InboxError;

/// Why notices wait.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Inbox(#[from] InboxError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Something that fails is told when that begins, when it turns into something that will not pass, and when it ends: not at
/// every attempt of every receiver.
pub(super) struct Outage {
    op: &'static str,
    told: AtomicU8,
}

impl Outage {
    const PASSING: u8 = 1;
    const STAYING: u8 = 2;

    pub(super) const fn new(op: &'static str) -> Self {
        Self { op, told: AtomicU8::new(0) }
    }

    pub(super) fn met(&self, trouble: &Trouble) {
        metrics::counter!("longshore_inbox_failures_total", "op" => self.op).increment(1);
        let (op, error) = (self.op, with_causes(trouble));
        let stays = matches!(trouble, Trouble::Inbox(error) if error.stays());
        let now = if stays { Self::STAYING } else { Self::PASSING };
        if self.told.fetch_max(now, Ordering::Relaxed) >= now {
            tracing::debug!(op, error, "notices wait still");
        } else if stays {
            tracing::error!(op, error, "notices wait until somebody sees to it; told once");
        } else {
            tracing::warn!(op, error, "notices wait; told once");
        }
    }

    pub(super) fn is_over(&self) {
        if self.told.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!(op = self.op, "notices go on");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    fn refused() -> Trouble {
        InboxError::Refused { op: "receive", source: "no right to".into() }.into()
    }

    fn failed() -> Trouble {
        InboxError::Failed { op: "receive", source: "connection reset".into() }.into()
    }

    /// What is logged while it lives.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_outage_is_told_once_again_when_somebody_has_to_act_and_when_it_is_over() {
        let (log, recorder) = (Log::default(), PrometheusBuilder::new().build_recorder());
        let writer = {
            let log = log.clone();
            move || log.clone()
        };
        let subscriber = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).without_time().finish();
        let (_logging, _metering) =
            (tracing::subscriber::set_default(subscriber), metrics::set_default_local_recorder(&recorder));
        let (outage, refused, failed) = (Outage::new("receive"), refused(), failed());

        for trouble in [&failed, &failed, &refused, &failed, &refused] {
            outage.met(trouble);
        }
        outage.is_over();
        outage.is_over();
        outage.met(&failed);

        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let levels: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
        assert_eq!(levels, ["WARN", "ERROR", "INFO", "WARN"], "{text}");
        assert!(text.contains("no right to") && text.contains("connection reset"), "{text}");
        let counted = recorder.handle().render();
        assert!(counted.contains("longshore_inbox_failures_total{op=\"receive\"} 6"), "{counted}");
    }
}
