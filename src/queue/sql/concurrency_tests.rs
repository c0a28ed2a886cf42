//! Two processes on one queue, as PostgreSQL allows.

use std::collections::HashSet;
use std::time::Duration;

use longshore_jobs::job::{End, Job as _};
use longshore_jobs::ledger::dead_letters;
use longshore_jobs::noop::Noop;
use longshore_jobs::outside::SystemClock;
use longshore_jobs::testkit::World;
use longshore_jobs::{on_postgres, sql};
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::queue::engine::LEASE;

/// Longer than any test takes, unless what it waits for never comes.
const LONG: Duration = Duration::from_secs(20);

on_postgres! {
    a_job_is_claimed_by_one_of_two_processes,
    a_push_during_the_end_of_a_run_is_never_swallowed,
    outcomes_that_had_to_wait_for_a_renewal_are_all_stored,
    a_lost_job_is_rescued_once_by_many,
    pushes_renewals_and_outcomes_of_the_same_jobs_do_not_block_each_other,
    a_push_in_one_process_rings_in_another,
    an_error_that_holds_a_nul_is_kept_without_it,
    leases_go_by_one_clock_however_wrong_those_of_some_machines_are,
}

/// The queue as two processes have it.
async fn two_of(world: &World) -> (SqlQueue, SqlQueue) {
    let clock = || Arc::clone(&world.clock) as Arc<dyn Clock>;
    (SqlQueue::new(world.ctx.db.clone(), clock()), SqlQueue::new(world.beside().await, clock()))
}

fn jobs(world: &World, count: usize) -> Vec<NewJob> {
    (0..count).map(|_| NewJob::of(&Noop::new(Uuid::now_v7()), Lane::Bulk, world.clock.now())).collect()
}

async fn claim(queue: &SqlQueue, max: usize) -> Vec<Claimed> {
    let asked = Claim { pool: Noop::POOL, worker: "tester".into(), max, first: Lane::Interactive };
    Engine::claim(queue, &asked).await.unwrap()
}

fn finished(claimed: &[Claimed]) -> Vec<(Lease, Verdict)> {
    claimed.iter().map(|job| (job.lease, Verdict::Finished(End::Done))).collect()
}

async fn a_job_is_claimed_by_one_of_two_processes(world: World) {
    let (one, two) = two_of(&world).await;
    one.push(jobs(&world, 2_000)).await.unwrap();

    let mut seen = HashSet::new();
    loop {
        let (first, second) = tokio::join!(claim(&one, 70), claim(&two, 70));
        assert!(first.len() <= 70 && second.len() <= 70);
        if first.is_empty() && second.is_empty() {
            break;
        }
        assert!(first.iter().chain(&second).all(|job| seen.insert(job.lease.id)), "a job was lent out twice");
    }
    assert_eq!(seen.len(), 2_000);
}

async fn a_push_during_the_end_of_a_run_is_never_swallowed(world: World) {
    let (one, two) = two_of(&world).await;
    for round in 0..60 {
        let pushed = jobs(&world, 20);
        one.push(pushed.clone()).await.unwrap();
        let claimed = claim(&one, 20).await;

        let outcomes = finished(&claimed);
        let (settled, again) = tokio::join!(one.settle(&outcomes), two.push(pushed));
        settled.unwrap();
        again.unwrap();

        let waiting = claim(&two, 100).await;
        assert_eq!(waiting.len(), 20, "round {round}");
        two.settle(&finished(&waiting)).await.unwrap();
    }
    assert!(one.depths().await.unwrap().is_empty());
}

/// A statement that waited looks at each row again, and has to find its entry in the list.
async fn outcomes_that_had_to_wait_for_a_renewal_are_all_stored(world: World) {
    let (one, two) = two_of(&world).await;
    one.push(jobs(&world, 20)).await.unwrap();
    let claimed = claim(&one, 20).await;
    let (begun, begins) = tokio::sync::oneshot::channel();
    let renewing = two.db.write(move |mut tx| {
        Box::pin(async move {
            let query = "update jobs set lease_until = lease_until + 1";
            sql!(tx.on(), c => sqlx::query(query).execute(c).await.map(drop))?;
            begun.send(()).unwrap();
            // Meanwhile the outcomes come to wait for these rows.
            let query = "select cast(pg_sleep(0.3) as text)";
            sql!(tx.on(), c => sqlx::query(query).execute(c).await.map(drop))?;
            Ok(())
        })
    });
    let outcomes = finished(&claimed);
    let settling = async {
        begins.await.unwrap();
        one.settle(&outcomes).await
    };

    let (renewed, settled) = tokio::join!(renewing, settling);

    renewed.unwrap();
    settled.unwrap();
    assert!(one.depths().await.unwrap().is_empty());
}

