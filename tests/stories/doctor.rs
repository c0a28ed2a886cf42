//! `longshore doctor`: what works is found well, and what was broken on purpose is named with how to mend it.

use std::process::Output;

use serde_json::{Value, json};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::engines::Engines;
use crate::server::{Place, Server};

on_each_engine! {
    a_service_that_works_is_found_well_and_nothing_is_left_behind,
    a_pool_that_is_paused_is_told_of_with_how_to_resume_it,
}

/// What the examination of a running server says.
fn examine(server: &Server, more: &[&str]) -> Examined {
    let beside = ["doctor", "--json", "--public-url", &server.url];
    Examined::of(&server.place().run(&[&beside[..], more].concat()))
}

/// All findings, and how the program ended.
struct Examined {
    checks: Value,
    code: Option<i32>,
}

impl Examined {
    fn of(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let told: Value = serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{text} is no JSON: {}", String::from_utf8_lossy(&output.stderr)));
        assert_eq!(told["ok"], output.status.success(), "{told:#}");
        Self { checks: told["checks"].clone(), code: output.status.code() }
    }

    fn check(&self, name: &str) -> &Value {
        let mut checks = self.checks.as_array().unwrap().iter();
        checks.find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name} in {:#}", self.checks))
    }

    /// The check has this status, and mends it by something like this.
    fn says(&self, name: &str, status: &str, mend: &str) {
        let check = self.check(name);
        assert_eq!(check["status"], status, "{check:#}");
        assert!(check["mend"].as_str().unwrap_or_default().contains(mend), "{check:#}");
    }

    fn failed(&self) -> Vec<&Value> {
        self.checks.as_array().unwrap().iter().filter(|check| check["status"] == "failed").collect()
    }
}

async fn a_service_that_works_is_found_well_and_nothing_is_left_behind(engines: Engines) {
    let server = engines.start().await;
    if engines.are_remote() {
        server.place().cloud().let_pages_in().await;
    }

    let examined = examine(&server, &[]);

    assert_eq!(examined.failed(), Vec::<&Value>::new());
    assert_eq!(examined.code, Some(0));
    for name in ["public url", "ledger schema", "ledger write", "queue", "notices", "round trip"] {
        examined.says(name, "ok", "");
    }
    for name in ["bucket post", "bucket if-match", "bucket ranges", "bucket delete", "cors", "notification"] {
        if engines.are_remote() {
            examined.says(name, "ok", "");
        }
    }
    if engines == Engines::Redis {
        examined.says("redis eviction", "ok", "");
    }
    server.place().staging_is_empty().await;
    let keys = server.place().print(&["key", "list", "--org", "longshore-doctor"]);
    assert!(keys.lines().skip(1).all(|key| key.contains("revoked")), "{keys}");
}

async fn a_pool_that_is_paused_is_told_of_with_how_to_resume_it(engines: Engines) {
    let server = engines.start().await;
    server.place().print(&["pool", "pause", "report"]);

    examine(&server, &[]).says("pools", "warning", "longshore pool resume report");
}

#[tokio::test]
async fn a_bucket_that_tells_nobody_and_lets_no_page_in_is_found_out() {
    if !Engines::Postgres.are_there() {
        return;
    }
    let server = Engines::Postgres.start().await;
    server.place().cloud().tell_nobody().await;

    let examined = examine(&server, &["--notice-within", "500ms"]);

    assert_eq!(examined.code, Some(1));
    examined.says("cors", "failed", "put-bucket-cors");
    examined.says("notification", "failed", "put-bucket-notification-configuration");
    examined.says("notices", "failed", "inbox");
    examined.says("round trip", "ok", "");
}

#[tokio::test]
async fn wrong_credentials_and_a_bucket_and_a_queue_that_are_not_there_are_told_apart() {
    if !Engines::Postgres.are_there() {
        return;
    }
    let server = Engines::Postgres.start().await;
    let examine = |changed: &[(&str, &str)]| {
        let mut command = server.place().command(&["doctor", "--json", "--public-url", &server.url]);
        Examined::of(&command.envs(changed.iter().copied()).output().unwrap())
    };

    examine(&[("AWS_ACCESS_KEY_ID", "AKIDSOMEBODYELSE")]).says("bucket", "failed", "AWS_SECRET_ACCESS_KEY");
    examine(&[("LONGSHORE_BUCKET_URL", "s3://there-is-none")]).says("bucket", "failed", "aws s3 mb s3://there-is-none");
    let queue = server.place().cloud().queue_url.replace("/t-", "/none-");
    examine(&[("LONGSHORE_INBOX_URL", &format!("sqs+{queue}"))]).says("inbox", "failed", "aws sqs list-queues");
    examine(&[("LONGSHORE_DATABASE_URL", "postgres://nobody@127.0.0.1:9/none")]).says(
        "ledger schema",
        "failed",
        "pg_isready",
    );
}

