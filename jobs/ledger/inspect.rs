//! Looking at a ledger without opening it for work: nothing is migrated, and nothing is left behind.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use super::{Db, LedgerError};
use crate::model::Timestamp;

/// Nobody who wrote a probe that long ago still reads it back.
const LEFT: Duration = Duration::from_secs(3600);

/// Where the schema of a ledger stands beside the one that this program knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The last migration that was applied; `None` when none ever was.
    pub at: Option<i64>,
    /// What this program knows and the ledger lacks.
    pub missing: Vec<i64>,
    /// What the ledger has and this program does not know: a newer release has brought it there.
    pub newer: Vec<i64>,
    /// What was applied in another wording than this program's.
    pub changed: Vec<i64>,
}

/// How a PostgreSQL server is set up, as far as the ledger depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// As it calls itself, for example `15.8`.
    pub version: String,
    /// The same as a number, for example 150008.
    pub version_number: i32,
    /// How many connections it takes from those who are no superusers.
    pub most_connections: i64,
    /// How many there are, ours among them.
    pub connections: i64,
    /// What its clock says.
    pub clock: Timestamp,
    /// Whether what is written is made to reach the disk.
    pub fsync: bool,
    /// What a commit waits for: `off` is nothing.
    pub synchronous_commit: String,
    /// Whether it only follows another server, and cannot be written to.
    pub follows: bool,
}

/// The schema of a SQLite ledger, and how it journals. The file has to be there.
pub async fn sqlite(path: &Path) -> Result<(Schema, String), LedgerError> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).disable_statement_logging();
    let mut connection = options.connect().await?;
    let schema = sqlite_schema(&mut connection).await;
    let mode = sqlx::query_scalar("pragma journal_mode").fetch_one(&mut connection).await;
    connection.close().await?;
    Ok((schema?, mode?))
}

/// The schema of a PostgreSQL ledger, and its server.
pub async fn postgres(url: &str) -> Result<(Schema, Server), LedgerError> {
    let options: PgConnectOptions = url.parse()?;
    let mut connection = options.application_name("longshore doctor").disable_statement_logging().connect().await?;
    let schema = postgres_schema(&mut connection).await;
    let server = server(&mut connection).await;
    connection.close().await?;
    Ok((schema?, server?))
}

/// Writes a row that means nothing, reads it back, and takes it away again. `false` when another came back.
///
/// The row is in the table of pools, under a name that is none; only what is paused is ever read from there. One that was left
/// behind by a look that was broken off goes too.
pub async fn write_and_read(db: &Db) -> Result<bool, LedgerError> {
    let now = Timestamp::system_now();
    let name = format!("{} {}", probe_of(now), Uuid::new_v4().simple());
    write(db, "insert into pools (name, paused_at) values ($1, null)", name.clone()).await?;
    let query = "select name from pools where name = $1";
    let read: Option<String> = sql!(db.reader(), c => sqlx::query_scalar(query).bind(&name).fetch_optional(c).await)?;
    write(db, "delete from pools where name = $1", name.clone()).await?;
    write(db, "delete from pools where name like 'probe %' and name < $1", probe_of(now - LEFT)).await?;
    Ok(read == Some(name))
}

/// Writes a row that means nothing and takes it away again, in one transaction that waits for no disk.
pub async fn touch(db: &Db) -> Result<(), LedgerError> {
    let name = format!("{} {}", probe_of(Timestamp::system_now()), Uuid::new_v4().simple());
    let written = db.write_hint(move |mut tx| {
        Box::pin(async move {
            for query in ["insert into pools (name, paused_at) values ($1, null)", "delete from pools where name = $1"]
            {
                sql!(tx.on(), c => sqlx::query(query).bind(&name).execute(c).await.map(drop))?;
            }
            Ok(())
        })
    });
    written.await
}

/// What the names of probes begin with, in the order of their time.
fn probe_of(at: Timestamp) -> String {
    format!("probe {:016}", at.as_millis())
}

async fn write(db: &Db, query: &'static str, name: String) -> Result<(), LedgerError> {
    let written = db.write_one(move |mut tx| {
        Box::pin(async move {
            sql!(tx.on(), c => sqlx::query(query).bind(name).execute(c).await.map(drop))?;
            Ok(())
        })
    });
    written.await
}

type Applied = Vec<(i64, Vec<u8>)>;

const APPLIED: &str = "select version, checksum from _sqlx_migrations where success order by version";

async fn sqlite_schema(connection: &mut SqliteConnection) -> Result<Schema, LedgerError> {
    let query = "select count(*) from sqlite_master where type = 'table' and name = '_sqlx_migrations'";
    let tables: i64 = sqlx::query_scalar(query).fetch_one(&mut *connection).await?;
    let applied: Applied = if tables == 0 { Vec::new() } else { sqlx::query_as(APPLIED).fetch_all(connection).await? };
    Ok(Schema::of(applied, &sqlx::migrate!("../migrations/sqlite")))
}

