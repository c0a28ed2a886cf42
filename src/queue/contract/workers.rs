//! What workers make of an engine. Only these tests let time pass by itself, and none waits for it.

use longshore_jobs::fold_reports::FoldReports;
use longshore_jobs::store_file::StoreFile;
use longshore_jobs::verify_upload::VerifyUpload;
use tokio::time::Instant;

use super::flaky::{Flaky, Op};
use super::*;
use crate::queue::pace::Pace;
use crate::queue::pauses::Pauses;
use crate::queue::workers::{LAST_WORDS, Workers};

const LIMIT: Duration = Duration::from_secs(10);
/// Looks often, since nobody rings when a clock is cranked.
const BRISK: Pace = Pace { poll: Duration::from_millis(10), beat: Duration::from_millis(20) };
/// Never looks without a ring.
const DEAF: Pace = Pace { poll: Duration::from_secs(3600), beat: Duration::from_secs(3600) };
/// Leaves a test the time to be faster than the third beat.
const STEADY: Pace = Pace { beat: Duration::from_millis(200), ..BRISK };
/// A pool in which nothing is to be done.
const OTHER: Pool = Pool::Report;

async fn start_at(pace: Pace, world: &World) -> Workers {
    Workers::start_at(pace, world.context(), world.engine.clone(), |_| 20, &[POOL]).await
}

async fn start(world: &World) -> Workers {
    start_at(BRISK, world).await
}

async fn push_act(world: &World, act: Act) -> Uuid {
    let id = Uuid::now_v7();
    world.push(vec![NewJob::of(&noop(id, act), Lane::Interactive, world.now())]).await;
    id
}

async fn waits(world: &World) -> bool {
    let depth = world.depth().await;
    (depth.waiting, depth.due, depth.running) == (1, 0, 0)
}

pub(super) async fn jobs_run_and_are_gone(world: World) {
    world.push((0..100).map(|_| world.job(Uuid::now_v7())).collect()).await;

    let workers = start(&world).await;

    eventually!(world.is_empty().await);
    assert!(workers.pulse().is_healthy());
    workers.shutdown(LIMIT).await;
    assert!(world.letters().await.is_empty());
}

pub(super) async fn a_push_wakes_the_worker_without_a_poll(world: World) {
    let workers = start_at(DEAF, &world).await;
    for _ in 0..3 {
        world.push_one().await;
        eventually!(world.is_empty().await);
    }
    workers.shutdown(LIMIT).await;
}

pub(super) async fn an_undecodable_payload_is_dead_and_the_worker_lives(world: World) {
    let broken = Uuid::now_v7();
    let job = NewJob::revive(Noop::KIND, broken, "{\"id\": 7}".to_owned(), Lane::Interactive, world.now());
    world.push(vec![job.unwrap()]).await;

    let workers = start(&world).await;
    eventually!(!world.letters().await.is_empty());
    world.push_one().await;

    eventually!(world.is_empty().await);
    let letters = world.letters().await;
    assert_eq!((letters[0].subject, letters[0].reason.as_str()), (broken, "undecodable"));
    assert!(workers.pulse().is_healthy());
    workers.shutdown(LIMIT).await;
}

pub(super) async fn a_panic_is_a_retry(world: World) {
    push_act(&world, Act::Panic).await;

    let workers = start(&world).await;

    eventually!(waits(&world).await);
    assert!(workers.pulse().is_healthy());
    workers.shutdown(LIMIT).await;
    world.clock.crank(Duration::from_secs(60));
    assert_eq!(world.claim_only().await.delivery.attempt, 2);
}

pub(super) async fn a_job_past_its_time_limit_is_a_retry(world: World) {
    push_act(&world, Act::Hang).await;

    let workers = start(&world).await;

    eventually!(waits(&world).await);
    workers.shutdown(LIMIT).await;
    world.clock.crank(Duration::from_secs(60));
    assert_eq!(world.claim_only().await.delivery.attempt, 2);
}

