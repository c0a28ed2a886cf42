//! Reports over very many files: reading one, recounting all, folding a million deltas, and what uploads notice of that.

use std::time::{Duration, Instant};

use longshore_jobs::fold_reports::FoldReports;
use longshore_jobs::job::{Context, Job as _, Lane, NewJob};
use longshore_jobs::ledger::reports;
use longshore_jobs::model::Timestamp;
use longshore_jobs::outside::BoxError;
use longshore_jobs::rebuild_reports::RebuildReports;
use longshore_jobs::sql;
use tokio::time::sleep;
use uuid::Uuid;

use super::beside::{RATE, beside};
use super::figures::{Value, percentile};
use super::seed::{Seeder, id, numbers};
use super::{Figures, OwnServer, forget_peak_memory, peak_memory, resident_memory};
use crate::config::{Config, DatabaseEngine};
use crate::first_key::first_org;
use crate::metrics;

/// How many reads of one report.
const READS: usize = 1_000;
/// How many deltas are folded.
const DELTAS: u64 = 1_000_000;
/// How long uploads are watched while nothing else goes on.
const QUIET: Duration = Duration::from_secs(15);
/// How often it is looked whether something has ended.
const LOOK: Duration = Duration::from_millis(100);

const ORGS: &str = concat!(
    numbers!(),
    "insert into orgs (id, name, created_at)
    select ",
    id!("n"),
    ", 'org ' || n, $4 from numbers where $3 is not null"
);

/// The org that owns the bytes of number `b`, out of `$4` and the first: that one has a tenth.
macro_rules! owner {
    ($bytes:literal) => {
        concat!("case when ", $bytes, " % 10 = 0 then $3 else ", id!("(1 + b % $4)"), " end")
    };
}

const BLOBS: &str = concat!(
    numbers!(),
    "insert into blobs (id, org_id, sha256, size, object_key, state, refs, created_at)
    select ",
    id!("b"),
    ", ",
    owner!("b"),
    ", substr('0000000000000000000000000000000000000000000000000000000000000000' || b, length(cast(b as text)) + 1),
        10000 + b % 1000, 'blobs/' || b, 'live', 2, 0
    from (select n as b from numbers) numbered"
);

/// Two of the same bytes each.
const FILES: &str = concat!(
    numbers!(),
    "insert into files
        (id, org_id, user_id, upload_id, blob_id, filename, size, sha256, content_type, deduplicated, created_at)
    select ",
    id!("n"),
    ", ",
    owner!("b"),
    ", ",
    id!("1"),
    ", ",
    id!("n"),
    ", ",
    id!("b"),
    ", 'shirts/' || n || '.jpg', 10000 + b % 1000,
        substr('0000000000000000000000000000000000000000000000000000000000000000' || b, length(cast(b as text)) + 1),
        'image/jpeg', n % 2 = 0, 0
    from (select n, (n + 1) / 2 as b from numbers) numbered"
);

const REPORT_DELTAS: &str = concat!(
    numbers!(),
    "insert into report_deltas (org_id, files, bytes, unique_files, unique_bytes, created_at)
    select ",
    owner!("b"),
    ", 1, 10000, 0, 0, 0
    from (select n as b from numbers) numbered"
);

/// Over so many files of so many orgs.
pub(crate) async fn reports(config: &Config, files: u64, orgs: u64) -> Result<Figures, BoxError> {
    let files = files.next_multiple_of(2);
    let mut figures = Figures::default();
    figures.set("ledger", engine(config));
    figures.set("files", files);
    figures.set("orgs", orgs);
    figures.set("uploads a second beside", RATE);
    let (mut seeded, mut big) = (Duration::ZERO, Uuid::nil());
    let config = &without_schedules(config);
    let server = OwnServer::start_on(config, metrics::install()?, async |ctx: &Context, own: &Config| {
        let started = Instant::now();
        big = first_org(&ctx.db, ctx.now()).await?.id;
        seed(own, files, (big, i64::try_from(orgs - 1)?)).await?;
        seeded = started.elapsed();
        Ok(())
    })
    .await?;
    figures.add("seeded", "rows made, with their bytes", Value::rate(files, seeded));
    let bench = Bench { server: &server, files, others: i64::try_from(orgs - 1)?, big };
    let measured = bench.measure(&mut figures).await;
    server.end().await?;
    measured.map(|()| figures)
}

/// Nobody rebuilds or folds but the bench, and those whom it watches.
fn without_schedules(config: &Config) -> Config {
    let mut config = config.clone();
    config.schedule.retain(|kind, _| kind != RebuildReports::KIND && kind != FoldReports::KIND);
    config
}

fn engine(config: &Config) -> &'static str {
    match config.database {
        DatabaseEngine::Sqlite(_) => "SQLite",
        DatabaseEngine::Postgres(_) => "PostgreSQL",
    }
}

