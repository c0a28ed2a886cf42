//! The process dies, and nothing is lost or done twice.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use crate::engines::Engines;
use crate::ingest::{folder_of, summary_in};
use crate::server::{Server, post_form};

on_each_engine! {
    kill_9_in_the_middle_of_many_files_loses_and_doubles_nothing,
    an_answered_upload_survives_kill_9,
    bytes_that_landed_just_before_the_crash_are_found,
    a_shutdown_in_the_middle_is_in_good_order_and_nothing_is_lost,
}

const PATIENT: &[(&str, &str)] = &[
    ("LONGSHORE_SCHEDULE__POLL_ARRIVALS", "* * * * * *"),
    ("LONGSHORE_SCHEDULE__RESUME_STALLED", "* * * * * *"),
    ("LONGSHORE_SCHEDULE__SWEEP_BUCKET", "* * * * * *"),
    ("LONGSHORE_LIMITS__FIRST_POLL", "1s"),
    ("LONGSHORE_LIMITS__RESUME_AFTER", "2s"),
    ("LONGSHORE_LIMITS__SWEEP_MIN_AGE", "0s"),
];

/// Starts an ingest and lets it get as far as so many files.
fn ingest_until(server: &Server, folder: &str, files: usize) -> std::process::Child {
    let mut command = server.place().command(&["ingest", folder, "--json", "--server", &server.url]);
    command.args(["--token", crate::server::TOKEN, "--concurrency", "8"]);
    let mut ingest = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(ingest.stdout.take().unwrap()));
    assert_eq!(lines.take(files).filter(Result::is_ok).count(), files, "the ingest ended early");
    ingest
}

/// Name and hash of every file below a folder, as the API would show them, in no order.
fn files_below(folder: &Path) -> Vec<(String, String)> {
    let entries = WalkDir::new(folder).into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    let named = files.map(|entry| {
        let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        (name, format!("sha256-{}", hex::encode(Sha256::digest(std::fs::read(entry.path()).unwrap()))))
    });
    named.collect()
}

fn sorted(mut files: Vec<(String, String)>) -> Vec<(String, String)> {
    files.sort();
    files
}

async fn kill_9_in_the_middle_of_many_files_loses_and_doubles_nothing(engines: Engines) {
    // The S3 server of the tests does some hundred requests a second.
    let files: i64 = if engines.are_remote() { 150 } else { 500 };
    let mut place = engines.place(PATIENT).await;
    let (source, bytes) = folder_of(&place, usize::try_from(files).unwrap());
    let folder = source.to_str().unwrap().to_owned();
    for files in [20, 70] {
        let server = place.up();
        let mut ingest = ingest_until(&server, &folder, files);
        place = server.kill();
        ingest.kill().unwrap();
        ingest.wait().unwrap();
    }

    let server = place.up();
    let summary = summary_in(&server.ingest(&folder));

    assert_eq!((&summary["files"], &summary["failures"]), (&json!(files), &json!([])), "{summary}");
    let report = server.report_of(files).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&json!(bytes), &json!(files - files / 10)));
    assert_eq!(sorted(server.files().await), sorted(files_below(&source)));
    server.place().staging_is_empty().await;
    // What was put on again meanwhile has added nothing.
    assert_eq!(server.report_of(files).await["sizeBytes"], json!(bytes));
    assert_eq!(server.get("/api/files").await.1["count"], files);
}

async fn an_answered_upload_survives_kill_9(engines: Engines) {
    let mut place = engines.place(PATIENT).await;
    let mut uploads = Vec::new();
    for round in 0..3 {
        let server = place.up();
        for number in 0..20 {
            uploads.push(server.create(json!({ "filename": format!("{round}-{number}") })).await);
        }
        place = server.kill();
    }
    let server = place.up();
    for upload in &uploads {
        let (status, _) = server.get(&format!("/api/uploads/{}", upload["id"].as_str().unwrap())).await;
        assert_eq!(status, 200);
    }
}

async fn bytes_that_landed_just_before_the_crash_are_found(engines: Engines) {
    let server = engines.place(PATIENT).await.up();
    let upload = server.create(json!({ "filename": "landed.txt" })).await;
    assert_eq!(post_form(&upload, b"landed").await, 201);
    let server = server.kill().up();
    assert_eq!(server.settled(&upload).await["status"], "done");
}

async fn a_shutdown_in_the_middle_is_in_good_order_and_nothing_is_lost(engines: Engines) {
    let place = engines.place(PATIENT).await;
    let (folder, _) = folder_of(&place, 200);
    let folder = folder.to_str().unwrap().to_owned();
    let server = place.up();
    let mut ingest = ingest_until(&server, &folder, 30);

    let place = server.terminate();
    ingest.kill().unwrap();
    ingest.wait().unwrap();

    let server = place.up();
    let summary = summary_in(&server.ingest(&folder));
    assert_eq!((&summary["files"], &summary["failures"]), (&json!(200), &json!([])), "{summary}");
    server.report_of(200).await;
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused() {
    let server = Engines::Local.start().await;
    let output = server.place().run(&["up"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("in use") && text.contains(&server.url), "{text}");
}
