//! The engines of a configuration with a place of their own on them, so that a bench neither meets what is there nor leaves
//! anything behind: a folder beside the data, a schema in PostgreSQL, a prefix in Redis.
//!
//! S3 and SQS have no such places: to the empty ledger of a bench every object in a real bucket would be left over, and every
//! message in a real queue its own to take. So the bucket is always a folder and the inbox the one beside it.

use longshore_jobs::outside::BoxError;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::cli::remark;
use crate::config::{BucketEngine, Config, DatabaseEngine, InboxEngine};

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
        let mut own = off_the_cloud(config).moved_to(folder.path());
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

/// The configuration with a bucket and an inbox that are a bench's own.
fn off_the_cloud(config: &Config) -> Config {
    let mut own = config.clone();
    if let BucketEngine::S3(name) = &config.bucket {
        remark(format_args!(
            "The bench does not touch s3://{name} and its notices: its own server has a local bucket. To measure a service on \
             S3, run `longshore bench pipeline --server URL`."
        ));
        own.bucket = BucketEngine::Folder("bucket".into());
    }
    own.inbox = InboxEngine::Local;
    own.inbox_secret = None;
    own
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

/// A folder beside the data, so that its disk is the one that is measured; a temporary one where no data are kept on this
/// machine. Removed when dropped.
pub(super) fn bench_folder(config: &Config) -> std::io::Result<TempDir> {
    if !config.is_local() {
        return tempfile::Builder::new().prefix("longshore-bench-").tempdir();
    }
    crate::folder::make(&config.data_dir)?;
    tempfile::Builder::new().prefix("bench-").tempdir_in(&config.data_dir)
}

#[cfg(test)]
mod tests {
    use crate::config::Layered;

    use super::*;

    #[tokio::test]
    async fn a_bench_in_a_production_environment_touches_neither_its_bucket_nor_its_queue() {
        let environment = [
            ("LONGSHORE_BUCKET_URL", "s3://acme-uploads"),
            ("LONGSHORE_INBOX_URL", "sqs+https://sqs.eu-west-1.amazonaws.com/111122223333/notices"),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::load(Layered { environment, ..Layered::default() }).unwrap();
        config.data_dir = folder.path().to_owned();

        let place = Apart::of(&config).await.unwrap();

        assert!(place.config.bucket.folder().unwrap().starts_with(folder.path()), "{:?}", place.config.bucket);
        assert_eq!(place.config.inbox, InboxEngine::Local);
        assert!(place.config.database.file().unwrap().starts_with(folder.path()));
        place.end().await.unwrap();
    }
}
