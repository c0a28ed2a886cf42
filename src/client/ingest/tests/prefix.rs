//! Mode `prefix`.

use std::fs;

use longshore_jobs::model::Status;
use tokio_util::sync::CancellationToken;

use super::each::many;
use super::fake::serve;
use crate::client::Api;
use crate::client::ingest::{IngestOptions, Mode, Progress, Summary, run};

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

#[tokio::test]
async fn a_run_that_was_broken_off_goes_on_where_it_was() {
    let (fake, api) = serve().await;
    let folder = many(40);
    ingest(&api, &folder).await;
    let gone: Vec<_> = fake.rows.lock().unwrap().keys().take(25).copied().collect();
    for id in &gone {
        let row = fake.rows.lock().unwrap().remove(id).unwrap();
        fake.stored.lock().unwrap().remove(&row.sha256);
    }
    fake.forget(&gone);

    let summary = ingest(&api, &folder).await;

    assert_eq!((summary.uploaded, summary.already_there), (25, 15), "{summary}");
    assert_eq!((*fake.forms.lock().unwrap(), fake.batches.lock().unwrap().len()), (65, 1));
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
