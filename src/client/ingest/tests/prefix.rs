//! Mode `prefix`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_jobs::model::manifest::{MOST_BYTES, MOST_LINES};
use longshore_jobs::model::{Digest, Status};
use tokio_util::sync::CancellationToken;

use super::each::many;
use super::fake::{Fake, serve};
use crate::client::Api;
use crate::client::ingest::walk::Found;
use crate::client::ingest::{IngestOptions, Mode, Pins, Progress, Summary, run, upload_all};

async fn ingest(api: &Api, folder: &tempfile::TempDir) -> Summary {
    let options = IngestOptions { mode: Mode::Prefix, ..IngestOptions::of(vec![folder.path().to_owned()], 4) };
    run(api.clone(), options, Progress::silent(), CancellationToken::new()).await
}

#[tokio::test]
async fn all_files_go_under_one_policy_and_a_second_run_finds_its_batch_again() {
    let (fake, api) = serve().await;
    let folder = many(40);
    fs::create_dir(folder.path().join("sub folder")).unwrap();
    fs::write(folder.path().join("sub folder/ä.txt"), b"deep").unwrap();

    let first = ingest(&api, &folder).await;
    let second = ingest(&api, &folder).await;

    assert!(first.is_complete() && second.is_complete(), "{first}{second}");
    assert_eq!((first.uploaded, second.uploaded, second.already_there), (41, 0, 41));
    assert_eq!((*fake.forms.lock().unwrap(), fake.batches.lock().unwrap().len()), (41, 1));
    assert!(fake.rows.lock().unwrap().values().any(|row| row.filename == "sub folder/ä.txt"));
}

/// As if so many files of an earlier run had never come.
fn forget(fake: &Fake, count: usize) {
    let gone: Vec<_> = fake.rows.lock().unwrap().keys().take(count).copied().collect();
    for id in &gone {
        let row = fake.rows.lock().unwrap().remove(id).unwrap();
        fake.stored.lock().unwrap().remove(&row.sha256);
    }
    fake.forget(&gone);
}

#[tokio::test]
async fn a_run_that_was_broken_off_goes_on_where_it_was() {
    let (fake, api) = serve().await;
    let folder = many(40);
    ingest(&api, &folder).await;
    forget(&fake, 25);

    let summary = ingest(&api, &folder).await;

    assert_eq!((summary.uploaded, summary.already_there), (25, 15), "{summary}");
    assert_eq!((*fake.forms.lock().unwrap(), fake.batches.lock().unwrap().len()), (65, 1));
}

#[tokio::test]
async fn files_whose_notices_are_on_their_way_are_waited_for_however_many_are_done() {
    for strangers in [0, 10] {
        let (fake, api) = serve().await;
        let folder = many(40);
        ingest(&api, &folder).await;
        let batch = *fake.batches.lock().unwrap().keys().next().unwrap();
        forget(&fake, 10);
        fake.add_strangers(batch, strangers);
        *fake.late.lock().unwrap() = 10;

        let summary = ingest(&api, &folder).await;

        assert!(summary.is_complete(), "{summary}");
        assert_eq!((summary.uploaded, summary.already_there), (10, 30), "{summary}");
        // What is done is promised too: without it the batch would look fulfilled.
        assert_eq!(fake.batches.lock().unwrap()[&batch].manifest.len(), 40);
    }
}

#[tokio::test]
async fn a_batch_whose_policy_has_ended_is_given_another() {
    let (fake, api) = serve().await;
    let folder = many(20);
    ingest(&api, &folder).await;
    forget(&fake, 5);
    fake.batches.lock().unwrap().values_mut().for_each(|batch| batch.is_lapsed = true);

    let summary = ingest(&api, &folder).await;

    assert!(summary.is_complete(), "{summary}");
    assert_eq!((summary.uploaded, summary.already_there), (5, 15));
    assert_eq!((*fake.renewals.lock().unwrap(), fake.batches.lock().unwrap().len()), (1, 1));
}

#[tokio::test]
async fn a_batch_that_is_closed_meanwhile_leaves_the_rest_to_another() {
    for closed_by in ["manifest", "policy", "callback"] {
        let (fake, api) = serve().await;
        let folder = many(20);
        ingest(&api, &folder).await;
        forget(&fake, 5);
        fake.batches.lock().unwrap().values_mut().for_each(|batch| {
            (batch.closed_by, batch.is_lapsed) = (closed_by, true);
        });
        // Put below a prefix that is given up before anybody has looked.
        *fake.late.lock().unwrap() = if closed_by == "callback" { 5 } else { 0 };

        let summary = ingest(&api, &folder).await;

        assert!(summary.is_complete(), "{closed_by}: {summary}");
        assert_eq!((summary.uploaded + summary.duplicates, summary.already_there), (5, 15), "{closed_by}");
        assert_eq!(fake.batches.lock().unwrap().len(), 2, "{closed_by}");
    }
}

