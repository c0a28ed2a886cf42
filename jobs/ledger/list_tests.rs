//! A page of a filtered list is looked up, on both engines: no filter reads an org from end to end.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::members::select_members;
use super::page::{Page, select_count, select_page};
use super::{Connection, batches, files, lines, upload_lists};
use crate::model::target::TargetKind;
use crate::model::{Batch, Digest, Status};
use crate::testkit::World;

crate::on_every_engine! {
    files_are_listed_by_an_index_for_each_filter,
    uploads_are_listed_by_an_index_for_each_filter,
    what_refs_stand_for_is_looked_up_and_the_org_is_not_read,
    what_came_to_nothing_is_looked_up_in_its_batch,
}

const FIRST: Page = Page { ascending: false, after: None, limit: 31, offset: 0 };

async fn files_are_listed_by_an_index_for_each_filter(world: World) {
    fill(&world).await;
    let by = files::Filter::default;
    for (filter, index) in [
        (files::Filter { sha256: Some(Digest::of(b"x")), ..by() }, "files_by_blob"),
        (files::Filter { filename: Some("f7".to_owned()), ..by() }, "files_by_name"),
        (files::Filter { number: Some("A-7".to_owned()), ..by() }, "files_by_target"),
        (files::Filter { target: Some(TargetKind::Order), number: Some("A-7".to_owned()), ..by() }, "files_by_target"),
    ] {
        check(&world, &filter.text(), &[index]).await;
    }
}

async fn uploads_are_listed_by_an_index_for_each_filter(world: World) {
    fill(&world).await;
    let by = upload_lists::Filter::default;
    for (filter, indexes) in [
        (upload_lists::Filter { status: Some(Status::Expired), ..by() }, &["uploads_ended"][..]),
        (upload_lists::Filter { status: Some(Status::Issued), ..by() }, &["uploads_open"]),
        (upload_lists::Filter { batch: Some(Uuid::nil()), ..by() }, &["uploads_by_batch"]),
        (upload_lists::Filter { number: Some("A-7".to_owned()), ..by() }, &["uploads_by_target"]),
        (
            upload_lists::Filter { target: Some(TargetKind::Style), number: Some("A-7".to_owned()), ..by() },
            &["uploads_by_target"],
        ),
        (
            upload_lists::Filter { client_ref: Some("r7".to_owned()), ..by() },
            &["uploads_by_ref", "uploads_by_former_ref"],
        ),
    ] {
        check(&world, &filter.text(), indexes).await;
    }
}

