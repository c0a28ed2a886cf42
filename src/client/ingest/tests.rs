//! Runs against a server that behaves as `API.md` says and misbehaves on demand.

mod batching;
mod each;
mod fake;
mod prefix;

use std::fs;

use uuid::Uuid;

use self::fake::serve;
use super::*;

fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

async fn ingest(api: &Api, folder: &tempfile::TempDir) -> Summary {
    let paths = vec![folder.path().to_owned()];
    let options = IngestOptions::of(paths, 1);
    run(api.clone(), options, Progress::silent(), CancellationToken::new()).await
}

#[tokio::test]
async fn files_go_up_once_and_a_second_run_sends_nothing() {
    let (fake, api) = serve().await;
    let large = (0..1_500_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let folder = folder(&[("a", b"same".to_vec()), ("b", b"same".to_vec()), ("empty", vec![]), ("large", large)]);

    let first = ingest(&api, &folder).await;
    let second = ingest(&api, &folder).await;

    assert!(first.is_complete() && second.is_complete(), "{first}{second}");
    assert_eq!((first.files, first.uploaded, first.duplicates, first.bytes_saved), (4, 3, 1, 4));
    assert_eq!((second.uploaded, second.duplicates, second.already_there), (0, 0, 4));
    assert_eq!((*fake.forms.lock().unwrap(), first.report.unwrap().count), (3, 4));
}

#[tokio::test]
async fn a_busy_bucket_a_late_policy_and_one_that_ran_out_are_outlived() {
    let (fake, api) = serve().await;
    (*fake.busy.lock().unwrap(), *fake.expired.lock().unwrap(), *fake.slow.lock().unwrap()) = (2, 1, 2);

    let summary = ingest(&api, &folder(&[("a", b"a".to_vec())])).await;

    assert!(summary.is_complete(), "{summary}");
    assert_eq!((summary.uploaded, *fake.forms.lock().unwrap()), (1, 1));
}

#[tokio::test]
async fn a_policy_that_is_being_renewed_is_waited_for_and_not_renewed_again() {
    let (fake, api) = serve().await;
    *fake.unsigned.lock().unwrap() = 3;
    let summary = ingest(&api, &folder(&[("a", b"a".to_vec())])).await;
    assert!(summary.is_complete(), "{summary}");
    assert_eq!((*fake.renewals.lock().unwrap(), *fake.forms.lock().unwrap()), (0, 1));
}

#[tokio::test]
async fn a_renewal_that_takes_its_time_is_asked_for_once() {
    let (fake, api) = serve().await;
    *fake.expired.lock().unwrap() = 1;
    *fake.slow_renewals.lock().unwrap() = 3;

    let summary = ingest(&api, &folder(&[("a", b"a".to_vec())])).await;

    assert!(summary.is_complete(), "{summary}");
    assert_eq!((*fake.renewals.lock().unwrap(), *fake.forms.lock().unwrap()), (1, 1));
}

#[tokio::test]
async fn a_form_that_fell_silent_is_posted_again() {
    let (fake, api) = serve().await;
    *fake.silent.lock().unwrap() = 2;
    let summary = ingest(&api, &folder(&[("a", b"a".to_vec())])).await;
    assert!(summary.is_complete(), "{summary}");
    assert_eq!(*fake.forms.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_file_that_changes_on_its_way_fails_alone() {
    let (fake, api) = serve().await;
    let folder = folder(&[("a", b"a".to_vec()), ("b", vec![1; 300_000])]);
    let changed = walk::walk(&[folder.path().to_owned()], &[]).files.remove(1);
    let content = content::Ready::hashed(changed.clone()).await.unwrap().content().unwrap_or_else(|_| panic!());
    fs::write(&changed.path, b"shorter").unwrap();
    let policy = crate::client::api::PolicyForm {
        url: format!("{}/bucket/{}", fake.url.lock().unwrap(), Uuid::now_v7()),
        fields: Default::default(),
        expires: 900,
        came: Instant::now(),
    };

    let error = crate::client::form::post(&api.transport, &policy, &content, |_| {}).await.unwrap_err();

    assert!(matches!(error, crate::client::ApiError::Unreadable { .. }), "{error:?}");
    assert!(!error.is_about_everything());
}

#[tokio::test]
async fn a_token_that_does_not_do_ends_the_run_at_once() {
    let (_fake, api) = serve().await;
    let api = Api::new(api.base().clone(), "bad".to_owned());

    let summary = ingest(&api, &folder(&[("a", b"a".to_vec()), ("b", b"b".to_vec())])).await;

    assert!(summary.broken_off.as_ref().is_some_and(|why| why.contains("401")), "{summary}");
    assert!(summary.report.is_none());
}

#[tokio::test]
async fn a_run_that_is_stopped_says_so_and_is_not_complete() {
    let (_fake, api) = serve().await;
    let folder = folder(&[("a", b"a".to_vec())]);
    let stop = CancellationToken::new();
    stop.cancel();
    let options = IngestOptions::of(vec![folder.path().to_owned()], 4);

    let summary = run(api, options, Progress::silent(), stop).await;

    assert!(!summary.is_complete());
    assert_eq!(summary.broken_off.as_deref(), Some("interrupted"));
}

#[tokio::test]
async fn a_walk_that_broke_down_is_not_forgotten_over_what_follows() {
    let (_fake, api) = serve().await;
    let options = IngestOptions::of(Vec::new(), 4);
    let mut summary = Summary { broken_off: Some("the walk broke down".to_owned()), ..Summary::default() };
    let progress = Arc::new(Progress::silent());

    upload_all((api, options), Vec::new(), (&progress, &CancellationToken::new()), &mut summary).await;

    assert_eq!(summary.broken_off.as_deref(), Some("the walk broke down"));
}
