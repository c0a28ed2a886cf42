//! Mode `each`, with enough files for batches.

use std::fs;

use super::fake::{Fake, serve};
use super::{folder, ingest};
use crate::client::Api;
use crate::client::ingest::{IngestOptions, Pins, Progress, Summary, run};
use longshore_jobs::model::Digest;
use tokio_util::sync::CancellationToken;

/// So many files, each with bytes of its own.
pub(super) fn many(count: usize) -> tempfile::TempDir {
    let files: Vec<_> = (0..count).map(|n| (format!("{n:03}.txt"), format!("file {n}").into_bytes())).collect();
    folder(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>())
}

fn asked(fake: &Fake, what: &str) -> usize {
    fake.asked.lock().unwrap().iter().filter(|asked| asked.starts_with(what)).count()
}

async fn with_pins(api: &Api, folder: &tempfile::TempDir, lines: &[(&str, &[u8])]) -> Summary {
    let pins: String = lines.iter().map(|(name, bytes)| format!("{}  {name}\n", Digest::of(bytes).to_hex())).collect();
    let pins = Some(Pins::read(pins.as_bytes()).unwrap());
    let options = IngestOptions { pins, ..IngestOptions::of(vec![folder.path().to_owned()], 4) };
    run(api.clone(), options, Progress::silent(), CancellationToken::new()).await
}

#[tokio::test]
async fn many_files_are_asked_for_and_waited_for_in_batches() {
    let (fake, api) = serve().await;
    let folder = many(300);

    let first = ingest(&api, &folder).await;
    let second = ingest(&api, &folder).await;

    assert!(first.is_complete() && second.is_complete(), "{first}{second}");
    assert_eq!((first.uploaded, second.uploaded, second.already_there), (300, 0, 300));
    assert_eq!((*fake.forms.lock().unwrap(), fake.rows.lock().unwrap().len()), (300, 300));
    assert_eq!(asked(&fake, "POST /api/batches"), fake.batches.lock().unwrap().len());
    // Neither asked for nor waited for one by one.
    assert_eq!((asked(&fake, "POST /api/uploads"), asked(&fake, "GET /api/uploads/")), (0, 0));
}

#[tokio::test]
async fn a_few_files_make_no_batch() {
    let (fake, api) = serve().await;
    assert!(ingest(&api, &many(5)).await.is_complete());
    assert_eq!((asked(&fake, "POST /api/batches"), asked(&fake, "POST /api/uploads")), (0, 5));
}

#[tokio::test]
async fn a_file_that_the_manifest_names_and_the_folder_lacks_is_told_and_the_others_go_in() {
    let (fake, api) = serve().await;
    let folder = many(20);
    let lines: Vec<_> = (0..20).map(|n| (format!("{n:03}.txt"), format!("file {n}"))).collect();
    let lines: Vec<_> = lines.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    fs::remove_file(folder.path().join("007.txt")).unwrap();

    let summary = with_pins(&api, &folder, &lines).await;

    assert_eq!((summary.uploaded, summary.failures.len()), (19, 1), "{summary}");
    assert_eq!(summary.failures[0].path, "007.txt");
    assert_eq!(fake.rows.lock().unwrap().len(), 19);
}

#[tokio::test]
async fn a_hash_that_the_manifest_has_wrong_is_told_by_name() {
    let (fake, api) = serve().await;
    let folder = many(20);
    let texts: Vec<_> =
        (0..20).map(|n| (format!("{n:03}.txt"), format!("file {}", if n == 3 { 99 } else { n }))).collect();
    let lines: Vec<_> = texts.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();

    let summary = with_pins(&api, &folder, &lines).await;

    assert_eq!((summary.uploaded, summary.failures.len()), (19, 1), "{summary}");
    let failure = &summary.failures[0];
    assert!(failure.path == "003.txt" && failure.reason.contains("digest_mismatch"), "{failure:?}");
    assert_eq!(*fake.forms.lock().unwrap(), 20);
}

