//! What the document promises, for the tests of the door to hold every answer against.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use http::Method;
use longshore_jobs::model::upload::MAX_SIZE;
use serde_json::Value;

use super::Reply;
use crate::http::openapi;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(&openapi::text(MAX_SIZE)).unwrap());

/// The document of a service that is configured with nothing.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Every operation: method and path.
pub fn operations() -> BTreeSet<(String, String)> {
    let paths = document()["paths"].as_object().unwrap().iter();
    let methods = |(path, item): (&String, &Value)| {
        let methods: Vec<_> =
            item.as_object().unwrap().keys().map(|name| (name.to_uppercase(), path.clone())).collect();
        methods
    };
    paths.flat_map(methods).collect()
}

/// Panics where the document says that the operation does not answer so. Pages for people are not in it.
pub fn hold(method: &Method, path: &str, reply: &Reply) {
    let Some(item) = item_of(path) else { return };
    let (own, status) = (&item[method.as_str().to_ascii_lowercase()], reply.status.as_u16());
    // A GET answers HEAD too, as in the standard.
    let operation = if own.is_null() && method == Method::HEAD { &item["get"] } else { own };
    if operation.is_null() {
        // The route of notices is not always there.
        let refused = status == 405 || reply.slug() == "not_found_error";
        assert!(refused, "{method} {path} is not in the document, and answers with {status}: {}", reply.text);
        return;
    }
    let response = &operation["responses"][status.to_string()];
    assert!(
        response.is_object(),
        "{method} {path} answers with {status}, which is not in the document: {}",
        reply.text
    );
    if reply.body["error"].is_object() {
        let slugs = &response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["error"];
        let slugs = slugs["properties"]["type"]["enum"].as_array().unwrap();
        assert!(slugs.contains(&reply.body["error"]["type"]), "{method} {path} {status}: {} of {slugs:?}", reply.text);
    }
}

/// What the document says of a path: where two templates fit, the one without a parameter.
fn item_of(path: &str) -> Option<&'static Value> {
    let paths = document()["paths"].as_object().unwrap();
    paths.get(path).or_else(|| paths.iter().find(|(template, _)| fits(template, path)).map(|(_, item)| item))
}

fn fits(template: &str, path: &str) -> bool {
    let (wanted, found) = (template.split('/'), path.split('/'));
    let same = |(wanted, found): (&str, &str)| wanted == found || (wanted.starts_with('{') && !found.is_empty());
    wanted.clone().count() == found.clone().count() && wanted.zip(found).all(same)
}
