//! The envelope of every good answer.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// For answers to POST.
pub const POSTED: &str = "Successful post request";
/// For answers to GET.
pub const GOT: &str = "Successful get request";
/// For answers to PUT.
pub const PUT: &str = "Successful put request";
/// For answers to DELETE.
pub const DELETED: &str = "Successful delete request";

/// The message, and the entries under their plural.
pub fn envelope<T: Serialize>(message: &str, plural: &str, entries: &[T]) -> Map<String, Value> {
    let mut answer = Map::new();
    answer.insert("message".to_owned(), json!(message));
    answer.insert(plural.to_owned(), json!(entries));
    answer
}