#[tokio::test]
async fn a_file_that_was_deleted_is_sent_again() {
    let (fake, api) = serve().await;
    let folder = many(20);
    ingest(&api, &folder).await;
    let deleted = fake.rows.lock().unwrap().keys().take(2).copied().collect();
    *fake.deleted.lock().unwrap() = deleted;

    let second = ingest(&api, &folder).await;
    let third = ingest(&api, &folder).await;

    assert_eq!((second.duplicates, second.already_there), (2, 18), "{second}");
    assert_eq!((third.duplicates, third.already_there), (0, 20), "{third}");
    assert_eq!((*fake.forms.lock().unwrap(), fake.batches.lock().unwrap().len()), (22, 2));
}

#[tokio::test]
async fn a_file_that_a_manifest_vouches_for_is_looked_at_before_it_is_called_there() {
    let (fake, api) = serve().await;
    let folder = many(20);
    let pins: String =
        (0..20).map(|n| format!("{}  {n:03}.txt\n", Digest::of(format!("file {n}").as_bytes()).to_hex())).collect();
    let options = || IngestOptions {
        mode: Mode::Prefix,
        pins: Some(Pins::read(pins.as_bytes()).unwrap()),
        ..IngestOptions::of(vec![folder.path().to_owned()], 4)
    };
    let first = run(api.clone(), options(), Progress::silent(), CancellationToken::new()).await;
    fs::write(folder.path().join("003.txt"), b"FILE 3").unwrap();

    let second = run(api.clone(), options(), Progress::silent(), CancellationToken::new()).await;

    assert!(first.is_complete(), "{first}");
    assert_eq!((second.already_there, second.failures.len()), (19, 1), "{second}");
    let failure = &second.failures[0];
    assert!(failure.path == "003.txt" && failure.reason.contains("not those of the manifest"), "{failure:?}");
    assert_eq!(*fake.forms.lock().unwrap(), 20);
}

#[tokio::test]
async fn a_manifest_that_another_has_overtaken_is_sent_once_more() {
    let (fake, api) = serve().await;
    *fake.overtaken.lock().unwrap() = 1;
    let summary = ingest(&api, &many(3)).await;
    assert!(summary.is_complete(), "{summary}");

    *fake.overtaken.lock().unwrap() = 2;
    let summary = ingest(&api, &many(4)).await;
    assert!(summary.broken_off.as_ref().is_some_and(|why| why.contains("409")), "{summary}");
}

#[tokio::test]
async fn more_than_one_batch_takes_is_refused_before_anything_is_read() {
    let (fake, api) = serve().await;
    let found = |name: &str| Found { path: PathBuf::new(), name: name.to_owned(), size: 1 };
    for too_many in [vec![found("x"); MOST_LINES + 1], vec![found(&"x".repeat(700)); MOST_BYTES / 700]] {
        let options = IngestOptions { mode: Mode::Prefix, ..IngestOptions::of(Vec::new(), 4) };
        let (progress, mut summary) = (Arc::new(Progress::silent()), Summary::default());
        let shown = (&progress, &CancellationToken::new());

        upload_all((api.clone(), options), too_many, shown, &mut summary).await;

        let why = summary.broken_off.unwrap_or_default();
        assert!(why.contains("--batch-mode each") && why.contains("several folders"), "{why}");
        // Not one was looked for, let alone hashed.
        assert_eq!(summary.failures.len(), 0);
    }
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_a_batch_has_rejected_or_is_too_late_for_goes_into_another() {
    let (fake, api) = serve().await;
    let folder = many(20);
    ingest(&api, &folder).await;
    fake.rows.lock().unwrap().values_mut().take(3).for_each(|row| row.status = Status::Rejected);

    let second = ingest(&api, &folder).await;
    fake.batches.lock().unwrap().values_mut().for_each(|batch| batch.is_closed = true);
    let third = ingest(&api, &folder).await;

    assert!(second.is_complete() && third.is_complete(), "{second}{third}");
    assert_eq!((second.duplicates, second.already_there, third.already_there), (3, 17, 20));
    assert_eq!(fake.batches.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_unsafe_path_stops_the_run_before_anything_travels() {
    let (fake, api) = serve().await;
    let folder = many(3);
    fs::write(folder.path().join("back\\slash"), b"x").unwrap();
    fs::write(folder.path().join("${filename}"), b"x").unwrap();

    let summary = ingest(&api, &folder).await;

    assert!(summary.broken_off.as_ref().is_some_and(|why| why.contains("--batch-mode each")), "{summary}");
    let told: Vec<_> = summary.failures.iter().map(|failure| failure.path.as_str()).collect();
    assert_eq!(told, ["${filename}", "back\\slash"]);
    assert!(fake.batches.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_policy_that_ran_out_is_renewed_once_for_all() {
    let (fake, api) = serve().await;
    *fake.expired.lock().unwrap() = 4;

    let summary = ingest(&api, &many(30)).await;

    assert!(summary.is_complete(), "{summary}");
    let renewals = *fake.renewals.lock().unwrap();
    assert!((1..=4).contains(&renewals), "{renewals}");
    assert_eq!(summary.uploaded, 30);
}
