//! Many uploads by one call.

use reqwest::Method;
use serde_json::{Value, json};

use crate::engines::Engines;
use crate::server::{Server, post_form, read};

on_each_engine! {
    three_hundred_lines_go_all_the_way,
    a_batch_with_one_bad_line_changes_nothing,
}

async fn posted(server: &Server, lines: &[Value]) -> (u16, Value) {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let request = server.request(Method::POST, "/api/batches?target=order&number=A-100");
    let answer = request.header("Content-Type", "application/x-ndjson").body(body).send().await.unwrap();
    let (status, answer) = read(answer).await;
    (status.as_u16(), answer)
}

/// The batch once `wanted` holds of it.
async fn batch_when(server: &Server, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..1_200 {
        let (status, answer) = server.get(&format!("/api/batches/{id}")).await;
        assert_eq!(status, 200, "{answer}");
        if wanted(&answer["batches"][0]) {
            return answer["batches"][0].clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("the batch never got there: {}", server.get(&format!("/api/batches/{id}")).await.1);
}

/// All its uploads, as lines.
async fn uploads_of(server: &Server, id: &str) -> Vec<Value> {
    let request = server.request(Method::GET, &format!("/api/batches/{id}/uploads"));
    let answer = request.header("Accept", "application/x-ndjson").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn three_hundred_lines_go_all_the_way(engines: Engines) {
    let server = engines.start().await;
    let content = |number: usize| format!("content {}", number % 290);
    let lines: Vec<Value> =
        (0..300).map(|number| json!({ "filename": format!("{number}.txt"), "size": content(number).len() })).collect();

    let (status, answer) = posted(&server, &lines).await;
    assert_eq!(status, 202, "{answer}");
    let id = answer["batches"][0]["id"].as_str().unwrap().to_owned();
    batch_when(&server, &id, |batch| batch["ready"] == true).await;
    let uploads = uploads_of(&server, &id).await;
    for (number, upload) in uploads.iter().enumerate() {
        assert_eq!((&upload["filename"], &upload["status"]), (&json!(format!("{number}.txt")), &json!("issued")));
        assert_eq!(post_form(upload, content(number).as_bytes()).await, 201);
    }
    let over = batch_when(&server, &id, |batch| batch["progress"] == 1.0).await;

    assert_eq!((uploads.len(), &over["counts"]["done"], &over["taskResultSuccesses"]), (300, &json!(300), &json!(300)));
    let bytes: usize = (0..300).map(|number| content(number).len()).sum();
    assert_eq!((&over["bytes"], &over["bytesDone"]), (&json!(bytes), &json!(bytes)));
    let report = server.report_of(300).await;
    assert_eq!((&report["sizeBytes"], &report["uniqueCount"]), (&json!(bytes), &json!(290)));
    assert!(uploads_of(&server, &id).await.iter().all(|upload| upload["status"] == "done"));
    server.place().staging_is_empty().await;
}

async fn a_batch_with_one_bad_line_changes_nothing(engines: Engines) {
    let server = engines.start().await;
    let mut lines: Vec<Value> = (0..300).map(|number| json!({ "filename": format!("{number}.txt") })).collect();
    lines[16] = json!({ "filename": "17.txt", "size": -1 });

    let (status, answer) = posted(&server, &lines).await;

    assert_eq!((status, &answer["error"]["type"]), (422, &json!("unprocessable_error")));
    assert_eq!(answer["error"]["message"], "Line 17: field `size` must not be negative");
    for (path, list) in [("/api/batches", "batches"), ("/api/uploads", "uploads")] {
        assert_eq!(server.get(path).await.1[list], json!([]), "{path}");
    }
}
