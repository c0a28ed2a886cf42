//! Rows by the million, made by the database itself: set-wise, without foreign keys, and without waiting for the disk.
//!
//! On PostgreSQL that needs a superuser. What refers to nothing is never looked at by what is measured.

use std::time::Duration;

use longshore_jobs::outside::BoxError;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::config::{Config, DatabaseEngine};

/// How many rows one statement makes.
const CHUNK: u64 = 100_000;

/// The numbers `n` from `$1` to `$2`, to begin a statement with.
macro_rules! numbers {
    () => {
        "with recursive numbers (n) as (
            select cast($1 as bigint)
            union all
            select n + 1 from numbers where n < $2)
        "
    };
}
pub(super) use numbers;

/// An id of a number: its decimal digits, which are hexadecimal too. No id of a real row is as small.
macro_rules! id {
    ($number:literal) => {
        concat!(
            "unhex(substr('00000000000000000000000000000000' || ",
            $number,
            ", length(cast(",
            $number,
            " as text)) + 1))"
        )
    };
}
pub(super) use id;

/// A connection to the ledger of a bench, beside those of its server.
pub(super) enum Seeder {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Seeder {
    /// To the ledger of this configuration, whose schema is there.
    pub(super) async fn open(config: &Config) -> Result<Self, BoxError> {
        match &config.database {
            DatabaseEngine::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .foreign_keys(false)
                    .synchronous(SqliteSynchronous::Off)
                    .busy_timeout(Duration::from_secs(60))
                    .pragma("cache_size", "-1000000")
                    .disable_statement_logging();
                Ok(Self::Sqlite(options.connect().await?))
            }
            DatabaseEngine::Postgres(url) => {
                let options: PgConnectOptions = url.reveal().parse()?;
                let mut connection = options.disable_statement_logging().connect().await?;
                connection.execute("set session_replication_role = replica; set synchronous_commit = off").await?;
                Ok(Self::Postgres(connection))
            }
        }
    }

    /// Runs the statement for the numbers from 1 to `rows`, some at a time. `$3` is the org, `$4` a number of the caller's.
    pub(super) async fn make(&mut self, query: &'static str, rows: u64, of: (Uuid, i64)) -> Result<(), BoxError> {
        let mut first = 1;
        while first <= rows {
            let last = rows.min(first + CHUNK - 1);
            let (from, to) = (i64::try_from(first)?, i64::try_from(last)?);
            match self {
                Self::Sqlite(c) => {
                    sqlx::query(query).bind(from).bind(to).bind(of.0).bind(of.1).execute(c).await?;
                }
                Self::Postgres(c) => {
                    sqlx::query(query).bind(from).bind(to).bind(of.0).bind(of.1).execute(c).await?;
                }
            }
            first = last + 1;
        }
        Ok(())
    }

    /// Leaves the tables as they are after a while: on PostgreSQL vacuumed, with statistics.
    pub(super) async fn end(self) -> Result<(), BoxError> {
        match self {
            Self::Sqlite(connection) => connection.close().await?,
            Self::Postgres(mut connection) => {
                connection.execute("vacuum analyze").await?;
                connection.close().await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use longshore_jobs::ledger::Db;

    use super::*;

    #[tokio::test]
    async fn rows_are_made_in_chunks_and_each_has_an_id() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::load(crate::config::Layered::default()).unwrap();
        config.database = DatabaseEngine::Sqlite(folder.path().join("ledger.db"));
        let db = Db::open_sqlite(config.database.file().unwrap()).await.unwrap();
        let mut seeder = Seeder::open(&config).await.unwrap();

        let orgs = concat!(
            numbers!(),
            "insert into orgs (id, name, created_at) select ",
            id!("n"),
            ", 'org ' || n, $4 from numbers where n <> 7 and $3 is not null"
        );
        seeder.make(orgs, CHUNK + 2, (Uuid::nil(), 0)).await.unwrap();
        seeder.end().await.unwrap();

        let found = longshore_jobs::ledger::orgs::list(&db).await.unwrap();
        assert_eq!(found.len() as u64, CHUNK + 1);
        let one = found.iter().find(|org| org.name == "org 100002").unwrap();
        assert_eq!(one.id.to_string(), "00000000-0000-0000-0000-000000100002");
    }
}
