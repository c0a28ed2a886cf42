//! What every bucket does alike, as tests to be run against each of them.
//!
//! Keys lie below `contract/`, apart for each test, so that they can share a bucket that cannot be made anew.

#![expect(clippy::unwrap_used, reason = "these are the bodies of tests")]

use std::io::Read as _;

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::oneshot;

use crate::model::Digest;
use crate::outside::{Body, Bucket, BucketError, Chunks, ObjectHead};

/// Everything below, one after the other.
pub async fn bucket(bucket: &dyn Bucket) {
    what_is_put_can_be_read(bucket).await;
    an_empty_object_is_an_object(bucket).await;
    a_large_object_comes_back_whole(bucket).await;
    a_stream_that_breaks_off_stores_nothing(bucket).await;
    a_put_that_is_dropped_stores_nothing(bucket).await;
    what_is_not_there_is_missing(bucket).await;
    a_replaced_object_has_changed(bucket).await;
    a_copy_stands_by_itself(bucket).await;
    a_copy_of_another_version_is_refused(bucket).await;
    deleting_is_final_and_may_be_repeated(bucket).await;
    a_listing_goes_by_prefix_in_order(bucket).await;
    a_long_listing_comes_in_pages(bucket).await;
    keys_are_not_paths(bucket).await;
}

fn chunks(parts: Vec<Bytes>) -> Chunks<'static> {
    stream::iter(parts.into_iter().map(Ok)).boxed()
}

async fn put(bucket: &dyn Bucket, key: &str, text: &str) -> ObjectHead {
    bucket.put(key, None, chunks(vec![Bytes::copy_from_slice(text.as_bytes())])).await.unwrap().head
}

async fn bytes_of(body: Body) -> Vec<u8> {
    match body {
        Body::File(mut file) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        }
        Body::Stream(stream) => stream.map_ok(|chunk| chunk.to_vec()).try_concat().await.unwrap(),
    }
}

async fn text_at(bucket: &dyn Bucket, key: &str) -> String {
    let head = bucket.head(key).await.unwrap().unwrap();
    String::from_utf8(bytes_of(bucket.read(&head).await.unwrap()).await).unwrap()
}

fn changed<T>(outcome: Result<T, BucketError>) -> bool {
    matches!(outcome, Err(BucketError::Changed { .. }))
}

fn missing<T>(outcome: Result<T, BucketError>) -> bool {
    matches!(outcome, Err(BucketError::Missing { .. }))
}

/// HEAD and read tell what put stored.
pub async fn what_is_put_can_be_read(bucket: &dyn Bucket) {
    let parts = vec![Bytes::from_static(b"two "), Bytes::new(), Bytes::from_static(b"parts")];
    let stored = bucket.put("contract/put", Some("text/plain"), chunks(parts)).await.unwrap();

    assert_eq!((stored.head.size, stored.sha256), (9, Digest::of(b"two parts")));
    assert_eq!(stored.head.content_type.as_deref(), Some("text/plain"));
    assert!(!stored.head.etag.is_empty() && !stored.head.etag.contains('"'), "{}", stored.head.etag);
    let head = bucket.head("contract/put").await.unwrap().unwrap();
    assert_eq!((&head.key, head.size, &head.etag), (&stored.head.key, 9, &stored.head.etag));
    assert_eq!(head.content_type.as_deref(), Some("text/plain"));
    assert_eq!(text_at(bucket, "contract/put").await, "two parts");
}

/// Zero bytes are a file like any other.
pub async fn an_empty_object_is_an_object(bucket: &dyn Bucket) {
    let stored = bucket.put("contract/empty", None, chunks(Vec::new())).await.unwrap();

    assert_eq!((stored.head.size, stored.sha256), (0, Digest::of(b"")));
    assert_eq!(text_at(bucket, "contract/empty").await, "");
}

