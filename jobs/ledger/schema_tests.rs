//! The two folders of migrations belong together, and both lead from nothing to head.

use std::time::Duration;

use futures_util::future::join_all;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use super::postgres::Postgres;
use super::{Connection, prefixes, steps, stores};
use crate::testkit::{World, postgres as server};

static SQLITE: Migrator = sqlx::migrate!("../migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("../migrations/postgres");

crate::on_every_engine! {
    an_empty_ledger_is_brought_to_head,
    a_ledger_that_a_newer_release_has_migrated_is_opened,
    the_tables_are_the_same_on_both_engines,
    the_indexes_are_the_same_on_both_engines,
}

/// Several processes that apply a migration which makes an index without locking its table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_made_concurrently_while_others_wait_for_it() {
    let Some(url) = server::schema("an index that is made concurrently").await else { return };
    let migrations = || {
        let migration = |version, sql: &'static str, no_tx| {
            Migration::new(version, "step".into(), MigrationType::Simple, sql.into_sql_str(), no_tx)
        };
        let index = migration(2, "create index concurrently waiting_ids on waiting (id)", true);
        Migrator::with_migrations(vec![migration(1, "create table waiting (id bigint not null)", false), index])
    };

    let opened = join_all((0..4).map(|_| Postgres::open(&url, 3, migrations())));
    let opened = tokio::time::timeout(Duration::from_secs(60), opened).await.expect("none waits for ever");

    for engine in opened {
        engine.unwrap().close().await;
    }
}

mod planned {
    use super::*;

    crate::on_postgres! {
        rows_are_looked_up_by_id_whatever_the_statistics_say,
        what_is_read_from_end_to_end_is_not_compiled,
    }

    async fn what_is_read_from_end_to_end_is_not_compiled(world: World) {
        let query = "explain (analyze) select count(*) from jobs where error = 'none'";
        let plan: Vec<String> = sql!(world.ctx.db.reader(), c => sqlx::query_scalar(query).fetch_all(c).await).unwrap();
        assert!(plan.iter().all(|line| !line.contains("JIT")), "{plan:?}");
    }

    async fn rows_are_looked_up_by_id_whatever_the_statistics_say(world: World) {
        let Connection::Postgres(pool) = world.ctx.db.reader() else { panic!("not PostgreSQL") };
        let mut connection = pool.lend().await.unwrap();
        connection.execute("set plan_cache_mode = force_generic_plan; analyze uploads; analyze blobs").await.unwrap();
        connection.execute(MANY_UPLOADS).await.unwrap();
        connection.execute(MANY_BLOBS).await.unwrap();

        for (number, (query, index)) in PLANNED.into_iter().enumerate() {
            let prepare = format!("prepare planned_{number}(text) as {query}");
            connection.execute(AssertSqlSafe(prepare)).await.unwrap();
            let explain = AssertSqlSafe(format!("explain execute planned_{number}('[]')"));
            let plan: Vec<String> = sqlx::query_scalar(explain).fetch_all(&mut *connection).await.unwrap();
            let plan = plan.join("\n");
            assert!(plan.contains(&format!("Index Scan using {index}")), "{query}\n{plan}");
            assert!(!plan.contains("Seq Scan on"), "{query}\n{plan}");
        }
    }

    const PLANNED: [(&str, &str); 9] = [
        (steps::ISSUE, "uploads_pkey"),
        (steps::ARRIVE, "uploads_pkey"),
        (steps::VERIFY, "uploads_pkey"),
        (steps::FIND, "uploads_pkey"),
        (prefixes::STANDING, "uploads_object_key_key"),
        (stores::DONE, "uploads_pkey"),
        (stores::DEDUPLICATED, "uploads_pkey"),
        (stores::PUT_BACK, "uploads_pkey"),
        (stores::JOIN, "blobs_org_id_sha256_key"),
    ];

    /// So many that an open state is a good part of the table.
    const MANY_UPLOADS: &str = "insert into uploads
        (id, org_id, user_id, status, filename, object_key, file_id, created_at, updated_at)
        select gen_random_uuid(), orgs.id, orgs.id, 'arrived', 'f', 'k' || n, gen_random_uuid(), n, n
        from orgs, generate_series(1, 20000) n";
    const MANY_BLOBS: &str = "insert into blobs (id, org_id, sha256, size, object_key, state, refs, created_at)
        select gen_random_uuid(), orgs.id, 's' || n, 1, 'k' || n, 'live', 1, n
        from orgs, generate_series(1, 20000) n";
}