async fn what_refs_stand_for_is_looked_up_and_the_org_is_not_read(world: World) {
    fill(&world).await;
    let text = lines::STANDING.replace("$1", &format!("'{}'", world.org)).replace("$2", r#"'["r7", "r8"]'"#);
    let plan = explain(&world, text).await;
    assert!(plan.contains("uploads_by_ref") && !plan.contains("uploads_by_org"), "{plan}");
    assert!(!plan.contains("Seq Scan on uploads") && !plan.contains("SCAN uploads"), "{plan}");
}

async fn what_came_to_nothing_is_looked_up_in_its_batch(world: World) {
    fill(&world).await;
    let batch = Batch::prefix((world.org, Uuid::nil()), None, (20_000, 1), world.ctx.now());
    batches::insert(&world.ctx.db, batch.clone(), Vec::new(), None).await.unwrap();
    let all = "update uploads set batch_id = $1";
    let put = world.ctx.db.write_one(move |mut tx| {
        Box::pin(
            async move { Ok(sql!(tx.on(), c => sqlx::query(all).bind(batch.id).execute(c).await?.rows_affected())) },
        )
    });
    assert_eq!(put.await.unwrap(), 20_000);
    analyze(&world).await;

    let id = format!("'{}'", batch.id);
    for status in [Status::Rejected, Status::Expired, Status::Cancelled] {
        let values = [&*id, "'00000000-0000-7000-8000-000000000000'", &format!("'{status}'"), "31", "31", "0"];
        let text = select_members(Some(status), Page { ascending: true, ..FIRST });
        let filled = (1..=6).rev().fold(text, |text, n| text.replace(&format!("${n}"), values[n - 1]));
        let plan = explain(&world, filled).await;
        // PostgreSQL takes one for the other where it expects a row or two in either.
        let is_ended =
            ["uploads_ended_in_batch", "Scan using uploads_ended_by_status"].iter().any(|one| plan.contains(one));
        assert!(is_ended && !plan.contains("uploads_by_batch"), "{plan}");
    }
}

async fn check(world: &World, filtered: &str, indexes: &[&str]) {
    for query in [select_page(filtered, FIRST, 7), select_count(filtered, 7)] {
        let plan = plan(world, &query).await;
        let scans = ["Seq Scan on files", "Seq Scan on uploads", "SCAN files", "SCAN uploads"];
        assert!(scans.iter().all(|scan| !plan.contains(scan)), "{query}\n{plan}");
        let is_page = query.starts_with("select *");
        assert!(!is_page || indexes.iter().all(|index| plan.contains(index)), "{indexes:?}: {query}\n{plan}");
    }
}

/// How the engine would answer, with values in place of the parameters.
async fn plan(world: &World, query: &str) -> String {
    let org = format!("'{}'", world.org);
    let digest = format!("'{}'", Digest::of(b"x"));
    let values = [&*org, &digest, "'f7'", "'A-7'", "'order'", "'r7'", "null", "31", "0"];
    let uploads =
        [&*org, "'expired'", "'order'", "'A-7'", "'00000000-0000-7000-8000-000000000000'", "'r7'", "null", "31", "0"];
    let mut values = if query.contains("from uploads") { uploads } else { values };
    if query.starts_with("select count") {
        values[6] = "100001";
    }
    if query.contains("open.status = $2") {
        values[1] = "'issued'";
    }
    if query.contains("target_number = $6") {
        values[5] = "'A-7'";
    }
    let fill = |text: String, n: usize| {
        text.replace(&format!("${n} is null"), "null is null").replace(&format!("${n}"), values[n - 1])
    };
    explain(world, (1..=9).rev().fold(query.to_owned(), fill)).await
}

async fn explain(world: &World, filled: String) -> String {
    match world.ctx.db.reader() {
        Connection::Sqlite(pool) => {
            let explain = AssertSqlSafe(format!("explain query plan {filled}"));
            let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(explain).fetch_all(pool).await.unwrap();
            steps.into_iter().map(|(.., step)| step + "\n").collect()
        }
        Connection::Postgres(lender) => {
            let mut connection = lender.lend().await.unwrap();
            let explain = AssertSqlSafe(format!("explain {filled}"));
            let lines: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut *connection).await.unwrap();
            lines.join("\n")
        }
    }
}

/// An org with so many files that to read them all is no way to answer.
async fn fill(world: &World) {
    let org = world.org;
    let numbers =
        "with recursive numbers (number) as (select 1 union all select number + 1 from numbers where number < 20000)";
    let texts = [
        format!(
            "{numbers} insert into uploads (id, org_id, user_id, status, filename, target_kind, target_number, client_ref,
                object_key, file_id, created_at, updated_at)
            select unhex('00000000000070008000' || (100000000000 + number)), $1, $1, 'done', 'f' || number, 'order',
                'A-' || (number / 10), 'r' || number, 'k' || number, unhex('00000000000070008001' || (100000000000 + number)),
                0, 0
            from numbers"
        ),
        format!(
            "{numbers} insert into blobs (id, org_id, sha256, size, object_key, state, refs, created_at)
            select unhex('00000000000070008002' || (100000000000 + number)), $1, 's' || number, 1, 'b' || number, 'live', 1, 0
            from numbers"
        ),
        format!(
            "{numbers} insert into files (id, org_id, user_id, upload_id, blob_id, filename, size, sha256, target_kind,
                target_number, deduplicated, created_at)
            select unhex('00000000000070008001' || (100000000000 + number)), $1, $1,
                unhex('00000000000070008000' || (100000000000 + number)),
                unhex('00000000000070008002' || (100000000000 + number)), 'f' || number, 1, 's' || number, 'order',
                'A-' || (number / 10), 1 = 0, 0
            from numbers"
        ),
    ];
    for text in texts {
        let text = AssertSqlSafe(text);
        let filled = world.ctx.db.write_one(move |mut tx| {
            Box::pin(
                async move { Ok(sql!(tx.on(), c => sqlx::query(text).bind(org).execute(c).await?.rows_affected())) },
            )
        });
        assert_eq!(filled.await.unwrap(), 20_000);
    }
    analyze(world).await;
}

async fn analyze(world: &World) {
    if let Connection::Postgres(lender) = world.ctx.db.reader() {
        let mut connection = lender.lend().await.unwrap();
        for table in ["analyze uploads", "analyze blobs", "analyze files"] {
            sqlx::query(table).execute(&mut *connection).await.unwrap();
        }
    }
}
