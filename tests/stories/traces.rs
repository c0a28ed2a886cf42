//! One trace id on every line about an upload, from the request that asked for it to the file that it became.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::engines::Engines;
use crate::server::{Server, post_form, post_form_with, read};

on_each_engine! { one_trace_spans_an_upload_from_the_request_to_the_file, }

/// The jobs that every upload ends with.
const LAST_JOBS: [&str; 2] = ["verify_upload", "store_file"];

fn parent(trace: char) -> String {
    format!("00-{}-b7ad6b7169203331-01", trace.to_string().repeat(32))
}

/// Posts a wish within a trace.
async fn ask(server: &Server, path: &str, wish: Value, trace: char) -> Value {
    let request = server.request(Method::POST, path).header("traceparent", parent(trace)).json(&wish);
    read(request.send().await.unwrap()).await.1
}

/// What the lines of a trace are of: jobs by their kind, requests by method and route.
fn spans(log: &Path, trace: char) -> BTreeSet<String> {
    let lines: Vec<Value> =
        fs::read_to_string(log).unwrap().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let ours = lines.iter().map(|line| &line["span"]).filter(|span| span["trace_id"] == trace.to_string().repeat(32));
    let name = |span: &Value| match span["kind"].as_str() {
        Some(kind) => kind.to_owned(),
        None => format!("{} {}", span["method"].as_str().unwrap(), span["route"].as_str().unwrap()),
    };
    ours.map(name).collect()
}

/// The uploads that the lines of a trace name which are of this request.
fn uploads(log: &Path, trace: char, request: &str) -> BTreeSet<String> {
    let lines: Vec<Value> =
        fs::read_to_string(log).unwrap().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let trace = trace.to_string().repeat(32);
    let ours = lines.iter().map(|line| &line["span"]).filter(|span| {
        span["trace_id"] == trace
            && format!("{} {}", span["method"].as_str().unwrap_or(""), span["route"].as_str().unwrap_or("")) == request
    });
    ours.filter_map(|span| span["upload"].as_str().map(str::to_owned)).collect()
}

fn expected(mut names: Vec<&str>, engines: Engines) -> BTreeSet<String> {
    // Elsewhere the bucket is not ours.
    names.retain(|name| matches!(engines, Engines::Local) || !name.contains("/bucket/"));
    names.into_iter().chain(LAST_JOBS).map(str::to_owned).collect()
}

async fn one_trace_spans_an_upload_from_the_request_to_the_file(engines: Engines) {
    let settings = [("LONGSHORE_LOG__FORMAT", "json"), ("LONGSHORE_LOG__FILTER", "info,longshore=debug")];
    let place = engines.place(&settings).await;
    let log = place.path().join("log.json");
    let server = place.up_logging_to(File::create(&log).unwrap());

    let one = ask(&server, "/api/uploads", json!({ "filename": "a.txt" }), '1').await["uploads"][0].clone();
    assert_eq!(one["upload"]["fields"]["x-amz-meta-traceparent"].as_str().unwrap()[3..35], "1".repeat(32));
    assert_eq!(post_form(&one, b"bytes").await, StatusCode::CREATED);
    assert_eq!(server.settled(&one).await["status"], "done");

    let lines = json!({ "uploads": [{ "filename": "b.txt" }] });
    let batch = ask(&server, "/api/batches", lines, '2').await["batches"][0].clone();
    let member = member(&server, &batch).await;
    assert_eq!(post_form(&member, b"of a batch").await, StatusCode::CREATED);
    assert_eq!(server.settled(&member).await["status"], "done");

    let prefix = json!({ "mode": "prefix", "maxFiles": 5, "maxFileSize": 100 });
    let batch = ask(&server, "/api/batches", prefix, '3').await["batches"][0].clone();
    let posted = post_form_with(&batch, b"under a prefix", |fields| {
        let key = fields.iter_mut().find(|(name, _)| name == "key").unwrap();
        key.1 = key.1.replace("${filename}", "c.txt");
    });
    assert_eq!(posted.await, StatusCode::CREATED);

    let form = reqwest::multipart::Part::bytes(b"a form".to_vec()).file_name("d.txt");
    let form = reqwest::multipart::Form::new().part("files", form);
    let request = server.request(Method::POST, "/api/files").header("traceparent", parent('4')).multipart(form);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::CREATED);
    server.report_of(4).await;
    // The folder goes with the place.
    let _place = server.terminate();

    let (asked, bucket) = ("POST /api/uploads", "POST /bucket/{bucket}");
    assert_eq!(uploads(&log, '1', asked), [one["id"].clone()].map(|id| id.as_str().unwrap().to_owned()).into());
    if matches!(engines, Engines::Local) {
        assert_eq!(uploads(&log, '1', bucket), uploads(&log, '1', asked));
    }
    assert_eq!(uploads(&log, '4', "POST /api/files").len(), 1);
    let way = vec!["POST /api/uploads", "issue_policy", bucket, "record_arrival"];
    assert_eq!(spans(&log, '1'), expected(way, engines));
    let of_batch = vec!["POST /api/batches", "issue_batch", bucket, "record_arrival"];
    assert_eq!(spans(&log, '2'), expected(of_batch, engines));
    let under_prefix = vec!["POST /api/batches", bucket, "admit_object"];
    assert_eq!(spans(&log, '3'), expected(under_prefix, engines));
    // A bucket that is not ours sends a notice of what we put, too.
    assert!(spans(&log, '4').is_superset(&expected(vec!["POST /api/files"], engines)), "{:?}", spans(&log, '4'));
}

/// The only upload of the batch, once it has its policy.
async fn member(server: &Server, batch: &Value) -> Value {
    let path = format!("/api/batches/{}/uploads", batch["id"].as_str().unwrap());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let (_, answer) = server.get(&path).await;
        if let Some(upload) = answer["uploads"].as_array().and_then(|uploads| uploads.first()) {
            return upload.clone();
        }
        assert!(std::time::Instant::now() < deadline, "it never had an upload: {answer}");
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
}
