//! What becomes of jobs whose worker does not come back.

use longshore_jobs::job::{End, Verdict};

use super::*;
use crate::queue::engine::{CRASH_CAP, CRASHED};

const DONE: Verdict = Verdict::Finished(End::Done);

pub(super) async fn a_job_comes_back_when_its_lease_runs_out(world: World) {
    let id = world.push_one().await;
    world.claim_only().await;

    world.clock.crank(world.almost);
    assert!(world.engine.reclaim().await.unwrap().is_empty());
    world.clock.crank(LEASE - world.almost);
    assert_eq!(world.engine.reclaim().await.unwrap()[&POOL], 1);

    let job = world.claim_only().await;
    assert_eq!((job.delivery.subject, job.losses), (id, 1));
    assert!(job.is_suspect());
}

pub(super) async fn a_renewed_lease_lasts_on(world: World) {
    world.push_one().await;
    let job = world.claim_only().await;

    world.clock.crank(world.almost);
    assert_eq!(world.engine.renew(&[job.lease]).await.unwrap(), [job.lease]);
    world.clock.crank(world.almost);
    assert!(world.engine.reclaim().await.unwrap().is_empty());
}

pub(super) async fn a_stale_token_does_nothing(world: World) {
    world.push_one().await;
    let stale = world.claim_only().await.lease;
    world.lose_leases().await;
    let held = world.claim_only().await;

    let error = || "too late".to_owned();
    world.engine.settle(&[(stale, DONE)]).await.unwrap();
    world.engine.settle(&[(stale, Verdict::Retried { at: world.now(), error: error() })]).await.unwrap();
    world.engine.settle(&[(stale, Verdict::Snoozed { until: world.now() })]).await.unwrap();
    world.engine.settle(&[(stale, Verdict::Dead { reason: "gave_up", error: error() })]).await.unwrap();
    world.engine.hand_back(&[stale]).await.unwrap();
    assert!(world.engine.renew(&[stale]).await.unwrap().is_empty());
    assert!(world.engine.mark_started(&[stale]).await.unwrap().is_empty());

    assert_eq!(world.depth().await.running, 1);
    assert!(world.letters().await.is_empty());
    assert_eq!(world.engine.renew(&[stale, held.lease]).await.unwrap(), [held.lease]);
    world.lose_leases().await;
    assert_eq!(world.claim_only().await.crashes, 0);
}

pub(super) async fn a_job_that_was_merely_claimed_is_not_blamed_for_a_crash(world: World) {
    world.push_one().await;
    for losses in 0..2 * CRASH_CAP {
        let job = world.claim_only().await;
        assert_eq!((job.losses, job.crashes), (losses, 0));
        world.lose_leases().await;
    }
}

pub(super) async fn a_job_that_ran_is_blamed_for_a_crash(world: World) {
    world.push_one().await;
    world.crash().await;

    let job = world.claim_only().await;
    assert_eq!((job.losses, job.crashes, job.delivery.attempt), (1, 1, 1));
}

pub(super) async fn the_fifth_crash_is_the_death_of_a_job(world: World) {
    let id = world.push_one().await;
    for _ in 1..CRASH_CAP {
        world.crash().await;
        assert!(world.letters().await.is_empty());
    }
    world.crash().await;

    assert!(world.is_empty().await);
    let letters = world.letters().await;
    assert_eq!((letters[0].subject, letters[0].reason.as_str()), (id, CRASHED));
    assert_eq!(letters[0].crashes, i64::from(CRASH_CAP));
}

pub(super) async fn a_crash_loop_is_not_kept_alive_by_signals(world: World) {
    let id = world.push_one().await;
    for _ in 0..CRASH_CAP {
        let job = world.claim_only().await;
        world.engine.mark_started(&[job.lease]).await.unwrap();
        world.push(vec![world.job(id)]).await;
        world.lose_leases().await;
    }

    assert!(world.is_empty().await);
    assert_eq!(world.letters().await[0].reason, CRASHED);
}

pub(super) async fn a_hand_back_counts_nothing(world: World) {
    let id = world.push_one().await;
    let job = world.claim_only().await;
    world.engine.mark_started(&[job.lease]).await.unwrap();
    world.push(vec![world.job(id)]).await;

    world.engine.hand_back(&[job.lease]).await.unwrap();

    let job = world.claim_only().await;
    assert_eq!((job.losses, job.crashes, job.delivery.attempt), (0, 0, 1));
    world.engine.settle(&[(job.lease, DONE)]).await.unwrap();
    assert!(world.is_empty().await);
}

pub(super) async fn voided_leases_are_lost_at_once(world: World) {
    world.push_one().await;
    let job = world.claim_only().await;
    world.engine.mark_started(&[job.lease]).await.unwrap();

    assert_eq!(world.engine.void_leases().await.unwrap()[&POOL], 1);

    let job = world.claim_only().await;
    assert_eq!((job.losses, job.crashes), (1, 1));
}

pub(super) async fn a_push_during_a_lost_run_is_kept(world: World) {
    let id = Uuid::now_v7();
    world.push(vec![NewJob::of(&Noop::new(id), Lane::Bulk, world.now())]).await;
    world.claim_only().await;

    world.push(vec![world.job(id)]).await;
    world.lose_leases().await;

    // It has not run to its end, so the run to come answers both pushes.
    let job = world.claim_only().await;
    assert_eq!(job.lease.lane, Lane::Interactive);
    world.engine.settle(&[(job.lease, DONE)]).await.unwrap();
    assert!(world.is_empty().await);
}
