//! What Prometheus sees: every metric described, present at zero from the start, and read from the ledger where it is a count
//! of things.

use std::time::Duration;

use crate::bucket::metered;
use crate::notices;
use crate::queue::{self, engine::Depth};
use longshore_jobs::job::Pool;
use longshore_jobs::ledger::sweeps::Kind;
use longshore_jobs::model::Status;
use longshore_jobs::model::upload::ArrivedVia;
use longshore_jobs::roster;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Upper bounds in seconds for what takes milliseconds: requests, folds.
const SHORT: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds in seconds for jobs, which take milliseconds, but for a large object or a long queue.
const JOBS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
/// Upper bounds in seconds for what takes as long as a notice may be late.
const LONG: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0];

const HASH_SECONDS: &str = "longshore_hash_seconds_total";

/// How often recorded samples are folded into their histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Makes the recorder the process's own and shows every metric at zero.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets(SHORT)?
        .set_buckets_for_metric(Matcher::Prefix("longshore_job_".to_owned()), JOBS)?
        .set_buckets_for_metric(Matcher::Full("longshore_completion_lag_seconds".to_owned()), LONG)?
        .set_buckets_for_metric(Matcher::Full("longshore_upload_settle_seconds".to_owned()), LONG)?
        .install_recorder()?;
    describe();
    start_at_zero();
    Ok(handle)
}

/// What a scrape is answered with.
pub fn render(handle: &PrometheusHandle) -> String {
    // Counters are whole numbers to the exporter, so seconds are kept in a gauge. As it never falls, it is a counter all the same.
    handle.render().replacen(&format!("# TYPE {HASH_SECONDS} gauge"), &format!("# TYPE {HASH_SECONDS} counter"), 1)
}

/// Tidies what was recorded every few seconds, until `stop`: without it, histograms grow until somebody scrapes them.
pub async fn keep(handle: PrometheusHandle, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
        handle.run_upkeep();
    }
}

fn describe() {
    describe_counter!("longshore_http_requests_total", "Requests answered.");
    describe_histogram!("longshore_http_request_duration_seconds", Unit::Seconds, "Time from request to answer.");
    describe_counter!("longshore_uploads_total", "Uploads that ended, by how.");
    describe_gauge!("longshore_uploads_open", "Uploads that have not ended, by state.");
    describe_gauge!("longshore_upload_oldest_open_age_seconds", Unit::Seconds, "Age of the oldest upload in a state.");
    describe_counter!("longshore_upload_bytes_total", Unit::Bytes, "Bytes of uploads that were stored.");
    describe_histogram!(
        "longshore_completion_lag_seconds",
        Unit::Seconds,
        "From landing in the bucket to being known."
    );
    describe_histogram!(
        "longshore_upload_settle_seconds",
        Unit::Seconds,
        "From an upload's arrival to its being stored or rejected."
    );
    describe_counter!("longshore_s3_requests_total", "Requests to the bucket, by what came of them.");
    describe_histogram!(
        "longshore_s3_request_duration_seconds",
        Unit::Seconds,
        "How long a request to the bucket took."
    );
    describe_gauge!("longshore_worker_up", "Whether this process works the pool.");
    describe_gauge!(
        "longshore_schedule_last_tick_seconds",
        Unit::Seconds,
        "When a schedule last ticked, since the epoch."
    );
    describe_counter!("longshore_jobs_enqueued_total", "Jobs pushed onto the queue.");
    describe_counter!("longshore_jobs_finished_total", "Job runs that ended, by outcome.");
    describe_histogram!("longshore_job_wait_seconds", Unit::Seconds, "From a job's due time to its start.");
    describe_histogram!("longshore_job_run_seconds", Unit::Seconds, "How long a job ran.");
    describe_gauge!("longshore_jobs_running", "Jobs that run in this process.");
    describe_gauge!("longshore_jobs_dead", "Dead letters.");
    describe_gauge!("longshore_queue_depth", "Jobs that wait, due or not.");
    describe_gauge!("longshore_queue_oldest_age_seconds", Unit::Seconds, "How long the oldest due job has waited.");
    describe_counter!("longshore_jobs_rescued_total", "Jobs taken back from workers that were lost.");
    describe_counter!("longshore_hash_bytes_total", Unit::Bytes, "Bytes hashed.");
    describe_gauge!(HASH_SECONDS, Unit::Seconds, "Time spent hashing.");
    describe_counter!("longshore_dedupe_bytes_saved_total", Unit::Bytes, "Bytes that were not stored again.");
    describe_counter!("longshore_notices_total", "Notices from the bucket and what came of them.");
    describe_counter!(
        "longshore_inbox_failures_total",
        "Attempts to receive, hand over or acknowledge notices that failed."
    );
    describe_gauge!("longshore_report_age_seconds", Unit::Seconds, "Age of the oldest delta that is not folded.");
    describe_histogram!("longshore_report_fold_seconds", Unit::Seconds, "How long a fold took.");
    describe_gauge!("longshore_report_drift_files", "Files by which reports were found off, added up.");
    describe_gauge!("longshore_report_drift_bytes", Unit::Bytes, "Bytes by which reports were found off, added up.");
    describe_gauge!(
        "longshore_sweep_orphans",
        "What the last complete sweep found: objects that nothing needs, and rows whose object is missing."
    );
    describe_counter!("longshore_sweep_deleted_total", "Objects that the sweep removed because nobody needed them.");
    describe_counter!(
        "longshore_sweep_foreign_total",
        "Objects that sweeps of this process left, being of no org in the ledger."
    );
    describe_counter!("longshore_blobs_collected_total", "Blobs that were removed because no file referred to them.");
    describe_counter!("longshore_blob_bytes_collected_total", Unit::Bytes, "Bytes of blobs that were removed.");
    describe_gauge!(
        "longshore_reading_age_seconds",
        Unit::Seconds,
        "How old the figures of this scrape are that come from ledger and queue: all of them, or a count that is slow and kept."
    );
    describe_gauge!("longshore_build_info", "Always 1; the label tells the version.");
}

