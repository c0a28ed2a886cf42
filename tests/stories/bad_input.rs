//! What is not as it should be gets a clear error or a safe entry: never a 500, never a file outside the bucket's folder.

use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::engines::Engines;
use crate::server::{Server, read};

on_each_engine! {
    a_body_of_ten_megabytes_of_json_is_too_large,
    broken_multipart_stores_nothing,
    strange_names_are_safe_or_refused,
}

async fn form(server: &Server, content_type: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
    let request = server.request(Method::POST, "/api/files").header("Content-Type", content_type).body(body);
    let (status, answer) = read(request.send().await.unwrap()).await;
    (status.as_u16(), answer)
}

async fn a_body_of_ten_megabytes_of_json_is_too_large(engines: Engines) {
    let server = engines.start().await;
    let body = json!({ "filename": "x".repeat(10_000_000) });
    let (status, answer) = server.post("/api/uploads", body).await;
    assert_eq!((status.as_u16(), &answer["error"]["type"]), (413, &json!("payload_too_large_error")));
}

async fn broken_multipart_stores_nothing(engines: Engines) {
    let server = engines.start().await;
    let broken = "--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a\"\r\n\r\nno end";
    for (content_type, body) in [
        ("multipart/form-data", broken),
        ("multipart/form-data; boundary=", broken),
        ("multipart/form-data; boundary=b", broken),
        ("multipart/form-data; boundary=b", ""),
        ("multipart/form-data; boundary=b", "--b\r\n\r\n\r\n--b--\r\n"),
    ] {
        let (status, answer) = form(&server, content_type, body).await;
        assert_eq!(status, 400, "{content_type} {body:?}: {answer}");
    }
    let (status, _) = form(&server, "application/json", "{}").await;
    assert_eq!(status, 415);
    assert_eq!(server.get("/api/files").await.1["files"], json!([]));
}

async fn strange_names_are_safe_or_refused(engines: Engines) {
    let server = engines.start().await;
    let long = "é".repeat(2048);
    for name in ["../../../../etc/cron.d/evil", "..\\..\\evil.exe", "🎉.png", ".", "..", "a\tb", &long] {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{name}\"\r\n\r\nbytes\r\n--b--\r\n"
        );
        let (status, answer) = form(&server, "multipart/form-data; boundary=b", body).await;
        assert!(status == 201 || status == 400 || status == 422, "{name:?}: {status} {answer}");
        if status == 201 {
            let kept = answer["files"][0]["filename"].as_str().unwrap();
            assert!(!kept.contains(['/', '\\']) && kept != ".." && kept.len() <= 1024, "{name:?} became {kept:?}");
        }
    }
    for name in ["", " ", "../up", "a/../../b", "/etc/passwd", "nul\0byte", &long] {
        let (status, answer) = server.post("/api/uploads", json!({ "filename": name })).await;
        assert_eq!((status.as_u16(), &answer["error"]["type"]), (422, &json!("unprocessable_error")), "{name:?}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("filename"), "{answer}");
    }
    only_data_beside(server.place().path(), engines);
}

/// The temporary folder holds the data folder, if anything is kept in files, and nothing else.
fn only_data_beside(folder: &Path, engines: Engines) {
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, if engines.are_remote() { vec![] } else { vec!["data"] });
}

#[tokio::test]
async fn a_part_of_a_fleet_that_was_told_no_bucket_is_refused_before_it_rejects_what_others_have_stored() {
    let ledger = ("LONGSHORE_DATABASE_URL", "postgres://longshore:secret@127.0.0.1:1/longshore");
    let place = Engines::Local.place(&[ledger]).await;

    for part in ["worker", "intake"] {
        let refused = place.run(&[part]);

        let told = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains("bucket") && told.contains("postgres://(hidden)@127.0.0.1:1/longshore"), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}

#[tokio::test]
async fn a_start_that_waits_for_a_server_ends_in_good_order_when_it_is_asked_to() {
    let ledger = ("LONGSHORE_DATABASE_URL", "postgres://longshore:secret@127.0.0.1:1/longshore");
    let place = Engines::Local.place(&[ledger]).await;
    let mut up = place.command(&["up"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(up.stderr.take().unwrap());

    let mut told = String::new();
    while !told.contains("not there yet") {
        assert_ne!(std::io::BufRead::read_line(&mut lines, &mut told).unwrap(), 0, "it ended by itself: {told}");
    }
    let sent = std::process::Command::new("kill").args(["-TERM", &up.id().to_string()]).status().unwrap();

    assert!(sent.success() && up.wait().unwrap().success());
    assert!(told.contains("postgres://(hidden)@127.0.0.1:1/longshore") && !told.contains("secret"), "{told}");
}