async fn a_lost_job_is_rescued_once_by_many(world: World) {
    let (one, two) = two_of(&world).await;
    one.push(jobs(&world, 300)).await.unwrap();
    let lost = claim(&one, 300).await;
    let leases: Vec<Lease> = lost.iter().map(|job| job.lease).collect();
    one.mark_started(&leases).await.unwrap();
    world.clock.advance(LEASE);

    let (first, second) = tokio::join!(one.reclaim(), two.reclaim());

    let rescued = |found: HashMap<Pool, u64>| found.into_values().sum::<u64>();
    let again = rescued(two.reclaim().await.unwrap());
    assert_eq!(rescued(first.unwrap()) + rescued(second.unwrap()) + again, 300);
    assert!(claim(&two, 300).await.iter().all(|job| (job.losses, job.crashes) == (1, 1)));
}

async fn pushes_renewals_and_outcomes_of_the_same_jobs_do_not_block_each_other(world: World) {
    let (one, two) = two_of(&world).await;
    let pushed = jobs(&world, 200);
    one.push(pushed.clone()).await.unwrap();
    let now = world.clock.now();
    for _ in 0..20 {
        let claimed = claim(&one, 200).await;
        let leases: Vec<Lease> = claimed.iter().map(|job| job.lease).collect();
        let retried = Verdict::Retried { at: now, error: "for a test".to_owned() };
        let mut outcomes = finished(&claimed);
        outcomes.iter_mut().step_by(2).for_each(|outcome| outcome.1 = retried.clone());

        let backwards = pushed.iter().rev().cloned().collect();
        let (renewed, settled, again) = tokio::join!(one.renew(&leases), one.settle(&outcomes), two.push(backwards));

        renewed.unwrap();
        settled.unwrap();
        again.unwrap();
    }
    assert_eq!(claim(&one, 1_000).await.len(), 200);
}

async fn a_push_in_one_process_rings_in_another(world: World) {
    let (one, two) = two_of(&world).await;
    // The line may not have been taken up yet; whoever takes it up rings every bell once, since something may have been missed.
    timeout(LONG, two.wakes().woken(Noop::POOL)).await.expect("the line is taken up");

    one.push(jobs(&world, 1)).await.unwrap();

    timeout(LONG, two.wakes().woken(Noop::POOL)).await.expect("the bell rings");
}

async fn an_error_that_holds_a_nul_is_kept_without_it(world: World) {
    let (one, _) = two_of(&world).await;
    let error = || "the server said \0".to_owned();
    one.push(jobs(&world, 3)).await.unwrap();
    let claimed = claim(&one, 3).await;
    let (at, reason) = (world.clock.now(), "attempts");
    // Pushed again meanwhile, so that its death is a fresh start.
    let again = NewJob::of(&Noop::new(claimed[2].delivery.subject), Lane::Bulk, at);
    one.push(vec![again]).await.unwrap();
    let verdicts = [
        (claimed[0].lease, Verdict::Retried { at, error: error() }),
        (claimed[1].lease, Verdict::Dead { reason, error: error() }),
        (claimed[2].lease, Verdict::Dead { reason, error: error() }),
    ];

    one.settle(&verdicts).await.unwrap();

    let letters = dead_letters::list(&world.ctx.db, &dead_letters::Filter::default(), 9).await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.error.as_str()).collect::<Vec<_>>(), ["the server said \u{fffd}"]);
    assert_eq!(claim(&one, 3).await.len(), 2);
}

/// A clock that is ahead, or behind, by some milliseconds.
struct Wrong(i64);

impl Clock for Wrong {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(SystemClock.now().as_millis() + self.0)
    }
}

async fn leases_go_by_one_clock_however_wrong_those_of_some_machines_are(world: World) {
    let on = async |clock: Wrong| SqlQueue::shared(world.ctx.db.clone(), Arc::new(clock)).await.unwrap();
    let (right, ahead, behind) = (on(Wrong(0)).await, on(Wrong(60_000)).await, on(Wrong(-60_000)).await);
    right.push(jobs(&world, 3)).await.unwrap();

    for queue in [&right, &ahead, &behind] {
        let held = claim(queue, 1).await;
        assert_eq!(held.len(), 1);
        let leases = [held[0].lease];
        for rescuer in [&right, &ahead, &behind] {
            assert!(rescuer.reclaim().await.unwrap().is_empty(), "it was claimed a moment ago");
        }
        assert_eq!(queue.renew(&leases).await.unwrap(), leases);
        for rescuer in [&right, &ahead, &behind] {
            assert!(rescuer.reclaim().await.unwrap().is_empty(), "it was renewed a moment ago");
        }
    }
    let query = "select cast(max(lease_until) - min(lease_until) as bigint) from jobs";
    let apart: i64 = sql!(world.ctx.db.reader(), c => sqlx::query_scalar(query).fetch_one(c).await).unwrap();
    assert!(apart < i64::try_from(LEASE.as_millis()).unwrap(), "the leases of some last {apart} ms longer");
}