fn start_at_zero() {
    for status in Status::ALL.iter().filter(|status| status.is_final()) {
        counter!("longshore_uploads_total", "outcome" => status.as_str()).absolute(0);
    }
    for outcome in ["done", "deduplicated"] {
        counter!("longshore_upload_bytes_total", "outcome" => outcome).absolute(0);
    }
    for op in metered::OPS {
        counter!("longshore_s3_requests_total", "op" => op, "code" => "200").absolute(0);
    }
    queue::counters::register();
    for entry in roster::all() {
        for outcome in ["done", "moot", "snoozed", "retried", "dead"] {
            counter!("longshore_jobs_finished_total", "kind" => entry.kind, "outcome" => outcome).absolute(0);
        }
    }
    for pool in Pool::ALL {
        gauge!("longshore_jobs_running", "pool" => pool.as_str()).set(0.0);
        gauge!("longshore_worker_up", "pool" => pool.as_str()).set(0.0);
    }
    for source in ArrivedVia::ALL.iter().filter(|source| **source != ArrivedVia::Form) {
        // A histogram is there from its registration on.
        let _ = histogram!("longshore_completion_lag_seconds", "source" => source.as_str());
        for disposition in ["applied", "duplicate", "stale", "unknown_key", "test_event", "malformed"] {
            counter!("longshore_notices_total", "source" => source.as_str(), "disposition" => disposition).absolute(0);
        }
    }
    for kind in [Kind::Staging, Kind::Blob] {
        counter!("longshore_sweep_deleted_total", "kind" => kind.as_str()).absolute(0);
    }
    for name in ["longshore_upload_settle_seconds", "longshore_report_fold_seconds"] {
        let _ = histogram!(name);
    }
    for reading in ["all", "uploads", "queue"] {
        gauge!("longshore_reading_age_seconds", "reading" => reading).set(0.0);
    }
    for op in notices::OPS {
        counter!("longshore_inbox_failures_total", "op" => op).absolute(0);
    }
    for name in [
        "longshore_hash_bytes_total",
        "longshore_dedupe_bytes_saved_total",
        "longshore_sweep_foreign_total",
        "longshore_blobs_collected_total",
        "longshore_blob_bytes_collected_total",
    ] {
        counter!(name).absolute(0);
    }
    for name in [HASH_SECONDS, "longshore_report_drift_files", "longshore_report_drift_bytes"] {
        gauge!(name).set(0.0);
    }
    gauge!("longshore_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Shows what waits, runs and is dead, for every pool, whether it has any or not.
pub fn show_queue(depths: &[Depth], dead: &[(Pool, i64)]) {
    #[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 jobs")]
    let number = |count: u64| count as f64;
    for pool in Pool::ALL {
        let mine = || depths.iter().filter(|depth| depth.pool == *pool);
        let dead: i64 = dead.iter().filter(|(of, _)| of == pool).map(|(_, count)| count).sum();
        let oldest = mine().map(|depth| depth.oldest_age).max().unwrap_or_default();
        let name = pool.as_str();
        gauge!("longshore_queue_depth", "pool" => name).set(number(mine().map(|depth| depth.waiting).sum()));
        gauge!("longshore_queue_oldest_age_seconds", "pool" => name).set(oldest.as_secs_f64());
        gauge!("longshore_jobs_dead", "pool" => name).set(number(u64::try_from(dead).unwrap_or(0)));
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn seconds_of_hashing_are_a_counter_and_histograms_are_there_before_their_first_sample() {
        let recorder = PrometheusBuilder::new().set_buckets(SHORT).unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            start_at_zero();
            gauge!(HASH_SECONDS).increment(0.25);
        });

        let text = render(&recorder.handle());

        for line in [
            "# TYPE longshore_hash_seconds_total counter",
            "longshore_hash_seconds_total 0.25",
            "longshore_completion_lag_seconds_count{source=\"poll\"} 0",
            "longshore_report_fold_seconds_count 0",
            "longshore_uploads_total{outcome=\"done\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