#[tokio::test]
async fn a_line_that_the_server_refuses_fails_alone() {
    let (fake, api) = serve().await;
    let folder = many(20);
    fs::write(folder.path().join("refused"), b"x").unwrap();

    let summary = ingest(&api, &folder).await;

    // The fake takes it when it is asked for by itself.
    assert!(summary.is_complete(), "{summary}");
    assert_eq!((summary.uploaded, asked(&fake, "POST /api/uploads")), (21, 21));
}

#[tokio::test]
async fn uploads_that_a_run_has_left_open_are_gone_on_with() {
    let (fake, api) = serve().await;
    let folder = many(40);
    ingest(&api, &folder).await;
    let mut rows = std::mem::take(&mut *fake.rows.lock().unwrap());
    for row in rows.values_mut().take(15) {
        fake.stored.lock().unwrap().remove(&row.sha256);
        (row.status, row.deduplicated) = (longshore_jobs::model::Status::Issued, None);
    }
    *fake.rows.lock().unwrap() = rows;

    let summary = ingest(&api, &folder).await;

    assert!(summary.is_complete(), "{summary}");
    assert_eq!((summary.uploaded, summary.already_there, fake.rows.lock().unwrap().len()), (15, 25, 40));
}

#[tokio::test]
async fn a_busy_bucket_and_a_policy_that_ran_out_are_outlived_in_a_batch() {
    let (fake, api) = serve().await;
    (*fake.busy.lock().unwrap(), *fake.expired.lock().unwrap()) = (3, 2);

    let summary = ingest(&api, &many(30)).await;

    assert!(summary.is_complete(), "{summary}");
    assert_eq!((summary.uploaded, *fake.renewals.lock().unwrap(), *fake.forms.lock().unwrap()), (30, 2, 30));
}

#[tokio::test]
async fn a_file_whose_bytes_the_org_has_is_looked_at_before_it_is_called_there() {
    for count in [5, 20] {
        let (fake, api) = serve().await;
        let folder = many(count);
        ingest(&api, &folder).await;
        fs::write(folder.path().join("003.txt"), b"FILE 3").unwrap();
        fs::write(folder.path().join("copy.txt"), b"file 1").unwrap();
        fs::write(folder.path().join("no copy.txt"), b"FILE 2").unwrap();
        let texts: Vec<_> = (0..count).map(|n| (format!("{n:03}.txt"), format!("file {n}"))).collect();
        let mut lines: Vec<_> = texts.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
        lines.extend([("copy.txt", &b"file 1"[..]), ("no copy.txt", b"file 2")]);

        let summary = with_pins(&api, &folder, &lines).await;

        let done = u64::try_from(count).unwrap() - 1;
        assert_eq!((summary.already_there, summary.duplicates, summary.uploaded), (done, 1, 0), "{summary}");
        let mut failed: Vec<_> = summary.failures.iter().map(|failure| failure.path.as_str()).collect();
        failed.sort_unstable();
        assert_eq!(failed, ["003.txt", "no copy.txt"]);
        assert!(summary.failures.iter().all(|failure| failure.reason.contains("not those of the manifest")));
        assert_eq!(*fake.forms.lock().unwrap(), u64::try_from(count).unwrap());
    }
}

#[tokio::test]
async fn an_upload_whose_policy_led_to_a_former_bucket_is_given_a_fresh_one() {
    for count in [5, 40] {
        let (fake, api) = serve().await;
        let folder = many(count);
        ingest(&api, &folder).await;
        for (id, row) in fake.rows.lock().unwrap().iter_mut().take(4) {
            fake.stored.lock().unwrap().remove(&row.sha256);
            fake.astray.lock().unwrap().insert(*id);
            (row.status, row.deduplicated) = (longshore_jobs::model::Status::Issued, None);
        }

        let summary = ingest(&api, &folder).await;

        assert!(summary.is_complete(), "{summary}");
        assert_eq!((summary.uploaded, fake.rows.lock().unwrap().len()), (4, count));
        assert!(fake.astray.lock().unwrap().is_empty());
    }
}