#[tokio::test]
async fn where_nothing_is_yet_a_trip_is_made_and_nothing_is_left() {
    let place = Engines::Local.place(&[]).await;

    let examined = Examined::of(&place.run(&["doctor", "--json"]));

    assert_eq!((examined.code, examined.failed()), (Some(0), vec![]));
    examined.says("round trip", "ok", "");
    examined.says("ledger schema", "skipped", "");
    assert!(!place.data().exists());
}

#[tokio::test]
async fn a_service_that_is_gone_is_missed_although_all_of_it_would_work() {
    let server = Engines::Local.start().await;
    server.create(json!({"filename": "waits.txt"})).await;
    let place = server.kill();

    let examined = Examined::of(&place.run(&["doctor", "--json"]));

    assert_eq!(examined.code, Some(0));
    examined.says("service", "warning", "longshore up");
    examined.says("bucket", "ok", "");
    examined.says("round trip", "ok", "");
    let told = place.print(&["doctor"]);
    assert!(told.contains("It would work, but nobody serves now"), "{told}");
}

#[tokio::test]
async fn what_was_lost_and_what_fails_is_told_before_anybody_asks_for_it() {
    // The server of a doctor's own would look for itself.
    let place = Engines::Local.place(&[("LONGSHORE_SCHEDULE__SWEEP_BUCKET", "never")]).await;
    place.print(&["migrate"]);
    Examined::of(&place.run(&["doctor", "--json"])).says("sweep", "skipped", "");
    change(&place, "insert into sweeps (kind, orphans, bytes, oldest_at, as_of) values ('row', 2, 9000000, 0, 0)")
        .await;
    let failed = "insert into job_failures (subject, kind, attempts, first_at, last_at, error)
        values (x'019307b4c0d87b3e8c6f6d3b8f1c2a01', 'verify_upload', 3, 0, 9000000000000, 'permission denied')";
    change(&place, failed).await;

    let examined = Examined::of(&place.run(&["doctor", "--json"]));

    assert_eq!(examined.code, Some(1));
    examined.says("sweep", "failed", "longshore sweep --list");
    examined.says("retries", "warning", "longshore status");
}

/// Once it took 25 s, and guessed from jobs that had waited for long.
#[tokio::test]
async fn a_fleet_without_workers_is_told_which_pools_have_none() {
    if !Engines::Postgres.are_there() {
        return;
    }
    let place = Engines::Postgres.place(&[]).await;
    place.print(&["migrate"]);
    let mut intake = place.spawn(&["intake"]);
    let url = intake.url.clone();

    let examined = Examined::of(&place.run(&["doctor", "--json", "--public-url", &url]));

    intake.kill();
    examined.says("public url", "ok", "");
    examined.says("workers", "failed", "longshore worker");
    assert!(examined.check("workers")["detail"].as_str().unwrap().contains("issue, arrive, verify, store"));
    examined.says("queue", "skipped", "");
    examined.says("round trip", "skipped", "");
}

#[tokio::test]
async fn a_ledger_that_is_behind_is_told_of_and_not_migrated() {
    let place = Engines::Local.place(&[]).await;
    place.print(&["migrate"]);
    let applied = applied(&place).await;
    change(&place, "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)").await;

    let examined = Examined::of(&place.run(&["doctor", "--json"]));

    assert_eq!(examined.code, Some(1));
    examined.says("ledger schema", "failed", "longshore migrate");
    examined.says("round trip", "skipped", "");
    assert_eq!(self::applied(&place).await, applied - 1);
}

#[tokio::test]
async fn a_wrong_setting_ends_it_before_it_begins() {
    let place = Engines::Local.place(&[]).await;

    let output = place.run(&["doctor", "--bucket-url", "ftp://nowhere"]);

    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--bucket-url"));
}

async fn change(place: &Place, query: &'static str) {
    let options = SqliteConnectOptions::new().filename(place.data().join("longshore.db"));
    sqlx::query(query).execute(&mut options.connect().await.unwrap()).await.unwrap();
}

async fn applied(place: &Place) -> i64 {
    let options = SqliteConnectOptions::new().filename(place.data().join("longshore.db"));
    let query = "select count(*) from _sqlx_migrations";
    sqlx::query_scalar(query).fetch_one(&mut options.connect().await.unwrap()).await.unwrap()
}
