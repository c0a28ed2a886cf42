//! A scrape of `/metrics` with very many uploads and jobs in the ledger: the first after a start, and those behind it; and the
//! console's first page beside them.

use std::time::{Duration, Instant};

use longshore_jobs::job::{Context, Lane, NewJob};
use longshore_jobs::noop::Noop;
use longshore_jobs::outside::BoxError;
use metrics_exporter_prometheus::PrometheusHandle;
use reqwest::Client;
use tokio::time::sleep;
use uuid::Uuid;

use super::console::first_page;
use super::figures::{Value, percentile};
use super::seed::{Seeder, id, numbers};
use super::{Figures, OwnServer};
use crate::client::choose_cryptography;
use crate::config::Config;
use crate::first_key::first_org;
use crate::metrics;

/// How many later scrapes.
const LATER: u32 = 40;
/// How far apart: further than gauges are good for.
const APART: Duration = Duration::from_millis(1_050);
/// When the jobs are due: behind the end of it.
const DUE_IN: Duration = Duration::from_secs(3600);
/// Jobs in one push.
const PUSH: usize = 5_000;

/// Uploads whose state is an expression of their number.
macro_rules! uploads {
    ($status:literal) => {
        concat!(
            numbers!(),
            "insert into uploads
                (id, org_id, user_id, status, reason, filename, object_key, file_id, created_at, updated_at)
            select ",
            id!("n"),
            ", $3, ",
            id!("1"),
            ", status, case when status = 'rejected' then 'digest_mismatch' end, n || '.jpg', 'staging/' || n, ",
            id!("n"),
            ", $4 - n, $4 - n
            from (select n, ",
            $status,
            " as status from numbers) numbered"
        )
    };
}

/// As they are after a while: a twelfth is open.
const MIXED: &str = uploads!(
    "case n % 25
        when 0 then 'issued' when 1 then 'arrived' when 2 then 'rejected' when 3 then 'expired' when 4 then 'cancelled'
        else 'done' end"
);
/// The worst that there can be to count.
const ALL_OPEN: &str =
    uploads!("case n % 4 when 0 then 'requested' when 1 then 'issued' when 2 then 'arrived' else 'verified' end");

/// With so many uploads and so many jobs that wait; once with uploads in a mix of states, once with all of them open.
pub(crate) async fn scrape(config: &Config, uploads: u64, jobs: usize) -> Result<Figures, BoxError> {
    choose_cryptography();
    let (recorder, mut figures) = (metrics::install()?, Figures::default());
    figures.set("uploads", uploads);
    figures.set("jobs", jobs);
    for (name, when, query) in [("mixed", "in a mix", MIXED), ("open", "all open", ALL_OPEN)] {
        let ledger = Ledger { query, uploads, jobs };
        Scrapes::measure(config, recorder.clone(), ledger).await?.show(&mut figures, name, when);
    }
    Ok(figures)
}

/// What is in it.
struct Ledger {
    query: &'static str,
    uploads: u64,
    jobs: usize,
}

impl Ledger {
    async fn fill(&self, ctx: &Context, config: &Config) -> Result<(), BoxError> {
        let (org, now) = (first_org(&ctx.db, ctx.now()).await?.id, ctx.now());
        let mut seeder = Seeder::open(config).await?;
        seeder.make(self.query, self.uploads, (org, now.as_millis())).await?;
        let jobs: Vec<_> =
            (0..self.jobs).map(|_| NewJob::of(&Noop::new(Uuid::now_v7()), Lane::Bulk, now + DUE_IN)).collect();
        for some in jobs.chunks(PUSH) {
            ctx.queue.push(some.to_vec()).await?;
        }
        seeder.end().await
    }
}

/// How long scrapes took.
struct Scrapes {
    /// From the start of the service until it answers at all.
    ready: Duration,
    first: Duration,
    later: Vec<Duration>,
    /// The console's pages, in the order that they were loaded in.
    pages: Vec<Duration>,
    /// What the last one said.
    text: String,
}

impl Scrapes {
    async fn measure(config: &Config, recorder: PrometheusHandle, ledger: Ledger) -> Result<Self, BoxError> {
        let mut filled = Instant::now();
        let server = OwnServer::start_on(config, recorder, async |ctx: &Context, own: &Config| {
            ledger.fill(ctx, own).await?;
            filled = Instant::now();
            Ok(())
        })
        .await?;
        let client = Client::builder().no_proxy().build()?;
        get(&client, &format!("{}/livez", server.url)).await?;
        let ready = filled.elapsed();
        let url = format!("{}/metrics", server.url);
        let (first, _) = get(&client, &url).await?;
        let (mut later, mut pages, mut text) = (Vec::new(), Vec::new(), String::new());
        for _ in 0..LATER {
            pages.push(first_page(&client, &server).await?);
            sleep(APART).await;
            let (took, said) = get(&client, &url).await?;
            later.push(took);
            text = said;
        }
        later.sort_unstable();
        server.end().await?;
        Ok(Self { ready, first, later, pages, text })
    }

    fn show(&self, figures: &mut Figures, name: &str, when: &str) {
        let named = |figure: &str| format!("{name}_{figure}");
        figures.add(named("ready"), format!("{when}: from start to the first answer"), Value::delay(self.ready));
        figures.add(named("first"), format!("{when}: first scrape"), Value::delay(self.first)).aim("under 100 ms");
        for (figure, share) in [("p50", 0.5), ("max", 1.0)] {
            let what = format!("{when}: later scrapes, {figure} of {}", self.later.len());
            figures.add(named(figure), what, Value::delay(percentile(&self.later, share))).aim("under 100 ms");
        }
        if let [first, later @ ..] = &self.pages[..] {
            let slowest = later.iter().copied().max().unwrap_or_default();
            for (figure, what, took) in [("first", "first page", *first), ("max", "later pages, max", slowest)] {
                let what = format!("{when}: the console's {what}");
                figures.add(named(&format!("console_{figure}")), what, Value::delay(took)).aim("under 300 ms");
            }
        }
        let series = self.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        figures.add(named("series"), format!("{when}: series"), Value::Count(series as u64));
        figures.add(named("size"), format!("{when}: size"), Value::memory(self.text.len() as u64));
    }
}

/// The whole answer, and how long it took.
async fn get(client: &Client, url: &str) -> Result<(Duration, String), BoxError> {
    let started = Instant::now();
    let text = client.get(url).send().await?.error_for_status()?.text().await?;
    Ok((started.elapsed(), text))
}