pub(super) async fn a_snooze_and_a_failure_come_back_when_they_are_due(world: World) {
    push_act(&world, Act::Snooze).await;
    let failing = push_act(&world, Act::Fail).await;

    let workers = start(&world).await;

    // The failing one runs until it has no attempts left; the other snoozes as often as it likes.
    for _ in 0..Noop::ATTEMPTS {
        eventually!(world.depth().await.due == 0 && world.depth().await.running == 0);
        world.clock.crank(Duration::from_secs(2 * 3600));
    }
    eventually!(!world.letters().await.is_empty());
    let letters = world.letters().await;
    assert_eq!((letters[0].subject, letters[0].reason.as_str()), (failing, "attempts"));
    assert_eq!(letters[0].attempts, i64::from(Noop::ATTEMPTS));
    assert_eq!(letters[0].error, "it was told to fail");
    workers.shutdown(LIMIT).await;
    world.clock.crank(Duration::from_secs(60));
    assert_eq!(world.claim_only().await.delivery.attempt, 1);
}

pub(super) async fn a_paused_pool_stands_still_until_it_goes_on(world: World) {
    let pauses = Pauses::new(world.db.clone());
    assert!(pauses.set(POOL, true, world.now()).await.unwrap());
    let flaky = Flaky::over(world.engine.clone());
    let workers = Workers::start_at(BRISK, world.context(), flaky.clone(), |_| 20, &[POOL, OTHER]).await;

    world.push_one().await;
    world.push_one().await;

    // A pool that is not paused has asked again and again meanwhile.
    eventually!(flaky.asked_for(OTHER) > 10);
    assert_eq!(flaky.asked_for(POOL), 0);

    assert!(workers.pauses().set(POOL, false, world.now()).await.unwrap());
    eventually!(world.is_empty().await);
    workers.shutdown(LIMIT).await;
}

pub(super) async fn a_pause_set_by_another_process_holds_too(world: World) {
    longshore_jobs::ledger::pools::set_paused(&world.db, POOL, true, world.now()).await.unwrap();
    let flaky = Flaky::over(world.engine.clone());
    let workers = Workers::start_at(BRISK, world.context(), flaky.clone(), |_| 20, &[POOL, OTHER]).await;
    world.push_one().await;

    eventually!(flaky.asked_for(OTHER) > 10);
    assert_eq!(flaky.asked_for(POOL), 0);

    longshore_jobs::ledger::pools::set_paused(&world.db, POOL, false, world.now()).await.unwrap();
    eventually!(world.is_empty().await);
    workers.shutdown(LIMIT).await;
}

pub(super) async fn a_shutdown_in_the_middle_hands_back(world: World) {
    world.push((0..30).map(|_| NewJob::of(&noop(Uuid::now_v7(), Act::Hang), Lane::Bulk, world.now())).collect()).await;
    let workers = start(&world).await;
    eventually!(world.depth().await.running == 20);

    workers.shutdown(Duration::ZERO).await;

    let depth = world.depth().await;
    assert_eq!((depth.due, depth.running), (30, 0));
    let claimed = world.claim(30).await;
    assert!(claimed.iter().all(|job| (job.losses, job.crashes, job.delivery.attempt) == (0, 0, 1)));
}

pub(super) async fn a_shutdown_lets_running_jobs_finish(world: World) {
    push_act(&world, Act::Hang).await;
    let workers = start(&world).await;
    eventually!(workers.running() == 1);

    workers.shutdown(LIMIT).await;

    // It has come to its own end, which is its time limit.
    world.clock.crank(Duration::from_secs(60));
    assert_eq!(world.claim_only().await.delivery.attempt, 2);
}

pub(super) async fn a_suspect_is_recorded_before_it_runs(world: World) {
    push_act(&world, Act::Hang).await;
    world.claim_only().await;
    world.lose_leases().await;

    // This pace has no heartbeat that could record it.
    let workers = start_at(DEAF, &world).await;
    eventually!(workers.running() == 1);
    workers.pauses().set(POOL, true, world.now()).await.unwrap();

    // Were its worker to die now, the job would be blamed.
    world.engine.void_leases().await.unwrap();
    assert_eq!(world.claim_only().await.crashes, 1);
}

/// Three jobs that hang, and during whose runs so many workers have died.
async fn push_crashed(world: &World, crashes: u32) {
    for _ in 0..3 {
        push_act(world, Act::Hang).await;
    }
    for _ in 0..crashes {
        let leases: Vec<_> = world.claim(3).await.iter().map(|job| job.lease).collect();
        assert_eq!(world.engine.mark_started(&leases).await.unwrap().len(), 3);
        world.lose_leases().await;
    }
}