/// Larger than any buffer and than two parts of a remote bucket, in chunks of odd lengths.
pub async fn a_large_object_comes_back_whole(bucket: &dyn Bucket) {
    let whole: Vec<u8> = (0..17_000_017_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let parts = whole.chunks(77_777).map(Bytes::copy_from_slice).collect();

    let stored = bucket.put("contract/large", None, chunks(parts)).await.unwrap();

    assert_eq!((stored.head.size, stored.sha256), (17_000_017, Digest::of(&whole)));
    assert!(bytes_of(bucket.read(&stored.head).await.unwrap()).await == whole);
}

/// Also after more than a buffer's or a part's worth, and what was there before stays.
pub async fn a_stream_that_breaks_off_stores_nothing(bucket: &dyn Bucket) {
    put(bucket, "contract/kept", "before").await;
    for key in ["contract/broken", "contract/kept"] {
        for size in [0, 10, 3_000_000, 9_000_000] {
            let part = Bytes::from(vec![7; size]);
            let broken = stream::iter([Ok(part), Err("the sender went away".into())]).boxed();
            let outcome = bucket.put(key, None, broken).await;
            assert!(matches!(outcome, Err(BucketError::BrokenOff { .. })), "{key} after {size} bytes");
        }
    }
    assert_eq!(bucket.head("contract/broken").await.unwrap(), None);
    assert_eq!(text_at(bucket, "contract/kept").await, "before");
}

/// However much of it has been taken in already.
pub async fn a_put_that_is_dropped_stores_nothing(bucket: &dyn Bucket) {
    put(bucket, "contract/still", "before").await;
    for key in ["contract/dropped", "contract/still"] {
        for size in [10, 9_000_000] {
            let (taken, seen) = oneshot::channel();
            let told = stream::once(async move {
                taken.send(()).unwrap();
                Ok(Bytes::from_static(b"and more"))
            });
            let part = stream::iter([Ok(Bytes::from(vec![7; size]))]);
            let putting = bucket.put(key, None, part.chain(told).chain(stream::pending()).boxed());
            assert!(matches!(select(putting, seen).await, Either::Right(_)), "{key} after {size} bytes");
        }
    }
    assert_eq!(bucket.head("contract/dropped").await.unwrap(), None);
    assert_eq!(text_at(bucket, "contract/still").await, "before");
}

/// HEAD says so as a value, the rest as an error; deleting it is none.
pub async fn what_is_not_there_is_missing(bucket: &dyn Bucket) {
    let head = ObjectHead { key: "contract/nothing".to_owned(), ..put(bucket, "contract/something", "x").await };

    assert_eq!(bucket.head("contract/nothing").await.unwrap(), None);
    assert!(missing(bucket.read(&head).await));
    assert!(missing(bucket.copy(&head, "contract/nothing2").await));
    assert_eq!(bucket.head("contract/nothing2").await.unwrap(), None);
    bucket.delete(&["contract/nothing".to_owned()]).await.unwrap();
}

/// The old version cannot be read any more, and nobody gets the new one in its place.
pub async fn a_replaced_object_has_changed(bucket: &dyn Bucket) {
    let old = put(bucket, "contract/replaced", "old").await;
    let new = put(bucket, "contract/replaced", "new").await;

    assert_ne!(old.etag, new.etag);
    assert!(changed(bucket.read(&old).await));
    assert_eq!(text_at(bucket, "contract/replaced").await, "new");
}

/// It has the bytes and the type, and lives on when its source is replaced or deleted.
pub async fn a_copy_stands_by_itself(bucket: &dyn Bucket) {
    let part = chunks(vec![Bytes::from_static(b"copied")]);
    let from = bucket.put("contract/source", Some("image/png"), part).await.unwrap().head;

    for to in ["contract/copy", "contract/copy2"] {
        let digest = bucket.copy(&from, to).await.unwrap();
        assert!(digest.is_none_or(|digest| digest == Digest::of(b"copied")));
    }
    put(bucket, "contract/source", "another").await;
    bucket.delete(&["contract/source".to_owned(), "contract/copy2".to_owned()]).await.unwrap();

    let head = bucket.head("contract/copy").await.unwrap().unwrap();
    assert_eq!((head.size, head.content_type.as_deref()), (6, Some("image/png")));
    assert_eq!(text_at(bucket, "contract/copy").await, "copied");
}

/// The target stays as it was.
pub async fn a_copy_of_another_version_is_refused(bucket: &dyn Bucket) {
    let old = put(bucket, "contract/moving", "old").await;
    put(bucket, "contract/moving", "new").await;
    put(bucket, "contract/target", "target").await;

    assert!(changed(bucket.copy(&old, "contract/target").await));
    assert_eq!(text_at(bucket, "contract/target").await, "target");
}

/// None of the others is touched.
pub async fn deleting_is_final_and_may_be_repeated(bucket: &dyn Bucket) {
    let gone = put(bucket, "contract/gone", "same").await;
    put(bucket, "contract/stays", "same").await;

    for _ in 0..2 {
        bucket.delete(&["contract/gone".to_owned(), "contract/never".to_owned()]).await.unwrap();
    }
    bucket.delete(&[]).await.unwrap();

    assert_eq!(bucket.head("contract/gone").await.unwrap(), None);
    assert!(missing(bucket.read(&gone).await));
    assert_eq!(text_at(bucket, "contract/stays").await, "same");
}

/// In the order of the keys' bytes, whatever comes after the prefix.
pub async fn a_listing_goes_by_prefix_in_order(bucket: &dyn Bucket) {
    for key in ["b", "a", "a/b", "aé", "B", "a%", "a_"] {
        put(bucket, &format!("contract/list/{key}"), key).await;
    }
    put(bucket, "contract/listless", "another prefix").await;
    let keys = async |prefix: &str, after: Option<&str>| -> Vec<String> {
        let listing = bucket.list(prefix, after).await.unwrap();
        assert_eq!(listing.next, None);
        listing.objects.into_iter().map(|head| head.key.replace("contract/list/", "")).collect()
    };

    assert_eq!(keys("contract/list/", None).await, ["B", "a", "a%", "a/b", "a_", "aé", "b"]);
    assert_eq!(keys("contract/list/a", None).await, ["a", "a%", "a/b", "a_", "aé"]);
    assert_eq!(keys("contract/list/a%", None).await, ["a%"]);
    assert_eq!(keys("contract/list/", Some("contract/list/a_")).await, ["aé", "b"]);
    assert_eq!(keys("contract/list/none", None).await, Vec::<String>::new());
}

/// A thousand and some, none twice and none left out.
pub async fn a_long_listing_comes_in_pages(bucket: &dyn Bucket) {
    let keys: Vec<String> = (0..1005).map(|n| format!("contract/pages/{n:04}")).collect();
    stream::iter(&keys).for_each_concurrent(64, |key| async move { drop(put(bucket, key, "").await) }).await;

    let first = bucket.list("contract/pages/", None).await.unwrap();
    assert!(first.objects.len() <= 1000 && first.next.is_some());
    let (mut listed, mut next) = (first.objects, first.next);
    while let Some(after) = next {
        let page = bucket.list("contract/pages/", Some(&after)).await.unwrap();
        listed.extend(page.objects);
        next = page.next;
    }

    assert!(listed.iter().map(|head| &head.key).eq(&keys));
    bucket.delete(&keys).await.unwrap();
    assert!(bucket.list("contract/pages/", None).await.unwrap().objects.is_empty());
}

/// What would climb out of a folder, or hide in one, is a key like any other.
pub async fn keys_are_not_paths(bucket: &dyn Bucket) {
    let long = format!("contract/{}", "k".repeat(1000));
    for key in [
        "contract/../../climbs",
        "contract/a//b",
        "contract/slash/",
        "contract/ü 🎉\"'%00",
        "contract/<a+b>&?#=;:",
        &long,
    ] {
        let copy = format!("{}2", key.get(..1000).unwrap_or(key));
        let head = put(bucket, key, key).await;
        bucket.copy(&head, &copy).await.unwrap();
        assert_eq!((text_at(bucket, key).await, text_at(bucket, &copy).await), (key.to_owned(), key.to_owned()));
        let listed = bucket.list(key, None).await.unwrap().objects;
        assert_eq!(listed.first().map(|head| head.key.as_str()), Some(key));
        bucket.delete(&[key.to_owned()]).await.unwrap();
        bucket.delete(&[copy, "contract/never".to_owned()]).await.unwrap();
        assert_eq!(bucket.head(key).await.unwrap(), None, "{key}");
    }
}
