//! How an engine would answer a query of very many rows, for tests that no query reads them all.

use sqlx::AssertSqlSafe;

use super::Connection;
use crate::testkit::World;

/// Runs these texts, which insert 20,000 rows each from `numbers (number)`.
pub(super) async fn fill(world: &World, texts: &[&str]) {
    for text in texts {
        let (head, tail) = text.split_once("select").expect("rows come from a select");
        let numbers = "with recursive numbers (number) as (
            select 1 union all select number + 1 from numbers where number < 20000)";
        let text = AssertSqlSafe(format!("{numbers} {head} select {tail}"));
        let org = world.org;
        let binds = tail.contains("$1");
        let filled = world.ctx.db.write_one(move |mut tx| {
            Box::pin(async move {
                Ok(sql!(tx.on(), c => {
                    let query = sqlx::query(text);
                    if binds { query.bind(org) } else { query }.execute(c).await?.rows_affected()
                }))
            })
        });
        assert_eq!(filled.await.unwrap(), 20_000);
    }
    analyze(world).await;
}

/// As the server does by itself sooner or later.
async fn analyze(world: &World) {
    if let Connection::Postgres(lender) = world.ctx.db.reader() {
        let mut connection = lender.lend().await.unwrap();
        sqlx::query("analyze").execute(&mut *connection).await.unwrap();
    }
}

/// The plan, with these values in place of `$1`, `$2` and so on.
pub(super) async fn plan(world: &World, query: &str, values: &[&str]) -> String {
    let put = |text: String, n: usize| text.replace(&format!("${n}"), values[n - 1]);
    let filled = (1..=values.len()).rev().fold(query.to_owned(), put);
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

/// What the plan walks through from end to end, by table or index, but for what may be: names of tables as PostgreSQL tells
/// them, and as SQLite does, which tells the alias where there is one.
pub(super) fn walks<'p>(plan: &'p str, but: &[&str]) -> Vec<&'p str> {
    let named = |before: &str| -> Vec<&'p str> {
        let rest = plan.lines().filter_map(|line| line.split_once(before)).map(|(_, rest)| rest);
        rest.filter_map(|rest| rest.split_whitespace().next()).collect()
    };
    // What was put together on the way is no table.
    let made = [named("CO-ROUTINE "), named("MATERIALIZE "), vec!["CONSTANT", "json_each"]].concat();
    let walked = [named("SCAN "), named("Seq Scan on ")].concat();
    walked.into_iter().filter(|name| !made.contains(name) && !but.contains(name) && !name.starts_with('(')).collect()
}

#[test]
fn a_walk_is_seen_by_whichever_name_and_index() {
    for walk in
        ["SCAN uploads", "SCAN uploads USING INDEX uploads_ended", "  ->  Seq Scan on uploads u  (cost=0.00..1.00)"]
    {
        assert_eq!(walks(walk, &["orgs", "o"]), ["uploads"], "{walk}");
    }
    assert_eq!(walks("SCAN o\nSCAN u USING COVERING INDEX uploads_open", &["orgs", "o"]), ["u"]);
    let steps = "SEARCH u USING INDEX x (org_id=?)\nCO-ROUTINE c\nSCAN c\nSCAN CONSTANT ROW\nSCAN (subquery-2)\n  ->  Index Scan using x on uploads";
    assert!(walks(steps, &[]).is_empty());
}

/// Uploads of the world's org: done, but for one of a hundred that has come to nothing, and one of a hundred that is open.
pub(super) const UPLOADS: &str = "insert into uploads (id, org_id, user_id, status, filename, target_kind, target_number,
        client_ref, object_key, file_id, created_at, updated_at)
    select unhex('00000000000070008000' || (100000000000 + number)), $1, $1,
        case number % 100 when 0 then 'expired' when 1 then 'issued' else 'done' end, 'f' || number, 'order',
        'A-' || (number / 10), 'r' || number, 'k' || number, unhex('00000000000070008001' || (100000000000 + number)), 0, 0
    from numbers";

/// Blobs of the world's org.
pub(super) const BLOBS: &str = "insert into blobs (id, org_id, sha256, size, object_key, state, refs, created_at)
    select unhex('00000000000070008002' || (100000000000 + number)), $1, 's' || number, 1, 'b' || number, 'live', 1, 0
    from numbers";

/// The files of those uploads and blobs.
pub(super) const FILES: &str = "insert into files (id, org_id, user_id, upload_id, blob_id, filename, size, sha256,
        target_kind, target_number, deduplicated, created_at)
    select unhex('00000000000070008001' || (100000000000 + number)), $1, $1,
        unhex('00000000000070008000' || (100000000000 + number)), unhex('00000000000070008002' || (100000000000 + number)),
        'f' || number, 1, 's' || number, 'order', 'A-' || (number / 10), 1 = 0, 0
    from numbers";

/// Changes of the world's org that are not folded.
pub(super) const DELTAS: &str =
    "insert into report_deltas (org_id, files, bytes, unique_files, unique_bytes, created_at)
    select $1, 1, 1, 1, 1, 0 from numbers";

/// Other orgs.
pub(super) const ORGS: &str = "insert into orgs (id, name, created_at)
    select unhex('00000000000070008003' || (100000000000 + number)), 'o' || number, 0 from numbers";
