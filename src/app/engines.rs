//! What the URLs of a configuration become: ledger, queue, bucket and inbox, opened.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use longshore_jobs::job::Pool;
use longshore_jobs::ledger::{Db, LedgerError};
use longshore_jobs::model::policy::Credentials;
use longshore_jobs::outside::{Bucket, Clock, Queue};
use tokio::sync::mpsc;
use url::Url;

use super::StartError;
use crate::bucket::local::{self, LocalBucket};
use crate::bucket::metered::Metered;
use crate::bucket::s3::{self, S3Bucket};
use crate::config::{BucketEngine, Config, DatabaseEngine, InboxEngine, QueueEngine};
use crate::folder::{self, FolderError};
use crate::http::admin::desk::Engines;
use crate::inbox::sqs::{self, SqsInbox};
use crate::inbox::{Inbox, LocalInbox};
use crate::queue::engine::Engine;
use crate::queue::redis::{self, RedisQueue};
use crate::queue::sql::SqlQueue;

/// How many events of the local bucket may wait for the notice door before posts do.
const EVENTS: usize = 10_000;

/// Opens the ledger of a configuration, without serving from it.
pub(crate) async fn open_ledger(config: &Config) -> Result<Db, StartError> {
    let path = match &config.database {
        DatabaseEngine::Sqlite(path) => path,
        DatabaseEngine::Postgres(url) => {
            let opened = Box::pin(Db::open_postgres(url.reveal(), config.postgres_connections)).await;
            return opened.map_err(|source| unopened(config, source));
        }
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for folder in [&config.data_dir, folder] {
        folder::make(folder).map_err(|source| FolderError::Refused {
            what: "the folder",
            path: folder.to_owned(),
            source,
        })?;
    }
    Box::pin(Db::open_sqlite(path)).await.map_err(|source| unopened(config, source))
}

fn unopened(config: &Config, source: LedgerError) -> StartError {
    StartError::Ledger { ledger: config.database.to_string(), source }
}

/// What operators are told of it all.
pub(super) const fn engines_of(config: &Config) -> Engines {
    Engines {
        ledger: match config.database {
            DatabaseEngine::Sqlite(_) => "sqlite",
            DatabaseEngine::Postgres(_) => "postgres",
        },
        queue: match config.queue {
            QueueEngine::Database => "sql",
            QueueEngine::Redis(_) => "redis",
        },
        bucket: match config.bucket {
            BucketEngine::Folder(_) => "local",
            BucketEngine::S3(_) => "s3",
        },
        inbox: match config.inbox {
            InboxEngine::Local => "local",
            InboxEngine::Sqs(_) => "sqs",
            InboxEngine::Webhook => "webhook",
            InboxEngine::None => "none",
        },
    }
}

/// Opens the queue, without serving from it; `pools` are those that this process works on.
pub(crate) async fn open_queue(
    config: &Config,
    db: &Db,
    clock: &Arc<dyn Clock>,
    pools: &[Pool],
) -> Result<Arc<dyn Engine>, StartError> {
    let (db, clock) = (db.clone(), Arc::clone(clock));
    let unopened = |queue: String| move |source| StartError::Queue { queue, source };
    match &config.queue {
        QueueEngine::Database => {
            let queue = SqlQueue::shared(db, clock).await;
            Ok(Arc::new(queue.map_err(unopened(config.database.to_string()))?))
        }
        QueueEngine::Redis(url) => {
            let prefix = config.redis_prefix.clone();
            let options = redis::Options { url: url.reveal().to_owned(), prefix, pools: pools.to_vec() };
            let queue = Box::pin(RedisQueue::connect(options, db, clock)).await;
            Ok(Arc::new(queue.map_err(unopened(config.queue.to_string()))?))
        }
    }
}

/// Takes over a queue that is kept in a file: the file is ours, so whoever holds a lease is dead.
pub(super) async fn take_over(config: &Config, engine: &Arc<dyn Engine>) -> Result<(), StartError> {
    if config.database.file().is_some() && config.queue == QueueEngine::Database {
        engine.void_leases().await.map_err(StartError::TakeOver)?;
    }
    Ok(())
}

/// The bucket as the program has to treat it beyond what jobs do with it.
pub(crate) enum Store {
    /// Served by this process; its events come out here.
    Local(Arc<LocalBucket>, Option<mpsc::Receiver<String>>),
    /// Elsewhere.
    S3(Arc<S3Bucket>),
}

impl Store {
    /// Opens the bucket; `url` is where this service is reached.
    pub(super) async fn open(config: &Config, url: &str) -> Result<Self, StartError> {
        match &config.bucket {
            BucketEngine::Folder(path) => {
                let (events_in, events) = mpsc::channel(EVENTS);
                let bucket = LocalBucket::open(path, local_options(config, url)?, events_in).await?;
                Ok(Self::Local(Arc::new(bucket), Some(events)))
            }
            BucketEngine::S3(name) => Ok(Self::S3(Arc::new(Box::pin(S3Bucket::open(s3_options(config, name))).await?))),
        }
    }

    /// For jobs.
    pub(crate) fn bucket(&self) -> Arc<dyn Bucket> {
        let bucket: Arc<dyn Bucket> = match self {
            Self::Local(bucket, _) => Arc::clone(bucket) as _,
            Self::S3(bucket) => Arc::clone(bucket) as _,
        };
        Arc::new(Metered::new(bucket))
    }

    /// What is served beside the API.
    pub(super) fn routes(&self) -> Router {
        match self {
            Self::Local(bucket, _) => Router::new().nest("/bucket", local::router(Arc::clone(bucket))),
            Self::S3(_) => Router::new(),
        }
    }

    /// Finishes what is under way.
    pub(crate) async fn close(&self) {
        if let Self::Local(bucket, _) = self {
            bucket.close().await;
        }
    }

    fn take_events(&mut self) -> Option<mpsc::Receiver<String>> {
        match self {
            Self::Local(_, events) => events.take(),
            Self::S3(_) => None,
        }
    }
}

fn local_options(config: &Config, url: &str) -> Result<local::Options, StartError> {
    let public = Url::parse(&format!("{url}/bucket")).map_err(|_| StartError::Url(url.to_owned()))?;
    let credentials = config.local_bucket.as_ref().map(|given| Credentials {
        access_key_id: given.access_key_id.clone(),
        secret_access_key: given.secret_access_key.reveal().to_owned(),
        session_token: None,
    });
    Ok(local::Options { credentials, ..local::Options::new(public) })
}

/// How to reach the bucket of that name.
pub(crate) fn s3_options(config: &Config, name: &str) -> s3::Options {
    let given = &config.s3;
    s3::Options {
        region: given.region.clone(),
        endpoint: given.endpoint.clone(),
        public_endpoint: given.public_endpoint.clone(),
        path_style: given.path_style,
        checksums: if given.all_checksums { s3::Checksums::WhenSupported } else { s3::Checksums::WhenRequired },
        read_budget: given.read_budget,
        put_budget: given.put_budget,
        ..s3::Options::new(name)
    }
}

/// Where notices come from in this process.
pub(super) enum Notices {
    /// They are received from here.
    From(Arc<dyn Inbox>),
    /// They are received from a queue, which is asked whether it answers.
    Queue(Arc<SqsInbox>),
    /// They come here, and nobody wants them.
    Unwanted(Arc<dyn Inbox>),
    /// They come by HTTP, or not at all.
    Elsewhere,
}

impl Notices {
    /// Opens the inbox. Only a process that answers HTTP receives notices: there is one kind of process at the door.
    pub(super) async fn open(config: &Config, store: &mut Store, intake: bool) -> Result<Self, StartError> {
        let local = store.take_events().map(|events| Arc::new(LocalInbox::new(events)) as Arc<dyn Inbox>);
        Ok(match (&config.inbox, local) {
            (InboxEngine::Local, Some(local)) => Self::From(local),
            (_, Some(local)) => Self::Unwanted(local),
            (InboxEngine::Sqs(queue), None) if intake => {
                Self::Queue(Arc::new(Box::pin(SqsInbox::open(sqs_options(config, queue))).await?))
            }
            _ => Self::Elsewhere,
        })
    }
}

/// How to ask that queue.
pub(crate) fn sqs_options(config: &Config, queue: &Url) -> sqs::Options {
    let given = &config.sqs;
    sqs::Options {
        region: given.region.clone(),
        wait: given.wait,
        visibility: given.visibility,
        receivers: given.receivers,
        ..sqs::Options::new(queue.clone())
    }
}

/// Opens the bucket of a configuration for a command that looks and removes, beside the processes that serve it. To be closed.
pub(crate) async fn open_bucket_beside(config: &Config) -> Result<Store, StartError> {
    let BucketEngine::Folder(path) = &config.bucket else { return Store::open(config, "").await };
    let bucket = LocalBucket::open_beside(path, local_options(config, &config.public_url(config.listen))?).await?;
    Ok(Store::Local(Arc::new(bucket), None))
}

/// For `Context`.
pub(crate) fn as_queue(engine: &Arc<dyn Engine>) -> Arc<dyn Queue> {
    Arc::<dyn Engine>::clone(engine)
}
