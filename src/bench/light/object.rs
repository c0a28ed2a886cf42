//! The objects, by `bucket/key`, which is also the path of a request and keeps a bucket's keys in order and together.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// One version of an object.
pub(super) struct Object {
    /// In order; more than one where it came in parts.
    pub(super) segments: Vec<Bytes>,
    /// Bytes.
    pub(super) size: u64,
    /// Opaque, in quotes.
    pub(super) etag: HeaderValue,
    /// When it appeared.
    pub(super) modified: DateTime<Utc>,
    /// What it came with.
    pub(super) described: Described,
}

/// What is kept beside the bytes: the media type and everything of the owner's own.
#[derive(Clone, Default)]
pub(super) struct Described(pub(super) Vec<(HeaderName, HeaderValue)>);

impl Described {
    /// As the headers say.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let kept = headers.iter().filter(|(name, _)| is_kept(name));
        Self(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

/// Whether it is a property of the object and not of the request.
pub(super) fn is_kept(name: &HeaderName) -> bool {
    *name == header::CONTENT_TYPE || name.as_str().starts_with("x-amz-meta-")
}

impl Object {
    /// A new version.
    pub(super) fn new(segments: Vec<Bytes>, described: Described) -> Self {
        let size = segments.iter().map(|segment| segment.len() as u64).sum();
        Self { segments, size, etag: new_etag(), modified: Utc::now(), described }
    }

    /// The entity tag without its quotes.
    pub(super) fn bare_etag(&self) -> &str {
        bare(self.etag.to_str().expect("it is made of digits"))
    }

    /// The bytes from `start` up to and without `end`.
    pub(super) fn slice(&self, start: u64, end: u64) -> Vec<Bytes> {
        let (mut at, mut found) = (0, Vec::new());
        for segment in &self.segments {
            let length = segment.len() as u64;
            let (from, to) = (start.clamp(at, at + length) - at, end.clamp(at, at + length) - at);
            if from < to {
                let inside = "both lie within the segment";
                found.push(segment.slice(usize::try_from(from).expect(inside)..usize::try_from(to).expect(inside)));
            }
            at += length;
        }
        found
    }
}

/// An entity tag of its own, in quotes. It is no hash: nobody may take it for one.
pub(super) fn new_etag() -> HeaderValue {
    HeaderValue::from_str(&format!("\"{:032x}\"", rand::random::<u128>())).expect("digits fit in a header")
}

/// An entity tag without quotes.
pub(super) fn bare(etag: &str) -> &str {
    etag.trim().trim_matches('"')
}

/// All objects of all buckets.
#[derive(Default)]
pub(super) struct Objects(Mutex<BTreeMap<String, Arc<Object>>>);

impl Objects {
    /// What is at the path.
    pub(super) fn find(&self, path: &str) -> Option<Arc<Object>> {
        self.all().get(path).cloned()
    }

    /// Puts it at the path, whatever was there.
    pub(super) fn store(&self, path: String, object: Object) -> Arc<Object> {
        let object = Arc::new(object);
        self.all().insert(path, Arc::clone(&object));
        object
    }

    /// Removes what is at the path, if anything.
    pub(super) fn remove(&self, path: &str) {
        self.all().remove(path);
    }

    /// Paths with the prefix, behind `after`, at most so many, in the order of their bytes.
    pub(super) fn page(&self, prefix: &str, after: &str, most: usize) -> Vec<(String, Arc<Object>)> {
        let start = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        let all = self.all();
        let behind = all.range::<str, _>((start, Bound::Unbounded));
        let found = behind.take_while(|(path, _)| path.starts_with(prefix)).take(most);
        found.map(|(path, object)| (path.clone(), Arc::clone(object))).collect()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Object>>> {
        // Nothing that holds the lock can leave a map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_parts(parts: &[&'static [u8]]) -> Object {
        Object::new(parts.iter().map(|part| Bytes::from_static(part)).collect(), Described::default())
    }

    #[test]
    fn a_slice_goes_across_parts() {
        let object = of_parts(&[b"0123", b"45", b"6789"]);
        assert_eq!(object.size, 10);
        for start in 0..=10 {
            for end in start..=10 {
                let expected = &b"0123456789"[start as usize..end as usize];
                assert_eq!(object.slice(start, end).concat(), expected, "{start}..{end}");
            }
        }
    }

    #[test]
    fn pages_follow_each_other_within_a_prefix() {
        let objects = Objects::default();
        for path in ["b/a", "b/p/1", "b/p/2", "b/p/3", "b/q", "c/p/1"] {
            objects.store(path.to_owned(), of_parts(&[b"x"]));
        }
        let paths = |prefix, after, most| -> Vec<String> {
            objects.page(prefix, after, most).into_iter().map(|(path, _)| path).collect()
        };

        assert_eq!(paths("b/p/", "", 2), ["b/p/1", "b/p/2"]);
        assert_eq!(paths("b/p/", "b/p/2", 2), ["b/p/3"]);
        assert_eq!(paths("b/", "b/a", 9), ["b/p/1", "b/p/2", "b/p/3", "b/q"]);
    }
}
