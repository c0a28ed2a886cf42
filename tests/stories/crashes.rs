//! The process dies, and nothing is lost or done twice.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use crate::ingest::{folder_of, summary_in};
use crate::server::{Place, Server, post_form};

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

#[tokio::test]
async fn kill_9_in_the_middle_of_500_files_loses_and_doubles_nothing() {
    let mut place = Place::new(PATIENT);
    let (source, bytes) = folder_of(&place, 500);
    let folder = source.to_str().unwrap().to_owned();
    for files in [40, 150] {
        let server = place.up();
        let mut ingest = ingest_until(&server, &folder, files);
        place = server.kill();
        ingest.kill().unwrap();
        ingest.wait().unwrap();
    }

    let server = place.up();
    let summary = summary_in(&server.place().print(&["ingest", &folder, "--json"]));

    assert_eq!((&summary["files"], &summary["failures"]), (&json!(500), &json!([])), "{summary}");
    let report = server.report_of(500).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&json!(bytes), &json!(450)));
    assert_eq!(sorted(server.files().await), sorted(files_below(&source)));
    server.place().staging_is_empty().await;
    // What was put on again meanwhile has added nothing.
    assert_eq!(server.report_of(500).await["sizeBytes"], json!(bytes));
    assert_eq!(server.get("/api/files").await.1["count"], 500);
}

#[tokio::test]
async fn an_answered_upload_survives_kill_9() {
    let mut place = Place::new(PATIENT);
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

#[tokio::test]
async fn bytes_that_landed_just_before_the_crash_are_found() {
    let server = Place::new(PATIENT).up();
    let upload = server.create(json!({ "filename": "landed.txt" })).await;
    assert_eq!(post_form(&landing_at(&upload, &server), b"landed").await, 201);
    let server = server.kill().up();
    assert_eq!(server.settled(&upload).await["status"], "done");
}

/// The policy names the address of the server that signed it; so does the form.
fn landing_at(upload: &serde_json::Value, server: &Server) -> serde_json::Value {
    assert!(upload["upload"]["url"].as_str().unwrap().starts_with(&server.url));
    upload.clone()
}

#[tokio::test]
async fn a_shutdown_in_the_middle_is_in_good_order_and_nothing_is_lost() {
    let place = Place::new(PATIENT);
    let (folder, _) = folder_of(&place, 200);
    let folder = folder.to_str().unwrap().to_owned();
    let server = place.up();
    let mut ingest = ingest_until(&server, &folder, 30);

    let place = server.terminate();
    ingest.kill().unwrap();
    ingest.wait().unwrap();

    let server = place.up();
    let summary = summary_in(&server.place().print(&["ingest", &folder, "--json"]));
    assert_eq!((&summary["files"], &summary["failures"]), (&json!(200), &json!([])), "{summary}");
    server.report_of(200).await;
}

#[tokio::test]
async fn a_second_process_on_the_same_folder_is_refused() {
    let server = Server::start();
    let output = server.place().run(&["up"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("in use") && text.contains(&server.url), "{text}");
}
