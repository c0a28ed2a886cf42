//! Forms that are stored, and what is said of them.

use std::io::Read as _;

use longshore_jobs::model::notice::{Event, parse};

use super::*;

fn arrival(notice: &str) -> Arrival {
    match parse(notice).unwrap().pop() {
        Some(Event::Created(arrival)) => arrival,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_signed_form_is_stored_answered_and_told() {
    let mut rig = Rig::new().await;

    let answer = rig.posted(rig.terms(), b"the bytes").await;

    assert_eq!(answer.status, StatusCode::CREATED);
    let head = rig.bucket.head("staging/o/u/r").await.unwrap().unwrap();
    assert_eq!((head.size, head.content_type.as_deref()), (9, Some("text/plain")));
    let (etag, location) = (format!("\"{}\"", head.etag), "http://127.0.0.1:8080/bucket/longshore/staging/o/u/r");
    assert_eq!(answer.header("etag"), etag);
    assert_eq!(answer.header("location"), location);
    assert_eq!(
        answer.text(),
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{location}</Location>\
             <Bucket>longshore</Bucket><Key>staging/o/u/r</Key><ETag>{}</ETag></PostResponse>",
            etag.replace('"', "&quot;")
        )
    );
    let told = arrival(&rig.events.try_recv().unwrap());
    assert_eq!((told.bucket.as_str(), told.key.as_str()), ("longshore", "staging/o/u/r"));
    assert_eq!((told.size, told.etag), (Some(9), Some(head.etag)));
    assert_eq!((rig.data_files(), rig.tmp_files()), (1, 0));
}

#[tokio::test]
async fn any_size_in_the_range_is_stored_whole() {
    let mut rig = Rig::new().await;
    for size in [0, 1, 65_536, 262_143, 262_144, 262_145, 3_000_017] {
        let bytes: Vec<u8> = (0..size).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let exact = i64::from(size);
        let sha256 = Some(Digest::of(&bytes));
        let terms = PolicyTerms { min_size: exact, max_size: exact, sha256, ..rig.terms() };

        rig.posted(terms, &bytes).await;

        let head = rig.bucket.head("staging/o/u/r").await.unwrap().unwrap();
        let Ok(longshore_jobs::outside::Body::File(mut file)) = rig.bucket.read(&head).await else { panic!("{size}") };
        let mut stored = Vec::new();
        file.read_to_end(&mut stored).unwrap();
        assert!(stored == bytes, "{size}");
    }
}

#[tokio::test]
async fn bytes_that_look_like_a_boundary_are_bytes() {
    let mut rig = Rig::new().await;
    let tricky = format!("\r\n--{}\r\n\r\n------boundary\r", &BOUNDARY[..BOUNDARY.len() - 1]);

    rig.posted(rig.terms(), tricky.as_bytes()).await;

    let head = rig.bucket.head("staging/o/u/r").await.unwrap().unwrap();
    assert_eq!(head.etag, Digest::of(tricky.as_bytes()).to_hex());
}

#[tokio::test]
async fn a_later_post_of_a_key_has_the_greater_sequencer_also_after_a_restart() {
    let mut rig = Rig::new().await;
    rig.posted(rig.terms(), b"one").await;
    rig.posted(rig.terms(), b"two").await;
    let first = arrival(&rig.events.try_recv().unwrap()).sequencer.unwrap();
    let second = arrival(&rig.events.try_recv().unwrap()).sequencer.unwrap();

    let mut rig = rig.reopen().await;
    rig.posted(rig.terms(), b"three").await;
    let third = arrival(&rig.events.try_recv().unwrap()).sequencer.unwrap();

    assert!(first < second && second < third, "{first} {second} {third}");
}

#[tokio::test]
async fn only_what_clients_stage_is_told() {
    let mut rig = Rig::new().await;

    rig.bucket.put("staging/o/u/own", None, chunks(b"ours")).await.unwrap();
    rig.posted(PolicyTerms { place: Place::Key("elsewhere/x".to_owned(), Uuid::nil()), ..rig.terms() }, b"theirs")
        .await;

    assert_eq!(rig.keys().await, ["elsewhere/x", "staging/o/u/own"]);
    assert!(rig.events.try_recv().is_err());
}

#[tokio::test]
async fn a_post_is_stored_when_nobody_listens() {
    let mut rig = Rig::new().await;
    rig.events.close();
    rig.posted(rig.terms(), b"bytes").await;
    assert_eq!(rig.keys().await, ["staging/o/u/r"]);
}

#[tokio::test]
async fn a_client_that_goes_away_behind_its_last_byte_has_stored_its_object() {
    let mut rig = Rig::new().await;
    let mut incoming = rig.bucket.files.receive();
    incoming.push(b"bytes").await.unwrap();
    let key = "staging/o/u/r".to_owned();
    let permit =
        Permit { key, content_type: None, metadata: BTreeMap::new(), sha256: None, sizes: 0..=5, success_status: 204 };

    let mut landing = Box::pin(rig.bucket.land(incoming, permit));
    assert!(futures_util::poll!(&mut landing).is_pending());
    drop(landing);

    let told = tokio::time::timeout(Duration::from_secs(10), rig.events.recv()).await.unwrap().unwrap();
    assert_eq!(arrival(&told).key, "staging/o/u/r");
    assert_eq!((rig.keys().await.len(), rig.data_files(), rig.tmp_files()), (1, 1, 0));
}

#[tokio::test]
async fn fields_to_be_ignored_are_and_names_have_any_case() {
    let rig = Rig::new().await;
    let mut form = rig.form(rig.terms(), b"bytes").await;
    form.add_first("x-ignore-this", "anything");
    for (name, _) in &mut form.parts {
        if name != "file" {
            *name = name.to_uppercase();
        }
    }
    assert_eq!(rig.post(form).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_trailing_slash_is_the_same_bucket() {
    let rig = Rig::new().await;
    let form = Form { path: "/bucket/longshore/".to_owned(), ..rig.form(rig.terms(), b"bytes").await };
    assert_eq!(rig.post(form).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn two_posts_of_one_key_leave_one_object_and_one_file() {
    let mut rig = Rig::new().await;
    rig.posted(rig.terms(), b"one").await;
    rig.posted(rig.terms(), b"one").await;
    rig.posted(rig.terms(), b"two").await;
    assert_eq!((rig.keys().await.len(), rig.data_files()), (1, 1));
}
