//! Each operation by the SDK that the bucket on S3 uses.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, Delete, ObjectIdentifier};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::{PLAIN, Served};

const BUCKET: &str = "b";

async fn put(s3: &Client, key: &str, bytes: &'static [u8]) -> String {
    let body = ByteStream::from_static(bytes);
    let put = s3.put_object().bucket(BUCKET).key(key).content_type("text/plain").metadata("batch-id", "9").body(body);
    put.send().await.unwrap().e_tag.unwrap()
}

async fn get(s3: &Client, key: &str) -> Vec<u8> {
    s3.get_object().bucket(BUCKET).key(key).send().await.unwrap().body.collect().await.unwrap().to_vec()
}

#[tokio::test]
async fn an_object_is_put_described_and_read_back() {
    let served = Served::start(PLAIN).await;
    let s3 = served.s3().await;
    let etag = put(&s3, "a key/with å+&<>", b"0123456789").await;

    let head = s3.head_object().bucket(BUCKET).key("a key/with å+&<>").send().await.unwrap();

    assert_eq!(head.e_tag(), Some(etag.as_str()));
    assert_eq!((head.content_length(), head.content_type()), (Some(10), Some("text/plain")));
    assert_eq!(head.metadata().unwrap()["batch-id"], "9");
    assert!(head.last_modified().unwrap().secs() > 1_700_000_000);
    assert_eq!(get(&s3, "a key/with å+&<>").await, b"0123456789");
    let missing = s3.head_object().bucket(BUCKET).key("missing").send().await.unwrap_err();
    assert!(missing.into_service_error().is_not_found());
    let missing = s3.get_object().bucket(BUCKET).key("missing").send().await.unwrap_err();
    assert!(missing.into_service_error().is_no_such_key());
}

#[tokio::test]
async fn a_range_is_read_of_the_version_that_is_asked_for_and_of_no_other() {
    let served = Served::start(PLAIN).await;
    let s3 = served.s3().await;
    let old = put(&s3, "k", b"abcdefghij").await;
    let new = put(&s3, "k", b"0123456789").await;
    let ask = |etag: &str| s3.get_object().bucket(BUCKET).key("k").if_match(etag).range("bytes=2-4");

    let read = ask(&new).send().await.unwrap();
    let refused = ask(&old).send().await.unwrap_err();

    assert_eq!(read.content_range(), Some("bytes 2-4/10"));
    assert_eq!(read.body.collect().await.unwrap().to_vec(), b"234");
    assert_eq!(refused.raw_response().unwrap().status().as_u16(), 412);
    assert_eq!(refused.into_service_error().code(), Some("PreconditionFailed"));
}

#[tokio::test]
async fn a_presigned_get_is_an_attachment() {
    let served = Served::start(PLAIN).await;
    let s3 = served.s3().await;
    put(&s3, "k", b"bytes").await;
    let terms = PresigningConfig::expires_in(Duration::from_secs(60)).unwrap();
    let asked = s3.get_object().bucket(BUCKET).key("k").response_content_disposition("attachment; filename=\"a b\"");

    let signed = asked.presigned(terms).await.unwrap();

    let got = Served::http().get(signed.uri()).send().await.unwrap();
    assert_eq!(got.headers()["content-disposition"], "attachment; filename=\"a b\"");
    assert_eq!(got.bytes().await.unwrap(), "bytes");
}

#[tokio::test]
async fn a_copy_is_made_of_one_version_and_its_digest_told() {
    let served = Served::start(PLAIN).await;
    let s3 = served.s3().await;
    let old = put(&s3, "staging/k é", b"old").await;
    let new = put(&s3, "staging/k é", b"new").await;
    let ask = |etag: &str| {
        let copy = s3.copy_object().bucket(BUCKET).key("blobs/k").copy_source("b/staging/k%20%C3%A9");
        copy.copy_source_if_match(etag).checksum_algorithm(ChecksumAlgorithm::Sha256)
    };

    let refused = ask(&old).send().await.unwrap_err();
    let copied = ask(&new).send().await.unwrap().copy_object_result.unwrap();

    assert_eq!(refused.into_service_error().code(), Some("PreconditionFailed"));
    assert_eq!(copied.checksum_sha256(), Some(STANDARD.encode(Sha256::digest(b"new")).as_str()));
    assert!(copied.e_tag().is_some_and(|etag| etag != new));
    assert_eq!(get(&s3, "blobs/k").await, b"new");
}