fn numbers_and_names(migrations: &Migrator) -> Vec<(i64, &str)> {
    migrations.iter().map(|migration| (migration.version, &*migration.description)).collect()
}

#[test]
fn migrations_have_the_same_numbers_and_names_on_both_engines() {
    assert_eq!(numbers_and_names(&SQLITE), numbers_and_names(&POSTGRES));
    assert!(SQLITE.iter().count() > 0);
}

async fn an_empty_ledger_is_brought_to_head(world: World) {
    let query = "select version from _sqlx_migrations where success order by version";
    let applied: Vec<i64> = sql!(world.ctx.db.reader(), c => sqlx::query_scalar(query).fetch_all(c).await).unwrap();

    let known: Vec<i64> = numbers_and_names(&SQLITE).into_iter().map(|(number, _)| number).collect();
    assert_eq!(applied, known);
}

async fn a_ledger_that_a_newer_release_has_migrated_is_opened(world: World) {
    let newer = world.ctx.db.write_one(|mut tx| {
        let query =
            "insert into _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
            select 9999, 'of a newer release', installed_on, success, checksum, execution_time
            from _sqlx_migrations
            where version = 1";
        Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).execute(c).await?.rows_affected())) })
    });
    assert_eq!(newer.await.unwrap(), 1);

    world.beside().await.ping().await.unwrap();
}

async fn the_tables_are_the_same_on_both_engines(world: World) {
    let query = world.ctx.db.reader().text(
        "select lower(m.name || '.' || c.name) from sqlite_schema m, pragma_table_info(m.name) c where m.type = 'table'",
        "select table_name || '.' || column_name from information_schema.columns where table_schema = current_schema()",
    );
    let columns: Vec<String> = sql!(world.ctx.db.reader(), c => sqlx::query_scalar(query).fetch_all(c).await).unwrap();
    let mut columns: Vec<_> = columns.into_iter().filter(|column| !column.starts_with("_sqlx")).collect();
    columns.sort();

    assert_eq!(columns, COLUMNS.split_whitespace().collect::<Vec<_>>());
}

