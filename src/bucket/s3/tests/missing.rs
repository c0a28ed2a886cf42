//! What counts as a missing object, and what does not: a 404 of somebody who is not S3 must end no upload.

use super::*;

/// Serves a look at the bucket, and does this with every request for the object.
fn with_object(act: impl Fn(&Asked) -> Act + Send + 'static) -> impl FnMut(&Asked) -> Act + Send + 'static {
    move |asked| if asked.path == "/b/k" { act(asked) } else { Act::Serve }
}

#[tokio::test]
async fn an_object_is_missing_when_the_server_says_so_by_its_code() {
    let server = Server::start(Vec::new(), with_object(|_| Act::Refuse(404, "NoSuchKey"))).await;
    let bucket = on(&server, 1).await;

    assert_eq!(bucket.head("k").await.unwrap().map(|head| head.key), None);
    assert!(matches!(bucket.read(&version(10)).await, Err(BucketError::Missing { .. })));
    assert!(matches!(bucket.copy(&version(10), "k").await, Err(BucketError::Missing { .. })));
}

#[tokio::test]
async fn a_404_of_a_load_balancer_or_of_a_missing_bucket_is_a_failure() {
    for act in [Act::Intercept(404), Act::Refuse(404, "NoSuchBucket"), Act::Refuse(404, "NotFound")] {
        let server = Server::start(Vec::new(), with_object(move |_| act)).await;
        let bucket = on(&server, 1).await;

        assert!(matches!(bucket.head("k").await, Err(BucketError::Failed { op: "head", .. })), "{act:?}");
        assert!(matches!(bucket.read(&version(10)).await, Err(BucketError::Failed { op: "read", .. })), "{act:?}");
        assert!(matches!(bucket.copy(&version(10), "k").await, Err(BucketError::Failed { op: "copy", .. })), "{act:?}");
    }
}

#[tokio::test]
async fn an_object_that_comes_between_two_looks_is_not_missing() {
    let server = Server::start(
        bytes(10),
        with_object(|asked| if asked.method == "HEAD" { Act::Intercept(404) } else { Act::Serve }),
    );
    let server = server.await;
    let bucket = on(&server, 1).await;

    assert!(matches!(bucket.head("k").await, Err(BucketError::Failed { op: "head", .. })));
}

#[tokio::test]
async fn a_head_without_a_length_is_not_that_of_an_empty_object() {
    let server = Server::start(Vec::new(), with_object(|_| Act::HideLength)).await;
    let bucket = on(&server, 1).await;

    let Err(BucketError::Failed { source, .. }) = bucket.head("k").await else { panic!("it has no length") };

    assert_eq!(source.to_string(), "the server told no length");
}

#[tokio::test]
async fn a_load_balancer_before_s3_does_not_end_the_start() {
    let server = Server::start(Vec::new(), |_| Act::Intercept(404)).await;

    on(&server, 1).await;
}
