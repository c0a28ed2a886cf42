//! What one org or one key may not do.

use reqwest::Method;
use serde_json::json;

use crate::engines::Engines;
use crate::server::{client, read};

on_each_engine! {
    another_orgs_things_are_forbidden,
    a_key_does_what_its_scopes_say,
    a_revoked_key_is_refused,
}

/// The token that `key create` printed.
fn token_in(text: &str) -> String {
    text.split_whitespace()
        .find(|word| word.starts_with("lsk_"))
        .unwrap_or_else(|| panic!("no token in {text}"))
        .to_owned()
}

async fn another_orgs_things_are_forbidden(engines: Engines) {
    let server = engines.start().await;
    let mine = server.uploaded("mine.txt", b"mine").await;
    server.place().print(&["org", "create", "rival"]);
    let rival = token_in(&server.place().print(&["key", "create", "--org", "rival"]));
    let (file, upload) = (mine["fileId"].as_str().unwrap(), mine["id"].as_str().unwrap());

    for (method, path) in [
        (Method::GET, format!("/api/files/{file}")),
        (Method::DELETE, format!("/api/files/{file}")),
        (Method::GET, format!("/api/files/{file}/content")),
        (Method::GET, format!("/api/uploads/{upload}")),
        (Method::POST, format!("/api/uploads/{upload}/callback")),
        (Method::POST, format!("/api/uploads/{upload}/policy")),
        (Method::DELETE, format!("/api/uploads/{upload}")),
    ] {
        let request = client().request(method.clone(), format!("{}{path}", server.url)).bearer_auth(&rival);
        let (status, answer) = read(request.send().await.unwrap()).await;
        assert_eq!(
            (status.as_u16(), &answer["error"]["type"]),
            (403, &json!("authorization_error")),
            "{method} {path}"
        );
    }
    for (path, list) in [("/api/files", "files"), ("/api/uploads", "uploads")] {
        let request = client().get(format!("{}{path}", server.url)).bearer_auth(&rival);
        assert_eq!(read(request.send().await.unwrap()).await.1[list], json!([]), "{path}");
    }
    // The same bytes are not known to another org.
    let body = json!({ "filename": "theirs.txt", "sha256": mine["hash"] });
    let request = client().post(format!("{}/api/uploads", server.url)).bearer_auth(&rival).json(&body);
    assert_eq!(read(request.send().await.unwrap()).await.1["uploads"][0]["status"], "issued");
}

async fn a_key_does_what_its_scopes_say(engines: Engines) {
    let server = engines.start().await;
    let key =
        |scopes: &str| token_in(&server.place().print(&["key", "create", "--org", "default", "--scopes", scopes]));
    let (reader, reporter) = (key("read"), key("report"));
    let asks: [(&str, Method, &str, u16); 5] = [
        (&reader, Method::POST, "/api/uploads", 403),
        (&reader, Method::GET, "/api/files", 200),
        (&reporter, Method::GET, "/api/files", 403),
        (&reporter, Method::GET, "/api/files/report", 200),
        (&reporter, Method::GET, "/api/uploads", 403),
    ];
    for (token, method, path, expected) in asks {
        let request = client().request(method.clone(), format!("{}{path}", server.url)).bearer_auth(token);
        let status = request.json(&json!({ "filename": "a" })).send().await.unwrap().status();
        assert_eq!(status, expected, "{method} {path}");
    }
}

async fn a_revoked_key_is_refused(engines: Engines) {
    let server = engines.start().await;
    let token = token_in(&server.place().print(&["key", "create", "--org", "default"]));
    let public = token.split('_').nth(1).unwrap();
    server.place().print(&["key", "revoke", public]);

    let answer = client().get(format!("{}/api/files", server.url)).bearer_auth(&token).send().await.unwrap();

    assert_eq!(answer.status(), 401);
    assert!(!answer.headers().contains_key("www-authenticate"));
}
