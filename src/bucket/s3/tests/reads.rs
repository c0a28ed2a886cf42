//! Reads from a server that is slow, breaks off, asks for less, or does not heed what it is asked.

use futures_util::future::join_all;

use super::*;

fn is_get(asked: &Asked) -> bool {
    asked.method == "GET"
}

/// Serves, but for the first `times` requests for the byte `start`.
fn at_first(start: Option<u64>, times: usize, act: Act) -> impl FnMut(&Asked) -> Act + Send + 'static {
    let mut left = times;
    move |asked| {
        let meant = is_get(asked) && asked.start == start && left > 0;
        left -= usize::from(meant);
        if meant { act } else { Act::Serve }
    }
}

fn gets(server: &Server) -> usize {
    server.asked().iter().filter(|asked| is_get(asked)).count()
}

#[tokio::test]
async fn parts_come_in_order_although_they_arrive_in_another() {
    // One more is answered before: the look at the bucket.
    let late_first = |asked: &Asked| if asked.start == Some(0) { Act::After(8) } else { Act::Serve };
    let server = Server::start(bytes(7_500), late_first).await;
    let bucket = on(&server, 100).await;

    let read = whole(bucket.read(&version(7_500)).await.unwrap()).await.unwrap();

    assert!(read == bytes(7_500));
    assert_eq!((gets(&server), bucket.budget.free()), (8, 100));
    let asked = server.asked().into_iter().filter(is_get);
    assert!(asked.map(|asked| asked.if_match).all(|tag| tag.as_deref() == Some("\"version-1\"")));
}

#[tokio::test]
async fn an_object_below_two_parts_is_one_request() {
    for size in [0, 1, 1_999] {
        let server = Server::start(bytes(size), |_| Act::Serve).await;
        let bucket = on(&server, 1).await;

        assert!(whole(bucket.read(&version(size)).await.unwrap()).await.unwrap() == bytes(size));
        assert_eq!(gets(&server), 1);
    }
}

#[tokio::test]
async fn a_version_that_goes_while_it_is_read_has_changed() {
    let gone = at_first(Some(5_000), 1, Act::Refuse(412, "PreconditionFailed"));
    let server = Server::start(bytes(7_500), gone).await;
    let bucket = on(&server, 100).await;

    let body = bucket.read(&version(7_500)).await.unwrap();

    assert!(matches!(whole(body).await, Err(BucketError::Changed { .. })));
    assert_eq!(bucket.budget.free(), 100);
}

#[tokio::test]
async fn another_version_is_not_taken_from_a_server_without_conditions() {
    for size in [10, 5_000] {
        let server = Server::start(bytes(size), |_| Act::Serve).await;
        let bucket = on(&server, 1).await;
        let pinned = ObjectHead { etag: "version-0".to_owned(), ..version(size) };

        assert!(matches!(bucket.read(&pinned).await, Err(BucketError::Changed { .. })));
    }
}

#[tokio::test]
async fn a_part_that_breaks_off_is_asked_for_again() {
    for act in [Act::BreakOff, Act::CutShort] {
        let server = Server::start(bytes(5_000), at_first(Some(2_000), 1, act)).await;
        let bucket = on(&server, 100).await;

        let read = whole(bucket.read(&version(5_000)).await.unwrap()).await;

        assert!(read.unwrap() == bytes(5_000), "{act:?}");
        assert_eq!(gets(&server), 6);
    }
}

#[tokio::test]
async fn a_part_that_keeps_breaking_off_is_an_error() {
    let server = Server::start(bytes(5_000), at_first(Some(2_000), usize::MAX, Act::BreakOff)).await;
    let bucket = on(&server, 100).await;

    let read = whole(bucket.read(&version(5_000)).await.unwrap()).await;

    assert!(matches!(read, Err(BucketError::Failed { op: "read", .. })));
}

#[tokio::test]
async fn a_small_object_that_comes_short_is_an_error() {
    for act in [Act::BreakOff, Act::CutShort] {
        let server = Server::start(bytes(500), at_first(None, usize::MAX, act)).await;
        let bucket = on(&server, 1).await;

        let read = whole(bucket.read(&version(500)).await.unwrap()).await;

        assert!(matches!(read, Err(BucketError::Failed { op: "read", .. })), "{act:?}");
    }
}

