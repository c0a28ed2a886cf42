//! A whole pipeline in one process: a ledger of its own, bucket and queue in memory, a clock cranked by hand.

use std::sync::Arc;

use tempfile::TempDir;
use uuid::Uuid;

use super::{HandClock, MemoryBucket, MemoryQueue, postgres};
use crate::issue_policy::IssuePolicy;
use crate::job::{Context, Limits, Verdict};
use crate::ledger::{Db, files, orgs, reports, uploads};
use crate::model::report::Delta;
use crate::model::{Digest, Timestamp, Upload, keys};
use crate::outside::{Bucket, Queue};

/// How many a world needs at most at once.
const CONNECTIONS: u32 = 6;

/// Everything a job needs, and the handles by which a test turns it.
pub struct World {
    /// What jobs get.
    pub ctx: Context,
    /// The bucket behind the context.
    pub bucket: Arc<MemoryBucket>,
    /// The queue behind the context.
    pub queue: Arc<MemoryQueue>,
    /// The clock behind the context.
    pub clock: Arc<HandClock>,
    /// An org.
    pub org: Uuid,
    ledger: Ledger,
}

/// Where the ledger of a world is.
enum Ledger {
    Sqlite(TempDir),
    /// By the URL of its schema.
    Postgres(String),
}

impl Ledger {
    async fn open(&self) -> Db {
        let opened = match self {
            Self::Sqlite(folder) => Db::open_sqlite(&folder.path().join("ledger.db")).await,
            Self::Postgres(url) => Db::open_postgres(url, CONNECTIONS).await,
        };
        opened.expect("a ledger")
    }
}

impl World {
    /// A world with one org and nothing in it, on SQLite.
    pub async fn new() -> Self {
        Self::over(Ledger::Sqlite(TempDir::new().expect("a temporary folder"))).await
    }

    /// A world with one org and nothing in it, on PostgreSQL; `None` when there is no server to test `what` with.
    pub async fn on_postgres(what: &str) -> Option<Self> {
        Some(Self::over(Ledger::Postgres(postgres::schema(what).await?)).await)
    }

    /// Another empty one on the same engine.
    pub async fn another(&self) -> Self {
        match self.ledger {
            Ledger::Sqlite(_) => Self::new().await,
            Ledger::Postgres(_) => Self::on_postgres("another world").await.expect("a server, as for this one"),
        }
    }

    /// The ledger as another process opens it.
    pub async fn beside(&self) -> Db {
        self.ledger.open().await
    }

    /// As [`World::beside`], where an engine lets other processes in; else the ledger of this one.
    pub async fn beside_if_shared(&self) -> Db {
        match self.ledger {
            Ledger::Sqlite(_) => self.ctx.db.clone(),
            Ledger::Postgres(_) => self.beside().await,
        }
    }

    async fn over(ledger: Ledger) -> Self {
        let db = ledger.open().await;
        let clock = Arc::new(HandClock::at(Timestamp::from_millis(1_700_000_000_000)));
        let (bucket, queue) = (
            Arc::new(MemoryBucket::new(Arc::clone(&clock) as Arc<dyn crate::outside::Clock>)),
            Arc::new(MemoryQueue::default()),
        );
        let org = orgs::create(&db, "acme".to_owned(), Timestamp::from_millis(0)).await.expect("an org").id;
        let ctx = Context {
            db,
            bucket: Arc::clone(&bucket) as Arc<dyn Bucket>,
            queue: Arc::clone(&queue) as Arc<dyn Queue>,
            clock: Arc::clone(&clock) as Arc<dyn crate::outside::Clock>,
            limits: Limits::default(),
        };
        Self { ctx, bucket, queue, clock, org, ledger }
    }

    /// A row as a door would write it, before it is inserted.
    #[must_use]
    pub fn requested(&self) -> Upload {
        let now = self.ctx.clock.now();
        Upload {
            policy_expires_at: Some(now + self.ctx.limits.policy_life),
            resume_at: Some(now + self.ctx.limits.resume_after),
            ..Upload::requested(self.org, Uuid::nil(), "MyPicture.jpg".to_owned(), now)
        }
    }

    /// Inserts the row and has its policy signed.
    pub async fn issue(&self, row: Upload) -> Upload {
        let id = row.id;
        uploads::insert(&self.ctx.db, vec![row]).await.expect("a new row");
        self.ctx.push(&IssuePolicy { upload: id }).await.expect("a queue");
        self.drain().await;
        self.upload(id).await
    }

    /// An issued upload that declares nothing.
    pub async fn issued(&self) -> Upload {
        self.issue(self.requested()).await
    }

    /// An upload of these bytes, all the way through.
    pub async fn uploaded(&self, bytes: &[u8]) -> Upload {
        let upload = self.issued().await;
        self.bucket.land(&upload.object_key, bytes);
        self.notice(&upload).await;
        self.drain().await;
        self.upload(upload.id).await
    }

    /// The bucket's notice for the upload, handed to the queue.
    pub async fn notice(&self, upload: &Upload) {
        let via = crate::model::upload::ArrivedVia::Notice;
        self.ctx.push(&crate::record_arrival::RecordArrival { upload: upload.id, via }).await.expect("a queue");
    }

    /// Runs whatever is due.
    pub async fn drain(&self) -> Vec<(&'static str, Verdict)> {
        self.queue.drain(&self.ctx).await
    }

    /// The row as it is now.
    pub async fn upload(&self, id: Uuid) -> Upload {
        uploads::find(&self.ctx.db, id).await.expect("a ledger").expect("the upload is there")
    }

    /// The org's blobs in the bucket.
    #[must_use]
    pub fn blob_keys(&self) -> Vec<String> {
        self.bucket.keys().into_iter().filter(|key| key.starts_with(keys::BLOBS)).collect()
    }

    /// What lies in staging.
    #[must_use]
    pub fn staged_keys(&self) -> Vec<String> {
        self.bucket.keys().into_iter().filter(|key| key.starts_with(keys::STAGING)).collect()
    }

    /// The org's report, after folding, which must equal a recount.
    pub async fn report(&self) -> Delta {
        self.ctx.push(&crate::fold_reports::FoldReports { org: Some(self.org) }).await.expect("a queue");
        self.drain().await;
        let found = reports::recount(&self.ctx.db, self.org).await.expect("a ledger");
        assert_eq!(found.drift, Delta::NONE, "the report differs from a recount");
        reports::find(&self.ctx.db, self.org).await.expect("a ledger").totals
    }

    /// How many entries of the org have these bytes.
    pub async fn entries_of(&self, bytes: &[u8]) -> i64 {
        let filter = files::Filter { sha256: Some(Digest::of(bytes)), ..files::Filter::default() };
        files::count(&self.ctx.db, self.org, &filter).await.expect("a ledger")
    }
}
