//! `longshore ingest`: a folder goes in, and a second run sends nothing twice.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::engines::Engines;
use crate::server::{Place, TOKEN};

on_each_engine! {
    a_folder_goes_in_and_a_second_run_sends_nothing,
    without_a_server_one_is_brought_up_for_the_run_unless_the_ledger_is_a_fleets,
}

/// A folder of small files, some of them alike. Returns it and the bytes of all files together.
pub fn folder_of(place: &Place, files: usize) -> (PathBuf, i64) {
    let folder = place.path().join("pictures");
    let mut total = 0;
    for number in 0..files {
        let sub = folder.join(format!("day {}", number % 7));
        fs::create_dir_all(&sub).unwrap();
        // Every tenth is a copy of its neighbour.
        let content = format!("content of picture {}", if number % 10 == 9 { number - 1 } else { number }).repeat(20);
        total += i64::try_from(content.len()).unwrap();
        fs::write(sub.join(format!("{number:05}.jpg")), content).unwrap();
    }
    (folder, total)
}

/// The last line of `--json`: the summary.
pub fn summary_in(text: &str) -> Value {
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_default();
    assert!(last["summary"].is_object(), "no summary in {text}");
    last["summary"].clone()
}

async fn a_folder_goes_in_and_a_second_run_sends_nothing(engines: Engines) {
    let server = engines.start().await;
    let (folder, bytes) = folder_of(server.place(), 60);
    let folder = folder.to_str().unwrap();

    // On a data folder the server is found.
    let ingest = || {
        if engines.are_remote() { server.ingest(folder) } else { server.place().print(&["ingest", folder, "--json"]) }
    };

    let first = summary_in(&ingest());
    assert_eq!((&first["files"], &first["bytes"]), (&Value::from(60), &Value::from(bytes)), "{first}");
    assert_eq!(first["failures"], serde_json::json!([]), "{first}");
    let second = summary_in(&ingest());
    assert_eq!((&second["uploaded"], &second["alreadyThere"]), (&Value::from(0), &Value::from(60)), "{second}");

    let report = server.report_of(60).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&Value::from(bytes), &Value::from(54)));
}

async fn without_a_server_one_is_brought_up_for_the_run_unless_the_ledger_is_a_fleets(engines: Engines) {
    let place = engines.place(&[]).await;
    let (folder, _) = folder_of(&place, 20);
    let folder = folder.to_str().unwrap();

    if engines.are_remote() {
        let refused = place.run(&["ingest", folder]);
        assert_eq!(refused.status.code(), Some(2));
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains("--server URL --token T"), "{told}");
        return;
    }
    let text = place.print(&["ingest", folder]);
    assert!(text.contains("20 of 20 files done"), "{text}");
    let again = summary_in(&place.print(&["ingest", folder, "--json"]));
    assert_eq!(again["alreadyThere"], 20, "{again}");

    let server = place.up();
    server.report_of(20).await;
}

#[tokio::test]
async fn the_configured_token_is_good_for_the_server_of_a_run_and_its_data_stay_at_home() {
    let place = Engines::Local.place(&[]).await;
    folder_of(&place, 5);

    // The folder holds the pictures and the data folder of the run itself.
    let everything = place.path().to_str().unwrap();
    let summary = summary_in(&place.print(&["ingest", everything, "--token", TOKEN, "--json"]));

    assert_eq!((&summary["files"], &summary["failures"]), (&Value::from(5), &serde_json::json!([])), "{summary}");
}

#[tokio::test]
async fn a_failure_is_told_and_is_the_exit_code() {
    let place = Engines::Local.place(&[]).await;
    let output = place.run(&["ingest", "no-such-folder"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("no-such-folder"), "{text}");
}