#[tokio::test]
async fn parts_become_an_object_in_the_order_of_their_numbers() {
    let served = Served::start(PLAIN).await;
    let s3 = served.s3().await;
    let created = s3.create_multipart_upload().bucket(BUCKET).key("k").content_type("text/plain").send().await.unwrap();
    let id = created.upload_id().unwrap();
    let mut parts = Vec::new();
    for (number, bytes) in [(2, b"second".as_slice()), (1, b"first "), (3, b"never named")] {
        let part = s3.upload_part().bucket(BUCKET).key("k").upload_id(id).part_number(number);
        let etag = part.body(ByteStream::from_static(bytes)).send().await.unwrap().e_tag;
        parts.push(CompletedPart::builder().part_number(number).set_e_tag(etag).build());
    }
    parts.swap(0, 1);
    parts.truncate(2);
    let complete = |parts: Vec<CompletedPart>| {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        s3.complete_multipart_upload().bucket(BUCKET).key("k").upload_id(id).multipart_upload(parts).send()
    };
    let strange = CompletedPart::builder().part_number(1).e_tag("\"other\"").build();
    let refused = complete(vec![strange]).await.unwrap_err();

    let completed = complete(parts).await.unwrap();

    assert_eq!(refused.into_service_error().code(), Some("InvalidPart"));
    let got = s3.get_object().bucket(BUCKET).key("k").if_match(completed.e_tag().unwrap()).send().await.unwrap();
    assert_eq!(got.content_type(), Some("text/plain"));
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"first second");
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let served = Served::start(PLAIN).await;
    let s3 = served.s3().await;
    let id = s3.create_multipart_upload().bucket(BUCKET).key("k").send().await.unwrap().upload_id.unwrap();
    s3.abort_multipart_upload().bucket(BUCKET).key("k").upload_id(&id).send().await.unwrap();

    let part = s3.upload_part().bucket(BUCKET).key("k").upload_id(id).part_number(1);
    let refused = part.body(ByteStream::from_static(b"x")).send().await.unwrap_err();

    assert_eq!(refused.into_service_error().code(), Some("NoSuchUpload"));
}

#[tokio::test]
async fn a_listing_comes_in_pages_in_order() {
    let served = Served::start(PLAIN).await;
    let s3 = served.s3().await;
    for key in ["p/3", "p/1 &", "q/1", "p/2"] {
        put(&s3, key, b"xyz").await;
    }
    let page = |after: Option<String>, token: Option<String>| {
        let asked = s3.list_objects_v2().bucket(BUCKET).prefix("p/").max_keys(2);
        asked.set_start_after(after).set_continuation_token(token).send()
    };

    let first = page(None, None).await.unwrap();
    let second = page(None, first.next_continuation_token.clone()).await.unwrap();
    let behind = page(Some("p/1 &".to_owned()), None).await.unwrap();

    let keys = |page: &[aws_sdk_s3::types::Object]| -> Vec<String> {
        page.iter().filter_map(|object| object.key.clone()).collect()
    };
    assert_eq!((keys(first.contents()), first.is_truncated()), (vec!["p/1 &".into(), "p/2".into()], Some(true)));
    assert_eq!((keys(second.contents()), second.is_truncated()), (vec!["p/3".into()], Some(false)));
    assert_eq!(keys(behind.contents()), ["p/2", "p/3"]);
    let object = &second.contents()[0];
    assert_eq!((object.size(), object.e_tag().map(str::len)), (Some(3), Some(34)));
    assert!(object.last_modified().is_some());
}

#[tokio::test]
async fn objects_are_deleted_one_by_one_and_together() {
    let served = Served::start(PLAIN).await;
    let s3 = served.s3().await;
    for key in ["a", "b & c", "d"] {
        put(&s3, key, b"x").await;
    }
    let named = ["b & c", "missing"].map(|key| ObjectIdentifier::builder().key(key).build().unwrap());

    let delete = Delete::builder().set_objects(Some(named.to_vec())).build().unwrap();
    let deleted = s3.delete_objects().bucket(BUCKET).delete(delete).send().await.unwrap();
    s3.delete_object().bucket(BUCKET).key("a").send().await.unwrap();

    assert_eq!((deleted.deleted().len(), deleted.errors().len()), (2, 0));
    let left = s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
    assert_eq!(left.contents().iter().filter_map(|object| object.key()).collect::<Vec<_>>(), ["d"]);
}
