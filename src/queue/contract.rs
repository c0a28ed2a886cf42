//! What every engine has to obey, as tests. A new engine passes a function that opens it to [`contract!`], and is done.
//!
//! The clock is cranked by hand, so leases run out when a test says so. [`leases`](mod@leases) and its like speak to the
//! engine alone; [`workers`] runs real workers over it.

mod flaky;
mod leases;
mod pushes;
mod verdicts;
mod workers;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use longshore_jobs::job::{Context, Job as _, Lane, Limits, NewJob, Pool};
use longshore_jobs::ledger::Db;
use longshore_jobs::ledger::dead_letters::{self, DeadLetter, Filter};
use longshore_jobs::model::Timestamp;
use longshore_jobs::noop::{Act, Noop};
use longshore_jobs::outside::Clock;
use longshore_jobs::testkit;
use uuid::Uuid;

use super::engine::{Claim, Claimed, Depth, Engine, LEASE};
use super::nowhere::Nowhere;
use super::redis::server::Server;
use super::sql::SqlQueue;

/// Makes one test per promise and engine.
macro_rules! contract {
    ($engine:ident, $open:path; $($group:ident: [$($promise:ident,)+],)+) => {
        mod $engine {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    // Without a server there is no world to hold anything in; that is said where it is missed.
                    if let Some(world) = $open().await {
                        super::$group::$promise(world).await;
                    }
                }
            )+)+
        }
    };
}

/// Every promise there is, for one engine.
macro_rules! every_promise {
    ($engine:ident, $open:path) => {
        contract! { $engine, $open;
            pushes: [
                a_push_joins_the_waiting_job_with_the_earlier_time_and_the_better_lane,
                a_later_and_worse_push_changes_nothing_of_the_waiting_job,
                a_push_onto_a_held_job_makes_it_run_once_more,
                two_pushes_onto_a_held_job_make_it_run_once_more_at_the_earlier_time,
                a_job_is_not_claimed_before_it_is_due,
                interactive_goes_first_unless_it_is_the_turn_of_bulk,
                the_longest_due_goes_first,
                never_more_is_claimed_than_asked_for,
                ten_thousand_jobs_are_pushed_at_once,
                a_push_of_nothing_is_nothing,
                concurrent_pushes_and_claims_keep_a_job_unique,
                depths_tell_what_waits_is_due_and_runs,
                what_there_is_about_something_is_told,
            ],
            leases: [
                a_job_comes_back_when_its_lease_runs_out,
                a_renewed_lease_lasts_on,
                a_stale_token_does_nothing,
                a_job_that_was_merely_claimed_is_not_blamed_for_a_crash,
                a_job_that_ran_is_blamed_for_a_crash,
                the_fifth_crash_is_the_death_of_a_job,
                a_crash_loop_is_not_kept_alive_by_signals,
                a_hand_back_counts_nothing,
                voided_leases_are_lost_at_once,
                a_push_during_a_lost_run_is_kept,
            ],
            verdicts: [
                a_finished_job_is_forgotten,
                a_snoozed_job_keeps_its_attempts,
                a_retried_job_waits_for_its_time_with_one_attempt_more,
                a_dead_job_is_kept_as_a_letter_with_its_error,
                a_job_that_dies_after_a_fresh_signal_starts_over,
                a_retry_after_a_fresh_signal_does_not_wait,
                a_dead_letter_is_put_on_again_with_all_attempts,
                one_batch_may_hold_every_kind_of_verdict,
            ],
            workers: [
                jobs_run_and_are_gone,
                a_push_wakes_the_worker_without_a_poll,
                an_undecodable_payload_is_dead_and_the_worker_lives,
                a_panic_is_a_retry,
                a_job_past_its_time_limit_is_a_retry,
                a_snooze_and_a_failure_come_back_when_they_are_due,
                a_paused_pool_stands_still_until_it_goes_on,
                a_pause_set_by_another_process_holds_too,
                a_shutdown_in_the_middle_hands_back,
                a_shutdown_lets_running_jobs_finish,
                a_suspect_is_recorded_before_it_runs,
                jobs_that_ran_when_their_worker_was_killed_once_run_beside_each_other,
                jobs_that_crashed_again_and_again_run_one_at_a_time,
                a_job_that_outlives_its_lease_stays_ours,
                a_lost_workers_job_is_run_by_another,
                an_outage_longer_than_a_lease_costs_nobody_a_job,
                a_process_that_stood_still_lets_the_others_renew_first,
                a_start_that_cannot_be_recorded_costs_no_lease,
                an_outage_longer_than_a_lease_costs_no_outcome,
                outcomes_that_cannot_be_stored_hold_up_a_shutdown_once_for_all_pools,
                a_thousand_jobs_of_both_lanes_run_once_each,
                an_engine_that_is_away_is_waited_for,
            ],
        }
    };
}

every_promise!(sqlite, super::open_sqlite);
every_promise!(postgres, super::open_postgres);
every_promise!(redis, super::open_redis);

