//! What becomes of jobs that have run.

use longshore_jobs::job::{End, Verdict};
use longshore_jobs::ledger::dead_letters::Retried;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn dead() -> Verdict {
    Verdict::Dead { reason: "gave_up", error: "no use".to_owned() }
}

pub(super) async fn a_finished_job_is_forgotten(world: World) {
    world.push((0..3).map(|_| world.job(Uuid::now_v7())).collect()).await;
    let claimed = world.claim(3).await;

    world.engine.settle(&[(claimed[0].lease, Verdict::Finished(End::Done))]).await.unwrap();
    world.engine.settle(&[(claimed[1].lease, Verdict::Finished(End::Moot))]).await.unwrap();

    assert_eq!(world.depth().await.running, 1);
}

pub(super) async fn a_snoozed_job_keeps_its_attempts(world: World) {
    world.push_one().await;
    for _ in 0..3 {
        let job = world.claim_only().await;
        assert_eq!(job.delivery.attempt, 1);
        world.engine.settle(&[(job.lease, Verdict::Snoozed { until: world.now() + MINUTE })]).await.unwrap();

        assert!(world.claim(1).await.is_empty());
        world.clock.crank(MINUTE);
    }
}

pub(super) async fn a_retried_job_waits_for_its_time_with_one_attempt_more(world: World) {
    world.push_one().await;
    for attempt in 1..4 {
        let job = world.claim_only().await;
        assert_eq!(job.delivery.attempt, attempt);
        let verdict = Verdict::Retried { at: world.now() + MINUTE, error: "try again".to_owned() };
        world.engine.settle(&[(job.lease, verdict)]).await.unwrap();

        assert!(world.claim(1).await.is_empty());
        assert_eq!(world.engine.next_due(POOL).await.unwrap(), Some(world.now() + MINUTE));
        world.clock.crank(MINUTE);
    }
}

pub(super) async fn a_dead_job_is_kept_as_a_letter_with_its_error(world: World) {
    let id = world.push_one().await;
    let job = world.claim_only().await;

    world.engine.settle(&[(job.lease, dead())]).await.unwrap();

    assert!(world.is_empty().await);
    let letters = world.letters().await;
    assert_eq!(letters.len(), 1);
    let letter = &letters[0];
    assert_eq!((letter.kind.as_str(), letter.subject, letter.pool), (Noop::KIND, id, POOL));
    assert_eq!((letter.reason.as_str(), letter.error.as_str()), ("gave_up", "no use"));
    assert_eq!((letter.attempts, letter.crashes, letter.died_at), (1, 0, world.now()));
}

pub(super) async fn a_job_that_dies_after_a_fresh_signal_starts_over(world: World) {
    let id = world.push_one().await;
    let job = world.claim_only().await;
    let retried = Verdict::Retried { at: world.now(), error: "try again".to_owned() };
    world.engine.settle(&[(job.lease, retried)]).await.unwrap();
    let job = world.claim_only().await;
    assert_eq!(job.delivery.attempt, 2);

    world.push(vec![world.job(id)]).await;
    world.engine.settle(&[(job.lease, dead())]).await.unwrap();

    assert!(world.letters().await.is_empty());
    let job = world.claim_only().await;
    assert_eq!(job.delivery.attempt, 1);
    world.engine.settle(&[(job.lease, dead())]).await.unwrap();
    assert_eq!(world.letters().await.len(), 1);
}

pub(super) async fn a_retry_after_a_fresh_signal_does_not_wait(world: World) {
    let id = world.push_one().await;
    let job = world.claim_only().await;

    world.push(vec![world.job(id)]).await;
    let retried = Verdict::Retried { at: world.now() + MINUTE, error: "try again".to_owned() };
    world.engine.settle(&[(job.lease, retried)]).await.unwrap();

    assert_eq!(world.claim_only().await.delivery.attempt, 2);
}

pub(super) async fn a_dead_letter_is_put_on_again_with_all_attempts(world: World) {
    let id = world.push_one().await;
    let job = world.claim_only().await;
    world.engine.settle(&[(job.lease, dead())]).await.unwrap();

    let filter = Filter { subject: Some(id), ..Filter::default() };
    let retried = dead_letters::retry(&world.db, &*world.engine, &filter, world.now()).await.unwrap();

    assert_eq!(retried, Retried { put_on: 1, unknown: 0, more: false });
    assert!(world.letters().await.is_empty());
    let job = world.claim_only().await;
    assert_eq!((job.delivery.subject, job.delivery.attempt), (id, 1));
}

pub(super) async fn one_batch_may_hold_every_kind_of_verdict(world: World) {
    world.push((0..4).map(|_| world.job(Uuid::now_v7())).collect()).await;
    let claimed = world.claim(4).await;
    let verdicts = [
        Verdict::Finished(End::Done),
        Verdict::Snoozed { until: world.now() + MINUTE },
        Verdict::Retried { at: world.now() + MINUTE, error: "try \"again\"".to_owned() },
        dead(),
    ];
    let settled: Vec<_> = claimed.iter().map(|job| job.lease).zip(verdicts).collect();

    world.engine.settle(&settled).await.unwrap();

    world.clock.crank(MINUTE);
    let mut attempts: Vec<_> = world.claim(4).await.iter().map(|job| job.delivery.attempt).collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 2]);
    assert_eq!(world.letters().await.len(), 1);
}
