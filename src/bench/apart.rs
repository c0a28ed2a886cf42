//! The engines of a configuration with a place of their own on them, so that a bench neither meets what is there nor leaves
//! anything behind: a folder beside the data, a schema in PostgreSQL, a prefix in Redis.

use longshore_jobs::outside::BoxError;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::config::{Config, DatabaseEngine};

/// A configuration for one bench.
pub(super) struct Apart {
    /// With everything in places of its own.
    pub(super) config: Config,
    schema: Option<Schema>,
    _folder: TempDir,
}

/// A schema that was made for the bench.
struct Schema {
    url: String,
    name: String,
}

impl Apart {
    /// Makes the places.
    pub(super) async fn of(config: &Config) -> Result<Self, BoxError> {
        let (folder, name) = (bench_folder(config)?, format!("bench_{}", Uuid::now_v7().simple()));
        let mut own = config.clone().moved_to(folder.path());
        own.redis_prefix = name.clone();
        let schema = match &config.database {
            DatabaseEngine::Sqlite(_) => None,
            DatabaseEngine::Postgres(url) => Some(Schema::make(url.reveal(), name).await?),
        };
        if let Some(schema) = &schema {
            own.database = own.database.in_schema(&schema.name);
        }
        Ok(Self { config: own, schema, _folder: folder })
    }

    /// Removes what a folder's end does not.
    pub(super) async fn end(self) -> Result<(), BoxError> {
        if let Some(schema) = self.schema {
            schema.drop().await?;
        }
        Ok(())
    }
}

impl Schema {
    async fn make(url: &str, name: String) -> Result<Self, BoxError> {
        let schema = Self { url: url.to_owned(), name };
        schema.run(format!("create schema {}", schema.name)).await?;
        Ok(schema)
    }

    async fn drop(self) -> Result<(), BoxError> {
        self.run(format!("drop schema {} cascade", self.name)).await
    }

    /// The name is ours, so the statement holds nothing of anybody else's.
    async fn run(&self, statement: String) -> Result<(), BoxError> {
        let mut connection = PgConnection::connect(&self.url).await?;
        connection.execute(AssertSqlSafe(statement)).await?;
        Ok(connection.close().await?)
    }
}

/// A folder beside the data, so that its disk is the one that is measured. Removed when dropped.
pub(super) fn bench_folder(config: &Config) -> std::io::Result<TempDir> {
    crate::folder::make(&config.data_dir)?;
    tempfile::Builder::new().prefix("bench-").tempdir_in(&config.data_dir)
}
