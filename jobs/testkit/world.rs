//! A whole pipeline in one process: a ledger of its own, bucket and queue in memory, a clock cranked by hand.

use std::sync::Arc;

use tempfile::TempDir;
use uuid::Uuid;

use super::{HandClock, MemoryBucket, MemoryQueue, postgres};
use crate::admit_object::AdmitObject;
use crate::issue_policy::IssuePolicy;
use crate::job::{Context, Limits, Verdict};
use crate::ledger::manifests::{self, Held};
use crate::ledger::{Db, batches, files, orgs, reports, uploads};
use crate::model::manifest::Line;
use crate::model::report::Delta;
use crate::model::upload::{ArrivedVia, Reason};
use crate::model::{Batch, Digest, Status, Timestamp, Upload, keys};
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
        let via = ArrivedVia::Notice;
        self.ctx.push(&crate::record_arrival::RecordArrival { upload: upload.id, via }).await.expect("a queue");
    }

    /// An open batch of so many files of a thousand bytes, whose policy has been signed.
    pub async fn prefix_batch(&self, max_files: i64) -> Batch {
        let now = self.ctx.now();
        let batch = Batch {
            policy_expires_at: Some(now + self.ctx.limits.policy_life),
            next_poll_at: Some(now + self.ctx.limits.first_poll),
            ..Batch::prefix((self.org, Uuid::nil()), None, (max_files, 1_000), now)
        };
        batches::insert(&self.ctx.db, batch.clone(), Vec::new(), None).await.expect("a new batch");
        batch
    }

    /// Puts an object under the batch's prefix, as a client would, and gives its key.
    pub fn land_in(&self, batch: &Batch, path: &str, bytes: &[u8]) -> String {
        let key = format!("{}{path}", keys::batch_prefix(batch.org_id, batch.id));
        self.bucket.land(&key, bytes);
        key
    }

    /// The bucket's notice for an object under a batch's prefix, handed to the queue.
    pub async fn notice_of(&self, key: &str) {
        let told = AdmitObject::told(&self.ctx, key.to_owned(), ArrivedVia::Notice);
        self.ctx.queue.push(vec![told]).await.expect("a queue");
    }

    /// The batch as it is now.
    pub async fn batch(&self, id: Uuid) -> Batch {
        batches::find(&self.ctx.db, id).await.expect("a ledger").expect("the batch is there")
    }

    /// Name, status and reason of every upload of the batch, by name.
    pub async fn files_of(&self, batch: &Batch) -> Vec<(String, Status, Option<Reason>)> {
        let query = "select * from uploads where batch_id = $1 order by filename";
        let rows: Vec<Upload> =
            sql!(self.ctx.db.reader(), c => sqlx::query_as(query).bind(batch.id).fetch_all(c).await).expect("a ledger");
        let mut files: Vec<_> = rows.into_iter().map(|row| (row.filename, row.status, row.reason)).collect();
        files.sort_by(|one, other| one.0.cmp(&other.0));
        files
    }

    /// Lets these lines hold as the batch's manifest.
    pub async fn pin(&self, batch: &Batch, lines: &[(&str, &[u8])]) -> Held {
        let generation = manifests::new_generation(self.ctx.now());
        let line =
            |(path, bytes): &(&str, &[u8])| Line { number: 1, path: (*path).to_owned(), sha256: Digest::of(bytes) };
        let lines: Vec<Line> = lines.iter().map(line).collect();
        let known = manifests::add(&self.ctx.db, (batch.id, generation), &lines).await.expect("a ledger");
        assert!(known.is_empty(), "{known:?}");
        let (seen, count) = (self.batch(batch.id).await, i64::try_from(lines.len()).expect("a few lines"));
        manifests::hold(&self.ctx.db, (&seen, generation), count, self.ctx.now()).await.expect("a ledger")
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
