//! What becomes of pushes, and who is claimed when.

use std::collections::HashSet;

use longshore_jobs::job::{End, Verdict};
use longshore_jobs::outside::QueuedJob;

use super::*;

const LATER: Duration = Duration::from_secs(60);

pub(super) async fn a_push_joins_the_waiting_job_with_the_earlier_time_and_the_better_lane(world: World) {
    let id = Uuid::now_v7();
    world.push(vec![NewJob::of(&Noop::new(id), Lane::Bulk, world.now() + LATER)]).await;
    assert!(world.claim(10).await.is_empty());

    world.push(vec![world.job(id)]).await;

    let job = world.claim_only().await;
    assert_eq!((job.lease.lane, job.delivery.due), (Lane::Interactive, world.now()));
}

pub(super) async fn a_later_and_worse_push_changes_nothing_of_the_waiting_job(world: World) {
    let id = world.push_one().await;

    world.push(vec![NewJob::of(&Noop::new(id), Lane::Bulk, world.now() + LATER)]).await;

    let job = world.claim_only().await;
    assert_eq!((job.lease.lane, job.delivery.due), (Lane::Interactive, world.now()));
}

pub(super) async fn a_push_onto_a_held_job_makes_it_run_once_more(world: World) {
    let id = world.push_one().await;
    let first = world.claim_only().await;

    world.push(vec![world.job(id)]).await;
    assert!(world.claim(10).await.is_empty());
    world.engine.settle(&[(first.lease, Verdict::Finished(End::Done))]).await.unwrap();

    let again = world.claim_only().await;
    assert_eq!((again.delivery.subject, again.delivery.attempt), (id, 1));
    world.engine.settle(&[(again.lease, Verdict::Finished(End::Moot))]).await.unwrap();
    assert!(world.is_empty().await);
}

pub(super) async fn two_pushes_onto_a_held_job_make_it_run_once_more_at_the_earlier_time(world: World) {
    let id = world.push_one().await;
    let first = world.claim_only().await;

    let soon = world.now() + Duration::from_secs(1);
    world.push(vec![NewJob::of(&Noop::new(id), Lane::Bulk, soon)]).await;
    world.push(vec![NewJob::of(&Noop::new(id), Lane::Interactive, world.now() + LATER)]).await;
    world.engine.settle(&[(first.lease, Verdict::Finished(End::Done))]).await.unwrap();

    assert_eq!(world.engine.next_due(POOL).await.unwrap(), Some(soon));
    world.clock.crank(Duration::from_secs(1));
    let again = world.claim_only().await;
    assert_eq!(again.lease.lane, Lane::Interactive);
    world.engine.settle(&[(again.lease, Verdict::Finished(End::Done))]).await.unwrap();
    assert!(world.is_empty().await);
}

pub(super) async fn a_job_is_not_claimed_before_it_is_due(world: World) {
    let due = world.now() + LATER;
    world.push(vec![NewJob::of(&Noop::new(Uuid::now_v7()), Lane::Interactive, due)]).await;

    assert!(world.claim(10).await.is_empty());
    assert_eq!(world.engine.next_due(POOL).await.unwrap(), Some(due));

    world.clock.crank(LATER);
    assert_eq!(world.claim(10).await.len(), 1);
    assert_eq!(world.engine.next_due(POOL).await.unwrap(), None);
}

pub(super) async fn interactive_goes_first_unless_it_is_the_turn_of_bulk(world: World) {
    let ids: Vec<Uuid> = (0..6).map(|_| Uuid::now_v7()).collect();
    let job = |index: usize, lane| NewJob::of(&Noop::new(ids[index]), lane, world.now());
    world.push((0..3).map(|index| job(index, Lane::Bulk)).collect()).await;
    world.push((3..6).map(|index| job(index, Lane::Interactive)).collect()).await;

    assert_eq!(subjects(&world.claim_with(2, Lane::Interactive).await), ids[3..5]);
    assert_eq!(subjects(&world.claim_with(1, Lane::Bulk).await), ids[0..1]);
    assert_eq!(subjects(&world.claim_with(2, Lane::Interactive).await), [ids[5], ids[1]]);
    assert_eq!(subjects(&world.claim_with(2, Lane::Bulk).await), ids[2..3]);
}