async fn seed(config: &Config, files: u64, of: (Uuid, i64)) -> Result<(), BoxError> {
    let mut seeder = Seeder::open(config).await?;
    seeder.make(ORGS, of.1.unsigned_abs(), (of.0, 0)).await?;
    seeder.make(BLOBS, files / 2, of).await?;
    seeder.make(FILES, files, of).await?;
    seeder.end().await
}

struct Bench<'s> {
    server: &'s OwnServer,
    files: u64,
    /// How many orgs there are beside the big one.
    others: i64,
    big: Uuid,
}

impl Bench<'_> {
    async fn measure(&self, figures: &mut Figures) -> Result<(), BoxError> {
        let (ctx, api) = (&self.server.ctx, &self.server.api);
        // Connections and code paths are warm before anything counts.
        beside(api, pause(Duration::from_secs(2))).await?;
        let ((), quiet) = beside(api, pause(QUIET)).await?;
        memory(figures, "quiet", "memory before", resident_memory());
        quiet.show(figures, "quiet", "quiet");

        forget_peak_memory();
        let (took, delays) = beside(api, self.rebuild_all(ctx)).await?;
        let what = format!("rebuild of all reports, {} files", self.files);
        figures.add("rebuilt", what, Value::delay(took));
        memory(figures, "rebuild", "peak memory of it", peak_memory());
        delays.show(figures, "rebuild", "during the rebuild");
        let started = Instant::now();
        reports::recount(&ctx.db, self.big).await?;
        figures.add("recounted", "recount of the org with a tenth of the files", Value::delay(started.elapsed()));

        self.read(figures).await?;

        self.seed_deltas().await?;
        forget_peak_memory();
        let ((one, took), delays) = beside(api, self.fold_all(ctx)).await?;
        figures.add("folded", format!("deltas folded, {DELTAS}"), Value::rate(DELTAS, took));
        figures.add("fold", "time of that", Value::delay(took));
        figures.add("fold_write", format!("one write of it, {} deltas", one.0), Value::delay(one.1));
        memory(figures, "fold", "peak memory of it", peak_memory());
        delays.show(figures, "fold", "during the folds");
        Ok(())
    }

    /// From the push of the job until every file is in its org's report.
    async fn rebuild_all(&self, ctx: &Context) -> Result<Duration, BoxError> {
        let started = Instant::now();
        ctx.queue.push(vec![NewJob::of(&RebuildReports::all(), Lane::Bulk, ctx.now())]).await?;
        while reported(ctx).await? < self.files {
            sleep(LOOK).await;
        }
        Ok(started.elapsed())
    }

    async fn read(&self, figures: &mut Figures) -> Result<(), BoxError> {
        let mut delays = Vec::with_capacity(READS);
        for _ in 0..READS {
            let started = Instant::now();
            self.server.api.report().await?;
            delays.push(started.elapsed());
        }
        delays.sort_unstable();
        figures.add("read_p50", "GET /api/files/report p50", Value::delay(percentile(&delays, 0.5))).aim("under 5 ms");
        figures.add("read_p99", "GET /api/files/report p99", Value::delay(percentile(&delays, 0.99))).aim("under 5 ms");
        Ok(())
    }

    async fn seed_deltas(&self) -> Result<(), BoxError> {
        let mut seeder = Seeder::open(&self.server.place.config).await?;
        seeder.make(REPORT_DELTAS, DELTAS, (self.big, self.others)).await?;
        seeder.end().await
    }

    /// One write of the folds by itself, and then from the push of the job until none of those deltas is left.
    async fn fold_all(&self, ctx: &Context) -> Result<((usize, Duration), Duration), BoxError> {
        let started = Instant::now();
        let first = reports::fold(&ctx.db, self.big, ctx.now()).await?;
        let one = (first.deltas, started.elapsed());
        ctx.queue.push(vec![NewJob::of(&FoldReports { org: None }, Lane::Interactive, ctx.now())]).await?;
        // Deltas of uploads are younger.
        while reports::oldest_delta(&ctx.db).await? == Some(Timestamp::from_millis(0)) {
            sleep(LOOK).await;
        }
        Ok((one, started.elapsed()))
    }
}

async fn pause(length: Duration) -> Result<(), BoxError> {
    sleep(length).await;
    Ok(())
}

/// The files of all reports.
async fn reported(ctx: &Context) -> Result<u64, BoxError> {
    let query = "select cast(coalesce(sum(files), 0) as bigint) from org_reports";
    let files: i64 = sql!(ctx.db.reader(), c => sqlx::query_scalar(query).fetch_one(c).await)?;
    Ok(files.unsigned_abs())
}

fn memory(figures: &mut Figures, name: &str, what: &str, bytes: Option<u64>) {
    if let Some(bytes) = bytes {
        figures.add(format!("{name}_memory"), what, Value::memory(bytes));
    }
}
