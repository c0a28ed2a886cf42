//! `longshore ingest` in its two modes, with a manifest, and across a restart of the server.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::engines::Engines;
use crate::ingest::{folder_of, summary_in};
use crate::server::{Server, TOKEN};

on_each_engine! {
    a_folder_goes_in_under_one_policy,
    a_manifest_says_which_files_go_in_and_what_they_hash_to,
    a_server_that_is_killed_and_started_again_ends_no_run,
    an_ingest_under_one_policy_that_is_killed_goes_on_when_it_is_run_again,
}

fn ingest(server: &Server, folder: &Path, more: &[&str]) -> Output {
    let folder = folder.to_str().unwrap();
    let arguments = ["ingest", folder, "--json", "--server", &server.url, "--token", TOKEN];
    server.place().run(&[&arguments[..], more].concat())
}

fn summary(output: &Output) -> Value {
    summary_in(std::str::from_utf8(&output.stdout).unwrap())
}

async fn a_folder_goes_in_under_one_policy(engines: Engines) {
    let server = engines.start().await;
    let (folder, bytes) = folder_of(server.place(), 60);

    let output = ingest(&server, &folder, &["--batch-mode", "prefix"]);

    assert_eq!(summary(&output)["files"], 60, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", summary(&output));
    let report = server.report_of(60).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&json!(bytes), &json!(54)));
    let (_, batches) = server.get("/api/batches").await;
    let batch = &batches["batches"][0];
    assert_eq!(
        (&batch["mode"], &batch["counts"]["done"], &batch["manifest"]["lines"]),
        (&json!("prefix"), &json!(60), &json!(60))
    );
    assert!(server.files().await.iter().any(|(name, _)| name == "day 3/00003.jpg"));
    server.place().staging_is_empty().await;
}

async fn a_manifest_says_which_files_go_in_and_what_they_hash_to(engines: Engines) {
    let server = engines.start().await;
    let (folder, _) = folder_of(server.place(), 40);
    let line = |number: usize, bytes: &[u8]| {
        format!("{}  ./day {}/{number:05}.jpg\n", hex::encode(Sha256::digest(bytes)), number % 7)
    };
    let content = |number: usize| fs::read(folder.join(format!("day {}/{number:05}.jpg", number % 7))).unwrap();
    // Thirty of the forty, one of which is said to be another, and one that is not there.
    let mut lines: String = (1..30).map(|number| line(number, &content(number))).collect();
    lines += &line(0, b"something else");
    lines += &line(99, b"not there");
    let manifest = server.place().path().join("manifest");
    fs::write(&manifest, lines).unwrap();

    for mode in ["each", "prefix"] {
        let output = ingest(&server, &folder, &["--manifest", manifest.to_str().unwrap(), "--batch-mode", mode]);

        let summary = summary(&output);
        assert_eq!(output.status.code(), Some(1), "{summary}");
        let failures: Vec<_> = summary["failures"].as_array().unwrap().iter().collect();
        let told = |name: &str, what: &str| {
            failures.iter().any(|one| one["path"] == name && one["reason"].as_str().unwrap().contains(what))
        };
        assert!(
            told("day 0/00000.jpg", "digest_mismatch") && told("day 1/00099.jpg", "not in the folder"),
            "{summary}"
        );
        assert_eq!((failures.len(), &summary["files"]), (2, &json!(31)), "{summary}");
        assert_eq!(summary["uploaded"].as_i64().unwrap() + summary["duplicates"].as_i64().unwrap(), 29, "{summary}");
    }
}

async fn a_server_that_is_killed_and_started_again_ends_no_run(engines: Engines) {
    let files: i64 = if engines.are_remote() { 150 } else { 500 };
    // The same address before and after.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let settings = [
        ("LONGSHORE_LISTEN", listen.as_str()),
        ("LONGSHORE_SCHEDULE__RESUME_STALLED", "* * * * * *"),
        ("LONGSHORE_LIMITS__RESUME_AFTER", "2s"),
    ];
    let server = engines.place(&settings).await.up();
    let (folder, bytes) = folder_of(server.place(), usize::try_from(files).unwrap());
    let arguments = ["ingest", folder.to_str().unwrap(), "--json", "--server", &server.url, "--token", TOKEN];
    let mut command = server.place().command(&[&arguments[..], &["--concurrency", "8"]].concat());
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(run.stdout.take().unwrap()));
    assert!(lines.by_ref().take(20).all(|line| line.is_ok()));

    let server = server.kill().up();

    let last = lines.map(Result::unwrap).last().unwrap_or_default();
    assert!(run.wait().unwrap().success(), "{last}");
    assert_eq!((&summary_in(&last)["files"], &summary_in(&last)["failures"]), (&json!(files), &json!([])), "{last}");
    let report = server.report_of(files).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&json!(bytes), &json!(files - files / 10)));
    assert_eq!(server.files().await.len(), usize::try_from(files).unwrap());
}

