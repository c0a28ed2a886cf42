//! Puts to a server that counts what stays behind, and copies that only seem to be made.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;

fn is_part(asked: &Asked) -> bool {
    asked.query.contains("partNumber=")
}

#[tokio::test]
async fn a_short_stream_is_one_request_and_a_longer_one_is_sent_in_parts() {
    for (size, parts) in [(0, 0), (999, 0), (1_000, 1), (2_000, 2), (3_001, 4)] {
        let server = Server::start(Vec::new(), |_| Act::Serve).await;
        let bucket = on(&server, 1).await;
        let odd = bytes(size).chunks(333).map(<[u8]>::to_vec).collect::<Vec<_>>();

        let stored = bucket.put("k", Some("a/b"), chunks(odd)).await.unwrap();

        assert_eq!((stored.head.size, stored.head.etag.as_str()), (size as i64, ETAG));
        assert_eq!((stored.sha256, server.object()), (Digest::of(&bytes(size)), Bytes::from(bytes(size))));
        assert_eq!(server.asked().iter().filter(|asked| is_part(asked)).count(), parts, "{size} bytes");
    }
}

#[tokio::test]
async fn a_chunk_larger_than_many_parts_is_cut() {
    let server = Server::start(Vec::new(), |_| Act::Serve).await;
    let bucket = on(&server, 1).await;

    bucket.put("k", None, chunks([bytes(5_500)])).await.unwrap();

    assert_eq!(server.object(), Bytes::from(bytes(5_500)));
    assert_eq!(server.asked().iter().filter(|asked| is_part(asked)).count(), 6);
}

#[tokio::test]
async fn a_stream_that_breaks_off_aborts_its_upload() {
    let server = Server::start(b"before".to_vec(), |_| Act::Serve).await;
    let bucket = on(&server, 1).await;
    let broken = stream::iter([Ok(Bytes::from(bytes(2_500))), Err("the sender went away".into())]).boxed();

    let outcome = bucket.put("k", None, broken).await;

    assert!(matches!(outcome, Err(BucketError::BrokenOff { .. })));
    let counts = server.until(|_| true).await;
    assert_eq!((counts.uploads, counts.aborted, server.object()), (0, 1, Bytes::from_static(b"before")));
}

#[tokio::test]
async fn a_part_or_a_completion_that_is_refused_aborts_the_upload() {
    let completes = |asked: &Asked| asked.method == "POST" && asked.query.contains("uploadId=");
    for (meant, act) in [
        (is_part as fn(&Asked) -> bool, Act::Refuse(403, "AccessDenied")),
        (completes, Act::Refuse(400, "InvalidPart")),
        (completes, Act::Pretend("InternalError")),
    ] {
        let server = Server::start(Vec::new(), move |asked| if meant(asked) { act } else { Act::Serve }).await;
        let bucket = on(&server, 1).await;

        let outcome = bucket.put("k", None, chunks([bytes(2_500)])).await;

        assert!(matches!(outcome, Err(BucketError::Failed { op: "put", .. })), "{act:?}");
        let counts = server.until(|_| true).await;
        assert_eq!((counts.uploads, counts.aborted), (0, 1), "{act:?}");
    }
}

#[tokio::test]
async fn a_put_that_is_dropped_aborts_its_upload() {
    let server = Server::start(b"before".to_vec(), |_| Act::Serve).await;
    let bucket = on(&server, 1).await;
    let endless = stream::iter([Ok(Bytes::from(bytes(2_500)))]).chain(stream::pending()).boxed();

    {
        let putting = bucket.put("k", None, endless);
        tokio::select! {
            _ = putting => panic!("the stream has no end"),
            // The look at the bucket, the upload's begin, and a part.
            _ = server.until(|counts| counts.answered >= 3) => {}
        }
    }

    let counts = server.until(|counts| counts.aborted == 1).await;
    assert_eq!((counts.uploads, server.object()), (0, Bytes::from_static(b"before")));
}

#[tokio::test]
async fn puts_together_gather_no_more_than_their_budget() {
    let server = Server::start(Vec::new(), |asked| if is_part(asked) { Act::Never } else { Act::Serve }).await;
    let bucket = on(&server, 2).await;
    let gathered = Arc::new(AtomicUsize::new(0));
    let counted = || {
        let gathered = Arc::clone(&gathered);
        let chunks = stream::iter(bytes(5_000).chunks(10).map(Bytes::copy_from_slice).collect::<Vec<_>>());
        chunks.map(move |chunk| {
            gathered.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok(chunk)
        })
    };

    tokio::select! {
        _ = join_all((0..5).map(|_| bucket.put("k", None, counted().boxed()))) => panic!("no part is answered"),
        _ = server.until(|counts| counts.open == 2) => {}
    }

    // Two parts, and what each of the five holds without a permit.
    assert!(gathered.load(Ordering::Relaxed) < 2 * PART + 5 * 2 * PART / 20, "{gathered:?}");
    assert_eq!(bucket.put_budget.free(), 2, "all are dropped");
}

#[tokio::test]
async fn many_puts_come_to_their_end_with_a_budget_of_one_part() {
    let server = Server::start(Vec::new(), |_| Act::Serve).await;
    let bucket = on(&server, 1).await;

    let odd = || chunks(bytes(5_500).chunks(70).map(<[u8]>::to_vec).collect::<Vec<_>>());
    let puts = join_all((0..5).map(|_| bucket.put("k", None, odd())));
    let stored = tokio::time::timeout(Duration::from_secs(30), puts).await.expect("it does not lock up");

    assert!(stored.into_iter().all(|stored| stored.unwrap().sha256 == Digest::of(&bytes(5_500))));
    assert_eq!(bucket.put_budget.free(), 1);
}

#[tokio::test]
async fn a_copys_200_that_carries_an_error_is_an_error() {
    let copies = |asked: &Asked| asked.method == "PUT";
    for (act, told) in [
        (Act::Pretend("AccessDenied"), "the server answered 200 AccessDenied: as told"),
        (Act::Serve, "the server's 200 holds no result"),
    ] {
        let server = Server::start(Vec::new(), move |asked| if copies(asked) { act } else { Act::Serve }).await;
        let bucket = on(&server, 1).await;

        let Err(BucketError::Failed { source, .. }) = bucket.copy(&version(10), "to").await else { panic!("{act:?}") };

        assert_eq!(source.to_string(), told);
    }
}

#[tokio::test]
async fn a_copy_above_the_limit_says_so_and_asks_nothing() {
    let server = Server::start(Vec::new(), |_| Act::Serve).await;
    let bucket = on(&server, 1).await;
    let asked = server.asked().len();

    let outcome = bucket.copy(&ObjectHead { size: 5_000_000_001, ..version(0) }, "to").await;

    let Err(BucketError::Failed { source, .. }) = outcome else { panic!("it was copied") };
    assert_eq!(source.to_string(), "k has 5000000001 bytes, and one copy carries at most 5000000000");
    assert_eq!(server.asked().len(), asked);
}