#[tokio::test]
async fn a_throttled_part_is_asked_for_again() {
    let slow = at_first(Some(1_000), 2, Act::Refuse(503, "SlowDown"));
    let server = Server::start(bytes(3_000), slow).await;
    let bucket = on(&server, 100).await;

    assert!(whole(bucket.read(&version(3_000)).await.unwrap()).await.unwrap() == bytes(3_000));
    assert_eq!(gets(&server), 5);
}

#[tokio::test]
async fn a_server_that_throttles_all_the_time_is_told_apart() {
    let server = Server::start(bytes(10), at_first(None, usize::MAX, Act::Refuse(503, "SlowDown"))).await;
    let bucket = on(&server, 1).await;

    assert!(matches!(bucket.read(&version(10)).await, Err(BucketError::Throttled { op: "read" })));
    assert_eq!(gets(&server), ATTEMPTS as usize);
}

#[tokio::test]
async fn a_server_that_does_not_heed_ranges_is_refused() {
    let server = Server::start(bytes(5_000), at_first(Some(0), usize::MAX, Act::IgnoreRange)).await;
    let bucket = on(&server, 1).await;

    let Err(BucketError::Failed { source, .. }) = bucket.read(&version(5_000)).await else { panic!("it was read") };

    assert_eq!(source.to_string(), "the server does not heed ranges");
}

#[tokio::test]
async fn many_readers_come_to_their_end_with_a_budget_of_one_part() {
    let server = Server::start(bytes(5_500), |_| Act::Serve).await;
    let bucket = on(&server, 1).await;

    let readers = (0..5).map(async |_| whole(bucket.read(&version(5_500)).await.unwrap()).await.unwrap());
    let read = tokio::time::timeout(Duration::from_secs(30), join_all(readers)).await.expect("it does not lock up");

    assert!(read.iter().all(|read| *read == bytes(5_500)));
    assert_eq!((server.until(|_| true).await.most_open, bucket.budget.free()), (1, 1));
}

#[tokio::test]
async fn a_reader_gives_way_to_one_that_waits() {
    let server = Server::start(bytes(200_000), |_| Act::Serve).await;
    let bucket = on(&server, 2).await;
    let Body::Stream(mut greedy) = bucket.read(&version(200_000)).await.unwrap() else { panic!("S3 has no files") };

    let waiting = async {
        let Body::Stream(parts) = bucket.read(&version(200_000)).await.unwrap() else { panic!("S3 has no files") };
        parts.take(3).count().await
    };
    tokio::pin!(waiting);
    let mut read = 0;
    let others = loop {
        tokio::select! {
            others = &mut waiting => break others,
            Some(part) = greedy.next() => read += part.unwrap().len(),
        }
    };

    assert_eq!(others, 3);
    assert!(read < 100_000, "the other one had to wait for {read} bytes");
    while let Some(part) = greedy.next().await {
        read += part.unwrap().len();
    }
    assert_eq!((read, bucket.budget.free()), (200_000, 2));
}

#[tokio::test]
async fn a_dropped_reader_ends_its_requests_and_frees_the_budget() {
    let stuck = |asked: &Asked| if asked.start.is_some_and(|start| start > 0) { Act::Never } else { Act::Serve };
    let server = Server::start(bytes(9_000), stuck).await;
    let bucket = on(&server, 4).await;
    let body = bucket.read(&version(9_000)).await.unwrap();
    server.until(|counts| counts.open == 3).await;
    assert_eq!(bucket.budget.free(), 1);

    drop(body);

    assert_eq!(bucket.budget.free(), 4);
    server.until(|counts| counts.open == 0).await;
}

#[tokio::test]
async fn an_operator_can_tell_a_missing_right_from_a_missing_bucket() {
    for (status, code, told) in [
        (403, "AccessDenied", "the server refuses the credentials, or they lack the right: 403 AccessDenied: as told"),
        (404, "NoSuchBucket", "the server answered 404 NoSuchBucket: as told"),
    ] {
        let server = Server::start(bytes(10), at_first(None, 1, Act::Refuse(status, code))).await;
        let bucket = on(&server, 1).await;

        let Err(BucketError::Failed { source, .. }) = bucket.read(&version(10)).await else { panic!("{code}") };

        assert_eq!(source.to_string(), told);
    }
}