/// The one batch of the org, once it is as wanted.
async fn batch_once(server: &Server, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (_, answer) = server.get("/api/batches").await;
        let batch = &answer["batches"][0];
        if batch.is_object() && wanted(batch) {
            return batch.clone();
        }
        assert!(Instant::now() < deadline, "it never came to that: {answer}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many of its files stand where, whatever the state.
fn counts_of(batch: &Value) -> impl Iterator<Item = i64> {
    batch["counts"].as_object().unwrap().values().map(|count| count.as_i64().unwrap())
}

async fn an_ingest_under_one_policy_that_is_killed_goes_on_when_it_is_run_again(engines: Engines) {
    // While the policy lasts, when it has ended, and when the batch is closed.
    for (life, grace, batches) in [("1h", "1h", 1), ("2s", "1h", 1), ("2s", "0s", 2)] {
        let mut files = if engines.are_remote() { 150 } else { 600 };
        // On a busy machine it may have sent all of them before it is killed.
        while !goes_on(engines, (life, grace), files, batches).await {
            files *= 2;
            assert!(files < 10_000, "it was never killed midway");
        }
    }
}

/// Whether the second run had something to send.
async fn goes_on(engines: Engines, (life, grace): (&str, &str), files: i64, batches: usize) -> bool {
    let server = engines
        .with(&[
            ("LONGSHORE_LIMITS__POLICY_LIFE", life),
            ("LONGSHORE_LIMITS__EXPIRY_GRACE", grace),
            ("LONGSHORE_SCHEDULE__CLOSE_BATCHES", "* * * * * *"),
            ("LONGSHORE_SCHEDULE__SWEEP_BUCKET", "* * * * * *"),
            ("LONGSHORE_LIMITS__SWEEP_MIN_AGE", "0s"),
        ])
        .await;
    let (folder, bytes) = folder_of(server.place(), usize::try_from(files).unwrap());
    let arguments = ["ingest", folder.to_str().unwrap(), "--json", "--server", &server.url, "--token", TOKEN];
    let mut command = server.place().command(&[&arguments[..], &["--batch-mode", "prefix"]].concat());
    let mut run = command.args(["--concurrency", "1"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    batch_once(&server, |batch| counts_of(batch).sum::<i64>() > 10).await;
    run.kill().unwrap();
    run.wait().unwrap();
    batch_once(&server, |batch| batch["counts"]["done"].as_i64().unwrap() > 0).await;
    batch_once(&server, |batch| match (life, grace) {
        ("1h", _) => true,
        (_, "1h") => batch["upload"].is_null(),
        _ => batch["closedAt"].is_string(),
    })
    .await;

    let output = ingest(&server, &folder, &["--batch-mode", "prefix"]);

    let summary = summary(&output);
    assert!(output.status.success(), "{life} {grace}: {summary}");
    assert_eq!((&summary["files"], &summary["failures"]), (&json!(files), &json!([])), "{summary}");
    assert!(summary["alreadyThere"].as_i64().unwrap() > 0, "{life} {grace}: {summary}");
    let report = server.report_of(files).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&json!(bytes), &json!(files - files / 10)));
    assert_eq!(server.files().await.len(), usize::try_from(files).unwrap());
    let moved = summary["uploaded"].as_i64().unwrap() > 0;
    let made = server.get("/api/batches").await.1["batches"].as_array().unwrap().len();
    // Where nothing is forgiven, a busy machine may be too slow for the second batch as well.
    assert!(!moved || made == batches || (grace == "0s" && made > batches), "{life} {grace}: {made}");
    server.place().staging_is_empty().await;
    moved
}