async fn postgres_schema(connection: &mut PgConnection) -> Result<Schema, LedgerError> {
    let query = "select to_regclass('_sqlx_migrations') is not null";
    let there: bool = sqlx::query_scalar(query).fetch_one(&mut *connection).await?;
    let applied: Applied = if there { sqlx::query_as(APPLIED).fetch_all(connection).await? } else { Vec::new() };
    Ok(Schema::of(applied, &sqlx::migrate!("../migrations/postgres")))
}

type ServerRow = (String, i32, i64, i64, i64, bool, String, bool);

async fn server(connection: &mut PgConnection) -> Result<Server, LedgerError> {
    let query = "select current_setting('server_version'),
            current_setting('server_version_num')::int,
            current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint,
            (select count(*) from pg_stat_activity where backend_type = 'client backend'),
            (extract(epoch from clock_timestamp()) * 1000)::bigint,
            current_setting('fsync')::bool,
            current_setting('synchronous_commit'),
            pg_is_in_recovery()";
    let row: ServerRow = sqlx::query_as(query).fetch_one(connection).await?;
    let (version, version_number, most_connections, connections, clock, fsync, synchronous_commit, follows) = row;
    let clock = Timestamp::from_millis(clock);
    Ok(Server { version, version_number, most_connections, connections, clock, fsync, synchronous_commit, follows })
}

impl Schema {
    fn of(applied: Applied, known: &Migrator) -> Self {
        let applied: BTreeMap<_, _> = applied.into_iter().collect();
        let missing = known.iter().map(|one| one.version).filter(|version| !applied.contains_key(version)).collect();
        let newer = applied.keys().copied().filter(|&version| !known.version_exists(version)).collect();
        let is_changed = |version: i64, checksum: &[u8]| applied.get(&version).is_some_and(|had| had != checksum);
        let changed =
            known.iter().filter(|one| is_changed(one.version, &one.checksum)).map(|one| one.version).collect();
        Self { at: applied.last_key_value().map(|(version, _)| *version), missing, newer, changed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ledger() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        Db::open_sqlite(&path).await.unwrap().close().await;
        (folder, path)
    }

    async fn change(path: &Path, query: &'static str) {
        let options = SqliteConnectOptions::new().filename(path);
        let mut connection = options.connect().await.unwrap();
        sqlx::query(query).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_schema_at_head_lacks_nothing_and_looking_at_one_makes_none() {
        let (_folder, path) = ledger().await;

        let (schema, mode) = sqlite(&path).await.unwrap();

        assert_eq!((schema.missing, schema.newer, schema.changed), (vec![], vec![], vec![]));
        assert!(schema.at.is_some());
        assert_eq!(mode, "wal");
        let nothing = path.with_file_name("none.db");
        assert!(sqlite(&nothing).await.is_err() && !nothing.exists());
    }

    #[tokio::test]
    async fn migrations_that_are_missing_newer_or_changed_are_told_apart() {
        let (_folder, path) = ledger().await;
        change(&path, "delete from _sqlx_migrations where version = 2").await;
        change(&path, "update _sqlx_migrations set version = 900 where version = 3").await;
        change(&path, "update _sqlx_migrations set checksum = x'00' where version = 4").await;

        let (schema, _) = sqlite(&path).await.unwrap();

        assert_eq!((schema.missing, schema.newer, schema.changed), (vec![2, 3], vec![900], vec![4]));
        assert_eq!(schema.at, Some(900));
    }

    #[tokio::test]
    async fn an_empty_database_lacks_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.db");
        std::fs::write(&path, "").unwrap();

        let (schema, _) = sqlite(&path).await.unwrap();

        assert_eq!((schema.at, schema.missing.first()), (None, Some(&1)));
    }

    #[tokio::test]
    async fn a_probe_is_read_back_and_leaves_no_row() {
        let (_folder, path) = ledger().await;
        let db = Db::open_sqlite(&path).await.unwrap();

        assert!(write_and_read(&db).await.unwrap());
        touch(&db).await.unwrap();

        assert_eq!(pools(&db).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_probe_that_was_left_behind_goes_with_the_next_and_one_under_way_stays() {
        let (_folder, path) = ledger().await;
        let db = Db::open_sqlite(&path).await.unwrap();
        let now = Timestamp::system_now();
        let (old, young) = (format!("{} a", probe_of(now - 2 * LEFT)), format!("{} b", probe_of(now)));
        for name in [&old, &young, &"store".to_owned()] {
            write(&db, "insert into pools (name, paused_at) values ($1, null)", name.clone()).await.unwrap();
        }

        assert!(write_and_read(&db).await.unwrap());

        assert_eq!(pools(&db).await, [young, "store".to_owned()]);
    }

    async fn pools(db: &Db) -> Vec<String> {
        let query = "select name from pools order by name";
        sql!(db.reader(), c => sqlx::query_scalar(query).fetch_all(c).await).unwrap()
    }
}