pub(super) async fn jobs_that_ran_when_their_worker_was_killed_once_run_beside_each_other(world: World) {
    push_crashed(&world, 1).await;

    let workers = start(&world).await;

    eventually!(workers.running() == 3);
    workers.shutdown(Duration::ZERO).await;
}

pub(super) async fn jobs_that_crashed_again_and_again_run_one_at_a_time(world: World) {
    push_crashed(&world, 3).await;

    let flaky = Flaky::over(world.engine.clone());
    let workers = Workers::start_at(BRISK, world.context(), flaky.clone(), |_| 20, &[POOL]).await;

    // All are held, and some beats later the first still hangs.
    eventually!(world.depth().await.running == 3 && workers.running() == 1);
    let renewed = flaky.answered(Op::Renew);
    eventually!(flaky.answered(Op::Renew) > renewed + 3);
    assert_eq!(workers.running(), 1);
    workers.shutdown(Duration::ZERO).await;
}

pub(super) async fn a_job_that_outlives_its_lease_stays_ours(world: World) {
    let flaky = Flaky::over(world.engine.clone());
    push_act(&world, Act::Hang).await;
    let workers = Workers::start_at(BRISK, world.context(), flaky.clone(), |_| 20, &[POOL]).await;
    eventually!(workers.running() == 1);

    // Many leases long, with a beat in each.
    for _ in 0..6 {
        let renewed = flaky.answered(Op::Renew);
        world.clock.crank(world.almost);
        eventually!(flaky.answered(Op::Renew) > renewed + 1);
    }

    assert!(world.engine.reclaim().await.unwrap().is_empty());
    assert_eq!((workers.running(), flaky.claimed()), (1, 1));
    workers.shutdown(Duration::ZERO).await;
    assert_eq!(world.claim_only().await.losses, 0);
}

pub(super) async fn a_lost_workers_job_is_run_by_another(world: World) {
    push_act(&world, Act::Hang).await;
    let flaky = Flaky::over(world.engine.clone());
    let lost = Workers::start_at(BRISK, world.context(), flaky.clone(), |_| 20, &[POOL]).await;
    eventually!(lost.running() == 1);
    // It dies as by a crash: nothing that it does behind this line has any effect.
    flaky.go(true);
    drop(lost);
    assert_eq!(world.depth().await.running, 1);

    let workers = start(&world).await;
    world.clock.crank(LEASE);

    eventually!(workers.running() == 1);
    workers.shutdown(Duration::ZERO).await;
    assert_eq!(world.claim_only().await.losses, 1);
}

/// A process that holds nothing and takes back what others lose, once it has begun to.
async fn start_rescuer(flaky: &Arc<Flaky>, world: &World) -> Workers {
    let workers = Workers::start_at(STEADY, world.context(), flaky.clone(), |_| 20, &[OTHER]).await;
    eventually!(flaky.answered(Op::Reclaim) > 0);
    workers
}

/// The second answer shows that what followed the first is over.
async fn answers_twice(flaky: &Flaky) {
    let answered = flaky.answered(Op::Ping);
    eventually!(flaky.answered(Op::Ping) > answered + 1);
}

pub(super) async fn an_outage_longer_than_a_lease_costs_nobody_a_job(world: World) {
    world.push_one().await;
    let held = world.claim_only().await.lease;
    let flaky = Flaky::over(world.engine.clone());
    let rescuer = start_rescuer(&flaky, &world).await;

    flaky.go(true);
    eventually!(flaky.refused(Op::Ping) > 0);
    world.clock.crank(LEASE);
    flaky.go(false);

    // We are not the first for whom it is there again.
    answers_twice(&flaky).await;
    assert_eq!(world.engine.renew(&[held]).await.unwrap(), [held]);
    // Whoever is gone for good is found out nevertheless.
    world.clock.crank(LEASE);
    eventually!(world.depth().await.due == 1);
    rescuer.shutdown(LIMIT).await;
    assert_eq!(world.claim_only().await.losses, 1);
}

pub(super) async fn a_process_that_stood_still_lets_the_others_renew_first(world: World) {
    world.push_one().await;
    let held = world.claim_only().await.lease;
    let flaky = Flaky::over(world.engine.clone());
    let rescuer = start_rescuer(&flaky, &world).await;

    world.clock.crank(LEASE);

    answers_twice(&flaky).await;
    assert_eq!(world.engine.renew(&[held]).await.unwrap(), [held]);
    rescuer.shutdown(LIMIT).await;
}