/// An engine, and what belongs to it.
struct World {
    engine: Arc<dyn Engine>,
    clock: Arc<HandClock>,
    db: Db,
    /// Just short of a lease.
    almost: Duration,
    /// Where the ledger is, if that is to be removed.
    _folder: Option<tempfile::TempDir>,
}

async fn open_sqlite() -> Option<World> {
    let (folder, db) = open_ledger().await;
    Some(World::of_ledger(db, Some(folder)))
}

async fn open_postgres() -> Option<World> {
    let url = testkit::postgres::schema("the queue on PostgreSQL").await?;
    let db = Db::open_postgres(&url, 8).await.unwrap();
    Some(World::of_ledger(db, None))
}

/// Its leases last by the server's clock, which goes on by itself: no test may take them to the millisecond.
async fn open_redis() -> Option<World> {
    let server = Server::given()?;
    let (folder, db) = open_ledger().await;
    let clock = Arc::new(HandClock::new(server.aging()));
    let engine = Arc::new(server.connect(&db, Arc::clone(&clock) as Arc<dyn Clock>).await);
    Some(World { engine, clock, db, almost: LEASE - Duration::from_secs(5), _folder: Some(folder) })
}

async fn open_ledger() -> (tempfile::TempDir, Db) {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::open_sqlite(&folder.path().join("ledger.db")).await.unwrap();
    (folder, db)
}

/// A clock that stands still until it is cranked.
struct HandClock {
    millis: AtomicI64,
    /// Lets the same time pass elsewhere.
    elsewhere: Box<dyn Fn(Duration) + Send + Sync>,
}

impl HandClock {
    fn new(elsewhere: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self { millis: AtomicI64::new(1_000_000), elsewhere: Box::new(elsewhere) }
    }

    fn crank(&self, length: Duration) {
        self.millis.fetch_add(i64::try_from(length.as_millis()).unwrap(), Ordering::SeqCst);
        (self.elsewhere)(length);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::SeqCst))
    }
}

const POOL: Pool = Noop::POOL;

impl World {
    /// With the queue in the ledger.
    fn of_ledger(db: Db, folder: Option<tempfile::TempDir>) -> Self {
        let clock = Arc::new(HandClock::new(|_| ()));
        let engine = Arc::new(SqlQueue::new(db.clone(), Arc::clone(&clock) as Arc<dyn Clock>));
        Self { engine, clock, db, almost: LEASE - Duration::from_millis(1), _folder: folder }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn context(&self) -> Context {
        Context {
            db: self.db.clone(),
            bucket: Arc::new(Nowhere),
            queue: self.engine.clone(),
            clock: self.clock.clone(),
            limits: Limits::default(),
        }
    }

    async fn push(&self, jobs: Vec<NewJob>) {
        self.engine.push(jobs).await.unwrap();
    }

    /// Pushes a new interactive job that is due, and says what it is about.
    async fn push_one(&self) -> Uuid {
        let id = Uuid::now_v7();
        self.push(vec![self.job(id)]).await;
        id
    }

    fn job(&self, id: Uuid) -> NewJob {
        NewJob::of(&Noop::new(id), Lane::Interactive, self.now())
    }

    async fn claim_with(&self, max: usize, first: Lane) -> Vec<Claimed> {
        self.engine.claim(&Claim { pool: POOL, worker: "tester".into(), max, first }).await.unwrap()
    }

    async fn claim(&self, max: usize) -> Vec<Claimed> {
        self.claim_with(max, Lane::Interactive).await
    }

    /// Claims the only job that is due.
    async fn claim_only(&self) -> Claimed {
        let mut claimed = self.claim(10).await;
        assert_eq!(claimed.len(), 1);
        claimed.remove(0)
    }

    /// Claims the job, lets it run, and lets its worker die.
    async fn crash(&self) {
        let job = self.claim_only().await;
        self.engine.mark_started(&[job.lease]).await.unwrap();
        self.lose_leases().await;
    }

    async fn lose_leases(&self) {
        self.clock.crank(LEASE);
        self.engine.reclaim().await.unwrap();
    }

    async fn letters(&self) -> Vec<DeadLetter> {
        dead_letters::list(&self.db, &Filter::default(), 100).await.unwrap()
    }

    async fn depth(&self) -> Depth {
        let depths = self.engine.depths().await.unwrap();
        assert!(depths.len() <= 1, "{depths:?}");
        depths.first().copied().unwrap_or(Depth {
            pool: POOL,
            lane: Lane::Interactive,
            waiting: 0,
            due: 0,
            running: 0,
            oldest_age: Duration::ZERO,
        })
    }

    async fn is_empty(&self) -> bool {
        self.engine.depths().await.unwrap().is_empty()
    }
}

fn noop(id: Uuid, act: Act) -> Noop {
    Noop { id, act }
}

fn subjects(claimed: &[Claimed]) -> Vec<Uuid> {
    claimed.iter().map(|job| job.delivery.subject).collect()
}

/// Waits until a condition holds, looking every few milliseconds, and fails after a generous deadline.
macro_rules! eventually {
    ($condition:expr) => {
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        while !$condition {
            assert!(tokio::time::Instant::now() < deadline, "never came true: {}", stringify!($condition));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
}
pub(super) use eventually;
