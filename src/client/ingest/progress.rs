//! How a run shows that it moves: a bar on a terminal, a plain line now and then elsewhere, JSON for machines.

use std::io::IsTerminal as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, HumanDuration, ProgressBar, ProgressStyle};

use super::outcome::{End, Outcome};
use super::walk::Found;

const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// Counts what moves and shows it.
pub(crate) struct Progress {
    shown: Shown,
    started: Instant,
    line_at: Mutex<Instant>,
    all: Count,
    done: Count,
    failed: AtomicU64,
    /// Bytes of files that are on their way.
    travelling: AtomicU64,
}

#[derive(Default)]
struct Count {
    files: AtomicU64,
    bytes: AtomicU64,
}

enum Shown {
    Bar(ProgressBar),
    Lines,
    Json,
    Nothing,
}

impl Progress {
    /// A bar where stderr is a terminal, else lines on stderr.
    pub(crate) fn for_people() -> Self {
        Self::of(if std::io::stderr().is_terminal() { Shown::Bar(ProgressBar::hidden()) } else { Shown::Lines })
    }

    /// A JSON object on stdout for each file.
    pub(crate) fn for_machines() -> Self {
        Self::of(Shown::Json)
    }

    /// Shows nothing.
    pub(crate) fn silent() -> Self {
        Self::of(Shown::Nothing)
    }

    fn of(shown: Shown) -> Self {
        let now = Instant::now();
        let (all, done) = (Count::default(), Count::default());
        let (failed, travelling) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { shown, started: now, line_at: Mutex::new(now), all, done, failed, travelling }
    }

    /// Something of longshore's own lies among the files. Told before the files begin to move.
    pub(super) fn left_out(&self, path: &Path) {
        if !matches!(self.shown, Shown::Nothing) {
            let line = format!("Left out, since longshore keeps it for itself: {}", path.display());
            write_line(&mut std::io::stderr().lock(), &line);
        }
    }

    /// These files are to be moved.
    pub(super) fn begin(&self, found: &[Found]) {
        let bytes = found.iter().map(|file| file.size).sum();
        self.all.files.store(found.len() as u64, Ordering::Relaxed);
        self.all.bytes.store(bytes, Ordering::Relaxed);
        let Shown::Bar(bar) = &self.shown else { return };
        let template =
            "{wide_bar:.cyan/dim} {decimal_bytes}/{decimal_total_bytes}  {msg}  {decimal_bytes_per_sec}  {eta} left";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_length(bytes);
        bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        bar.enable_steady_tick(Duration::from_millis(250));
    }

    /// Bytes have gone out.
    pub(super) fn sent(&self, bytes: u64) {
        self.travelling.fetch_add(bytes, Ordering::Relaxed);
        self.show();
    }

    /// Bytes that had gone out were in vain.
    pub(super) fn unsent(&self, bytes: u64) {
        let take = |now: u64| Some(now.saturating_sub(bytes));
        // The closure never declines, so there is no failure to look at.
        self.travelling.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok();
    }

    /// A file has come to its end.
    pub(super) fn finished(&self, outcome: &Outcome) {
        self.unsent(outcome.travelled);
        self.done.files.fetch_add(1, Ordering::Relaxed);
        self.done.bytes.fetch_add(outcome.size, Ordering::Relaxed);
        if let End::Failed { .. } = outcome.end {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        if let Shown::Json = self.shown {
            let line = serde_json::to_string(outcome).expect("an outcome is texts and numbers");
            write_line(&mut std::io::stdout().lock(), &line);
        }
        self.show();
    }

    /// Nothing moves any more.
    pub(super) fn end(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    fn show(&self) {
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_position(self.bytes());
                bar.set_message(self.files());
            }
            Shown::Lines if self.line_is_due() => write_line(&mut std::io::stderr().lock(), &self.line()),
            _ => {}
        }
    }

    fn line_is_due(&self) -> bool {
        let mut line_at = self.line_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = line_at.elapsed() >= BETWEEN_LINES;
        if due {
            *line_at = Instant::now();
        }
        due
    }

    fn bytes(&self) -> u64 {
        let moved = self.done.bytes.load(Ordering::Relaxed) + self.travelling.load(Ordering::Relaxed);
        moved.min(self.all.bytes.load(Ordering::Relaxed))
    }

    fn files(&self) -> String {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let failed = match load(&self.failed) {
            0 => String::new(),
            failed => format!(" ({failed} failed)"),
        };
        format!("{}/{} files{failed}", load(&self.done.files), load(&self.all.files))
    }

    /// `120/500 files, 1.2 MB of 5 MB, 0.6 MB/s, 6 seconds left`
    fn line(&self) -> String {
        let (bytes, all) = (self.bytes(), self.all.bytes.load(Ordering::Relaxed));
        let rate = bytes as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let left =
            if rate > 0.0 { Duration::from_secs_f64(((all - bytes) as f64 / rate).min(1e9)) } else { Duration::ZERO };
        let (moved, all) = (DecimalBytes(bytes), DecimalBytes(all));
        format!("{}, {moved} of {all}, {}/s, {} left", self.files(), DecimalBytes(rate as u64), HumanDuration(left))
    }
}

/// A reader that has gone away is no reason to stop uploading.
fn write_line(out: &mut impl std::io::Write, line: &str) {
    if let Err(error) = writeln!(out, "{line}") {
        tracing::debug!(%error, "nobody reads the progress");
    }
}

#[cfg(test)]
mod tests {
    use longshore_jobs::model::Digest;

    use super::*;

    fn outcome(size: u64, travelled: u64) -> Outcome {
        let (hash, upload_id, file_id, moved_at) = (Some(Digest::of(b"")), None, None, String::new());
        let (name, end) = ("a".to_owned(), End::Uploaded);
        Outcome { name, end, size, hash, upload_id, file_id, moved_at, travelled }
    }

    #[test]
    fn bytes_on_their_way_count_once_and_a_small_file_takes_nothing_from_a_large_one() {
        let progress = Progress::silent();
        let found = |size| Found { path: "a".into(), name: "a".to_owned(), size };
        progress.begin(&[found(1_000), found(10)]);

        progress.sent(400);
        progress.finished(&outcome(10, 0));
        assert_eq!(progress.bytes(), 410);

        progress.unsent(400);
        progress.sent(1_000);
        progress.finished(&outcome(1_000, 1_000));
        assert_eq!((progress.bytes(), progress.files()), (1_010, "2/2 files".to_owned()));
    }

    #[test]
    fn a_line_tells_files_bytes_rate_and_time_left() {
        let progress = Progress::silent();
        progress.begin(&[Found { path: "a".into(), name: "a".to_owned(), size: 2_000_000 }]);
        progress.sent(1_000_000);

        let line = progress.line();

        assert!(line.starts_with("0/1 files, 1.00 MB of 2.00 MB, ") && line.ends_with(" left"), "{line}");
    }

    #[test]
    fn machines_get_one_flat_object_for_each_file() {
        let line = serde_json::to_value(outcome(7, 0)).unwrap();
        assert_eq!((&line["path"], &line["status"], &line["size"]), (&"a".into(), &"uploaded".into(), &7.into()));
        assert!(line.get("travelled").is_none());
    }
}