pub(super) async fn a_start_that_cannot_be_recorded_costs_no_lease(world: World) {
    let flaky = Flaky::over(world.engine.clone());
    flaky.forbid(Op::Mark);
    push_act(&world, Act::Hang).await;
    let workers = Workers::start_at(BRISK, world.context(), flaky.clone(), |_| 20, &[POOL]).await;

    eventually!(flaky.refused(Op::Mark) > 1 && flaky.answered(Op::Renew) > 1);

    workers.shutdown(Duration::ZERO).await;
    assert_eq!(world.claim_only().await.losses, 0);
}

pub(super) async fn outcomes_that_cannot_be_stored_hold_up_a_shutdown_once_for_all_pools(world: World) {
    let flaky = Flaky::over(world.engine.clone());
    flaky.forbid(Op::Settle);
    let kinds = [Noop::KIND, VerifyUpload::KIND, FoldReports::KIND, StoreFile::KIND];
    let undecodable = |kind| NewJob::revive(kind, Uuid::now_v7(), "nonsense".to_owned(), Lane::Bulk, world.now());
    let jobs: Vec<NewJob> = kinds.into_iter().map(|kind| undecodable(kind).unwrap()).collect();
    let pools: Vec<Pool> = jobs.iter().map(NewJob::pool).collect();
    world.push(jobs).await;
    let workers = Workers::start_at(DEAF, world.context(), flaky.clone(), |_| 20, &pools).await;
    eventually!(flaky.refused(Op::Settle) >= pools.len() && flaky.claimed() == pools.len());

    let began = Instant::now();
    workers.shutdown(LIMIT).await;

    assert!(began.elapsed() < 2 * LAST_WORDS, "each pool has waited by itself: {:?}", began.elapsed());
}

pub(super) async fn an_outage_longer_than_a_lease_costs_no_outcome(world: World) {
    let flaky = Flaky::over(world.engine.clone());
    push_act(&world, Act::Hang).await;
    let workers = Workers::start_at(BRISK, world.context(), flaky.clone(), |_| 20, &[POOL]).await;
    eventually!(workers.running() == 1);

    // At this pace leases last no longer than between the first attempts to store it.
    flaky.go(true);
    eventually!(flaky.refused(Op::Settle) > 3);
    flaky.go(false);

    eventually!(waits(&world).await);
    workers.shutdown(LIMIT).await;
    world.clock.crank(Duration::from_secs(60));
    let job = world.claim_only().await;
    assert_eq!((job.losses, job.crashes, job.delivery.attempt), (0, 0, 2));
}

pub(super) async fn a_thousand_jobs_of_both_lanes_run_once_each(world: World) {
    let lanes = [Lane::Interactive, Lane::Bulk];
    let jobs = (0..1_000).map(|index| NewJob::of(&Noop::new(Uuid::now_v7()), lanes[index % 2], world.now()));
    world.push(jobs.collect()).await;
    let flaky = Flaky::over(world.engine.clone());

    let workers = Workers::start_at(BRISK, world.context(), flaky.clone(), |_| 20, &[POOL]).await;

    eventually!(world.is_empty().await);
    workers.shutdown(LIMIT).await;
    assert!(world.letters().await.is_empty());
    assert_eq!(flaky.claimed(), 1_000);
}

pub(super) async fn an_engine_that_is_away_is_waited_for(world: World) {
    let flaky = Flaky::over(world.engine.clone());
    flaky.go(true);
    let workers = Workers::start_at(BRISK, world.context(), flaky.clone(), |_| 20, &[POOL]).await;
    world.push_one().await;
    assert_eq!(world.depth().await.due, 1);
    flaky.go(false);
    eventually!(world.is_empty().await);

    // It goes away between a claim and its outcome.
    push_act(&world, Act::Hang).await;
    eventually!(workers.running() == 1);
    flaky.go(true);
    eventually!(flaky.refused(Op::Settle) > 0);
    flaky.go(false);

    eventually!(waits(&world).await);
    assert!(workers.pulse().is_healthy());
    workers.shutdown(LIMIT).await;
}