/// Every column that there is.
const COLUMNS: &str = "
    api_keys.created_at api_keys.expires_at api_keys.key api_keys.name api_keys.org_id api_keys.revoked_at
    api_keys.scopes api_keys.secret_hash api_keys.user_id
    batch_counts.batch_id batch_counts.bytes batch_counts.shard batch_counts.status batch_counts.uploads
    batch_known.batch_id batch_known.upload_id
    batch_lines.batch_id batch_lines.lines batch_lines.position
    batches.admitted batches.closed_at batches.created_at batches.id batches.known batches.lines batches.listed_since
    batches.listed_to batches.manifest batches.manifest_lines batches.matched batches.max_file_size batches.max_files batches.mode
    batches.next_poll_at batches.org_id batches.policy batches.policy_expires_at batches.resume_at batches.resumes
    batches.target_kind batches.target_number batches.traceparent batches.updated_at batches.user_id
    blobs.created_at blobs.id blobs.object_key blobs.org_id blobs.refs blobs.sha256 blobs.size blobs.state
    blobs.unreferenced_at
    dead_letters.attempts dead_letters.crashes dead_letters.died_at dead_letters.error dead_letters.id
    dead_letters.kind dead_letters.lane dead_letters.org_id dead_letters.payload dead_letters.pool dead_letters.reason
    dead_letters.subject
    files.blob_id files.content_type files.created_at files.deduplicated files.filename files.id files.org_id
    files.sha256 files.size files.target_kind files.target_number files.upload_id files.user_id
    idempotency_keys.body_sha256 idempotency_keys.created_at idempotency_keys.key idempotency_keys.made
    idempotency_keys.org_id idempotency_keys.route
    job_failures.attempts job_failures.error job_failures.first_at job_failures.kind job_failures.last_at
    job_failures.subject
    jobs.again_at jobs.again_lane jobs.attempts jobs.crashes jobs.created_at jobs.error jobs.id jobs.kind jobs.lane
    jobs.lease_until jobs.losses jobs.payload jobs.pool jobs.run_at jobs.state jobs.subject jobs.token jobs.worker
    manifest_lines.batch_id manifest_lines.generation manifest_lines.path manifest_lines.sha256
    org_reports.as_of org_reports.bytes org_reports.files org_reports.mends org_reports.org_id
    org_reports.unique_bytes org_reports.unique_files
    orgs.created_at orgs.id orgs.name
    pools.name pools.paused_at
    report_deltas.bytes report_deltas.created_at report_deltas.files report_deltas.id report_deltas.org_id
    report_deltas.unique_bytes report_deltas.unique_files
    schedules.last_tick schedules.name
    sweep_findings.first_seen_at sweep_findings.kind sweep_findings.object_key sweep_findings.size sweep_findings.stored_at
    sweep_places.bytes sweep_places.oldest_at sweep_places.orphans sweep_places.prefix sweep_places.reached
    sweep_places.reached_at
    sweeps.as_of sweeps.bytes sweeps.kind sweeps.oldest_at sweeps.orphans
    uploads.arrived_at uploads.arrived_size uploads.arrived_via uploads.batch_id uploads.changes uploads.client_ref
    uploads.content_type uploads.created_at uploads.deduplicated uploads.etag uploads.file_deleted_at uploads.file_id
    uploads.filename uploads.id uploads.issued_at uploads.landed_at uploads.metadata uploads.next_poll_at
    uploads.object_key uploads.org_id uploads.policy uploads.policy_expires_at uploads.reason uploads.resume_at
    uploads.resumes uploads.sha256 uploads.size uploads.status uploads.stored_at uploads.target_kind
    uploads.target_number uploads.traceparent uploads.updated_at uploads.user_id uploads.verified_at
    uploads.verified_sha256
    workers.name workers.pools workers.seen_at workers.started_at workers.version
";

async fn the_indexes_are_the_same_on_both_engines(world: World) {
    // Those of constraints have names of the engine's own.
    let query = world.ctx.db.reader().text(
        "select tbl_name || '.' || name || case when sql like 'create unique%' then '!' else '' end
        from sqlite_schema
        where type = 'index' and sql is not null",
        "select tablename || '.' || indexname || case when indexdef like 'CREATE UNIQUE%' then '!' else '' end
        from pg_indexes
        where schemaname = current_schema() and tablename not like '\\_sqlx%' and indexname not in (
            select conname from pg_constraint join pg_namespace n on n.oid = connamespace where nspname = current_schema())",
    );
    let mut indexes: Vec<String> =
        sql!(world.ctx.db.reader(), c => sqlx::query_scalar(query).fetch_all(c).await).unwrap();
    indexes.sort();

    assert_eq!(indexes, INDEXES.split_whitespace().collect::<Vec<_>>());
}

/// Every index that is not of a constraint; `!` is unique.
const INDEXES: &str = "
    api_keys.api_keys_by_name api_keys.api_keys_by_org
    batches.batches_by_org batches.batches_open batches.batches_to_close batches.batches_to_poll batches.batches_to_resume
    blobs.blobs_to_collect blobs.blobs_unreferenced
    dead_letters.dead_letters_by_kind dead_letters.dead_letters_by_org dead_letters.dead_letters_by_subject
    files.files_by_blob files.files_by_name files.files_by_org files.files_by_target
    idempotency_keys.idempotency_keys_by_age
    job_failures.job_failures_by_age
    jobs.jobs_leased jobs.jobs_waiting
    report_deltas.report_deltas_by_org
    uploads.uploads_by_batch uploads.uploads_by_former_ref uploads.uploads_by_org uploads.uploads_by_ref!
    uploads.uploads_by_target uploads.uploads_ended uploads.uploads_ended_by_claim
    uploads.uploads_ended_by_digest uploads.uploads_ended_by_name uploads.uploads_ended_in_batch uploads.uploads_open
    uploads.uploads_to_expire uploads.uploads_to_poll uploads.uploads_to_resume
";
