//! Forms under a policy for many files: the key is the client's to choose, below a prefix.

use longshore_jobs::model::notice::{Event, parse};

use super::*;

const PREFIX: &str = "staging/o/batch/b/";

fn terms(rig: &Rig) -> PolicyTerms {
    PolicyTerms { place: Place::Prefix(PREFIX.to_owned(), Uuid::nil()), content_type: None, ..rig.terms() }
}

/// Posts one file under the policy, with the key as it was handed out or another, and gives the key that was told of.
async fn told(rig: &mut Rig, key: Option<&str>, filename: &str) -> String {
    let mut form = rig.form(terms(rig), b"the bytes").await;
    form.filename = filename.to_owned();
    if let Some(key) = key {
        form.set("key", key);
    }
    let answer = rig.post(form).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text());
    match parse(&rig.events.try_recv().unwrap()).unwrap().pop() {
        Some(Event::Created(arrival)) => arrival.key,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_files_own_name_stands_in_for_its_placeholder() {
    let mut rig = Rig::new().await;
    for (filename, name) in [
        ("front.png", "front.png"),
        ("C:\\\\shirts\\\\front.png", "front.png"),
        ("shirts/front.png", "front.png"),
        ("наряд 🎉+%.png", "наряд 🎉+%.png"),
        ("${filename}", "${filename}"),
    ] {
        let key = told(&mut rig, None, filename).await;

        assert_eq!(key, format!("{PREFIX}{name}"));
        assert!(rig.bucket.head(&key).await.unwrap().is_some(), "{key}");
    }
}

#[tokio::test]
async fn a_client_may_put_the_whole_path_into_the_key() {
    let mut rig = Rig::new().await;
    let longest = format!("{PREFIX}{}", "é".repeat((1024 - PREFIX.len()) / 2));
    assert_eq!(longest.len(), 1024);
    for key in [&format!("{PREFIX}a/b c/ü&=+%.jpg"), &format!("{PREFIX}../up"), &longest] {
        assert_eq!(told(&mut rig, Some(key), "other").await, *key);
    }
    let mut listed = rig.bucket.list(PREFIX, None).await.unwrap().objects;
    assert_eq!(listed.len(), 3);
    let read = rig.bucket.read(&listed.remove(0)).await.unwrap();
    assert!(matches!(read, longshore_jobs::outside::Body::File(_)));
    assert_eq!(rig.data_files(), 3);
}

#[tokio::test]
async fn what_is_not_below_the_prefix_or_too_long_is_refused() {
    let above = format!("{}x", PREFIX.trim_end_matches('/'));
    let too_long = format!("{PREFIX}{}", "x".repeat(1025 - PREFIX.len()));
    for (key, code) in [
        ("staging/o/batch/c/a", "AccessDenied"),
        ("blobs/o/a", "AccessDenied"),
        (&above, "AccessDenied"),
        (" staging/o/batch/b/a", "AccessDenied"),
        ("${filename}", "AccessDenied"),
        (&too_long, "KeyTooLongError"),
        ("staging/o/batch/b/a\0b", "InvalidArgument"),
    ] {
        let mut rig = Rig::new().await;
        let mut form = rig.form(terms(&rig), b"the bytes").await;
        form.set("key", key);

        let answer = rig.post(form).await;

        assert_eq!(answer.code(), code, "{key:?}: {}", answer.text());
        rig.assert_nothing_stored().await;
    }
}

#[tokio::test]
async fn a_policy_for_one_key_takes_no_placeholder() {
    let rig = Rig::new().await;
    let mut form = rig.form(rig.terms(), b"the bytes").await;
    form.set("key", "staging/o/u/${filename}");
    form.filename = "r".to_owned();

    // The key is the signed one once the name is filled in: what is judged is what is stored.
    assert_eq!(rig.post(form).await.status, StatusCode::CREATED);
    assert_eq!(rig.keys().await, ["staging/o/u/r"]);
}

#[tokio::test]
async fn a_key_of_thousands_of_placeholders_is_refused_though_nobody_signed_it() {
    let mut rig = Rig::new().await;
    let mut form = rig.form(terms(&rig), b"the bytes").await;
    form.set("key", &"${filename}".repeat(1000));
    form.set("x-amz-signature", "none");
    form.filename = "x".repeat(10_000);

    let answer = rig.post(form).await;

    assert_eq!(answer.code(), "KeyTooLongError", "{}", answer.text());
    rig.assert_nothing_stored().await;
}