pub(super) async fn the_longest_due_goes_first(world: World) {
    let ids: Vec<Uuid> = (0..4).map(|_| Uuid::now_v7()).collect();
    let waits = [4_u64, 2, 3, 1];
    let job = |(id, wait): (&Uuid, u64)| {
        NewJob::of(&Noop::new(*id), Lane::Interactive, world.now() + Duration::from_secs(wait))
    };
    // When they are pushed none is due: of those that are, an engine may forget for how long.
    world.push(ids.iter().zip(waits).map(job).collect()).await;
    world.clock.crank(Duration::from_secs(9));

    assert_eq!(subjects(&world.claim(10).await), [ids[3], ids[1], ids[2], ids[0]]);
}

pub(super) async fn never_more_is_claimed_than_asked_for(world: World) {
    let job = |lane| NewJob::of(&Noop::new(Uuid::now_v7()), lane, world.now());
    world.push((0..5).map(|_| job(Lane::Interactive)).chain((0..5).map(|_| job(Lane::Bulk))).collect()).await;

    let counts = [world.claim(3).await.len(), world.claim(4).await.len(), world.claim(10).await.len()];
    assert_eq!(counts, [3, 4, 3]);
    assert!(world.claim(10).await.is_empty());
}

pub(super) async fn ten_thousand_jobs_are_pushed_at_once(world: World) {
    world.push((0..10_000).map(|_| world.job(Uuid::now_v7())).collect()).await;

    assert_eq!(world.depth().await.waiting, 10_000);
    let claimed = world.claim(10_000).await;
    let unique: HashSet<Uuid> = subjects(&claimed).into_iter().collect();
    assert_eq!(unique.len(), 10_000);
}

pub(super) async fn a_push_of_nothing_is_nothing(world: World) {
    world.push(Vec::new()).await;
    assert!(world.is_empty().await);
}

pub(super) async fn concurrent_pushes_and_claims_keep_a_job_unique(world: World) {
    let ids: Vec<Uuid> = (0..50).map(|_| Uuid::now_v7()).collect();
    let pushing = async {
        for _ in 0..20 {
            world.push(ids.iter().map(|id| world.job(*id)).collect()).await;
        }
    };
    let claiming = async {
        for _ in 0..40 {
            let claimed = world.claim(20).await;
            let unique: HashSet<Uuid> = subjects(&claimed).into_iter().collect();
            assert_eq!(unique.len(), claimed.len());
            let done: Vec<_> = claimed.iter().map(|job| (job.lease, Verdict::Finished(End::Done))).collect();
            world.engine.settle(&done).await.unwrap();
        }
    };
    futures_util::join!(pushing, claiming);

    let left = subjects(&world.claim(1_000).await);
    let unique: HashSet<Uuid> = left.iter().copied().collect();
    assert_eq!(unique.len(), left.len());
}

pub(super) async fn depths_tell_what_waits_is_due_and_runs(world: World) {
    world.push_one().await;
    world.claim_only().await;
    world.push(vec![NewJob::of(&Noop::new(Uuid::now_v7()), Lane::Interactive, world.now() + LATER)]).await;
    world.push_one().await;
    world.clock.crank(Duration::from_secs(5));

    let oldest_age = Duration::from_secs(5);
    let expected = Depth { pool: POOL, lane: Lane::Interactive, waiting: 2, due: 1, running: 1, oldest_age };
    assert_eq!(world.depth().await, expected);
}

pub(super) async fn what_there_is_about_something_is_told(world: World) {
    let (due, later, held, again) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    world.push(vec![world.job(held)]).await;
    world.claim_only().await;
    world.push(vec![world.job(again)]).await;
    let retried = Verdict::Retried { at: world.now() + LATER, error: "broken".to_owned() };
    world.engine.settle(&[(world.claim_only().await.lease, retried)]).await.unwrap();
    world.push(vec![world.job(due), NewJob::of(&Noop::new(later), Lane::Bulk, world.now() + LATER)]).await;
    world.push_one().await;

    let mut jobs = world.engine.about(&[due, later, held, again, Uuid::now_v7()]).await.unwrap();

    // Some engines leave the error to the ledger.
    assert!(jobs.iter().all(|job| job.error.is_none() || job.subject == again));
    jobs.iter_mut().for_each(|job| job.error = None);
    jobs.sort_by_key(|job| job.subject);
    let job = |subject, is_running, due, attempts| QueuedJob {
        kind: Noop::KIND.to_owned(),
        subject,
        pool: POOL,
        is_running,
        due,
        attempts,
        max_attempts: Noop::ATTEMPTS,
        error: None,
    };
    let (now, then) = (world.now(), world.now() + LATER);
    let expected =
        [job(due, false, now, 0), job(later, false, then, 0), job(held, true, now, 0), job(again, false, then, 1)];
    assert_eq!(jobs, expected);
    assert!(world.engine.about(&[]).await.unwrap().is_empty());
}
