//! Workers, as the ledger shows them: pools that nobody works or that stand still, jobs that fail or are dead, schedules that do
//! not tick.

use std::time::Duration;

use longshore_jobs::job::{Pool, with_causes};
use longshore_jobs::ledger::failures::{self, Cause};
use longshore_jobs::ledger::uploads::{self, Open};
use longshore_jobs::ledger::{Db, LedgerError, dead_letters, pools, schedules, workers};
use longshore_jobs::model::Timestamp;

use super::{Finding, Outcome, SERVICE, WORKERS, told};

/// What an upload needs on its way.
const NEEDED: [Pool; 4] = [Pool::Issue, Pool::Arrive, Pool::Verify, Pool::Store];
/// At how many failures of that time it looks.
const LOOKED_AT: i64 = 10_000;
/// What has failed of late.
const LATELY: Duration = Duration::from_secs(900);

/// The busiest schedules tick every few seconds. Somebody may have slowed them down, so this is generous.
const LONG_WITHOUT_TICK: Duration = Duration::from_secs(300);

/// `runs`: whether somebody should be running; `here`: whether all of it serves on this machine.
pub(super) async fn look(db: Db, runs: bool, here: bool) -> Vec<Finding> {
    let now = Timestamp::system_now();
    let ticked = schedules::last_ticks(&db).await;
    let staff = workers::by_pool(&db, now).await.map(|staff| staff.into_keys().collect::<Vec<_>>());
    let open = uploads::open(&db).await;
    let served = match (&ticked, open) {
        (Ok(ticks), Ok(open)) if !runs => judge_service(last(ticks), &open, now),
        _ => None,
    };
    let staffed = staff.map(|staff| judge_staff(&staff, runs, here));
    let ticks = ticked.map(|ticks| judge_ticks(&ticks, now, runs));
    let retries = failures::causes_of_living(&db, now - LATELY, LOOKED_AT).await;
    let retries = retries.map(|causes| judge_retries(&causes));
    let paused = pools::paused(&db).await.map(|paused| judge_pauses(&paused));
    let dead = dead_letters::count_by_pool(&db).await.map(|dead| judge_dead(&dead));
    let mut findings: Vec<Finding> = served.map(|outcome| outcome.of(SERVICE)).into_iter().collect();
    findings.extend([
        known(staffed).of(WORKERS),
        known(ticks).of("schedules"),
        known(paused).of("pools"),
        known(retries).of("retries"),
        known(dead).of("dead letters"),
    ]);
    findings
}

/// Whether some worker of ours is there for this pool.
pub(super) async fn are_there(db: &Db, pool: Pool) -> Result<bool, LedgerError> {
    Ok(workers::by_pool(db, Timestamp::system_now()).await?.contains_key(&pool))
}

pub(super) fn known(judged: Result<Outcome, LedgerError>) -> Outcome {
    judged.unwrap_or_else(|error| {
        Outcome::failed(format!("the ledger cannot be read: {}", with_causes(&error)), "see the checks of the ledger")
    })
}

fn last(ticks: &[(String, Timestamp)]) -> Option<&(String, Timestamp)> {
    ticks.iter().max_by_key(|(_, at)| *at)
}

/// Nobody serves a ledger that was worked with: `None` where it never was, and nobody is missed.
fn judge_service(ticked: Option<&(String, Timestamp)>, open: &[Open], now: Timestamp) -> Option<Outcome> {
    let waiting: i64 = open.iter().map(|open| open.count).sum();
    let since = match ticked {
        Some((_, at)) => format!("the last schedule ticked {} ago", told(now.since(*at))),
        None if waiting > 0 => "no schedule has ever ticked".to_owned(),
        None => return None,
    };
    let waiting =
        if waiting > 0 { format!(", and {waiting} uploads are on their way and wait") } else { String::new() };
    Some(Outcome::warning(
        format!("nobody serves now; {since}{waiting}"),
        "start it: `longshore up`, or `systemctl start longshore`; the end of its log says why it is gone",
    ))
}

fn judge_staff(staffed: &[Pool], runs: bool, here: bool) -> Outcome {
    let missing: Vec<Pool> = Pool::ALL.iter().copied().filter(|pool| !staffed.contains(pool)).collect();
    if !runs {
        return Outcome::skipped("nobody serves here now");
    }
    if missing.is_empty() {
        return Outcome::ok("every pool has a worker");
    }
    if here && staffed.is_empty() {
        return Outcome::failed(
            format!("the service is there, and could not write for {} that it works", told(workers::GONE)),
            "see `ledger write` and the disks above, and the log of the service",
        );
    }
    let names = |between: &str| missing.iter().map(|pool| pool.as_str()).collect::<Vec<_>>().join(between);
    let detail = format!("no worker works {}", names(", "));
    let start = if staffed.is_empty() {
        "start `longshore worker`, or `longshore up`".to_owned()
    } else {
        format!("start `longshore worker --pools {}`, or `longshore worker` for all", names(","))
    };
    if missing.iter().any(|pool| NEEDED.contains(pool)) {
        return Outcome::failed(format!("{detail}: uploads stand still"), start);
    }
    Outcome::warning(detail, start)
}

fn judge_retries(causes: &[Cause]) -> Outcome {
    let Some(most) = causes.first() else {
        return Outcome::ok(format!("no job has failed in the last {}", told(LATELY)));
    };
    let jobs: i64 = causes.iter().map(|cause| cause.jobs).sum();
    let told_of = if jobs == 1 { "1 job has".to_owned() } else { format!("{jobs} jobs have") };
    Outcome::warning(
        format!(
            "{told_of} failed in the last {}, and are tried again; most, {}, of: {}",
            told(LATELY),
            most.kind,
            most.error
        ),
        "longshore status\nwhat it names has to be mended; the jobs then go on by themselves",
    )
}

fn judge_ticks(ticks: &[(String, Timestamp)], now: Timestamp, runs: bool) -> Outcome {
    let Some((kind, last)) = last(ticks) else {
        return if runs {
            Outcome::warning("no schedule has ever ticked: no worker has run yet", "longshore worker, or longshore up")
        } else {
            Outcome::skipped("no worker has run yet")
        };
    };
    let age = now.since(*last);
    if last.since(now) > LONG_WITHOUT_TICK {
        return Outcome::warning(
            format!("{kind} ticked at {last}, which is yet to come: a clock was, or is, wrong"),
            "set the clocks of all machines by NTP: `timedatectl set-ntp true`",
        );
    }
    if age > LONG_WITHOUT_TICK {
        return if runs {
            Outcome::warning(
                format!("no schedule has ticked for {}: no worker runs", told(age)),
                "start one: `longshore worker`, or `longshore up`",
            )
        } else {
            Outcome::skipped(format!("nobody serves here now; the last tick was {} ago", told(age)))
        };
    }
    Outcome::ok(format!("{kind} ticked {} ago", told(age)))
}

fn judge_pauses(paused: &[(Pool, Timestamp)]) -> Outcome {
    if paused.is_empty() {
        return Outcome::ok("none is paused");
    }
    let since: Vec<_> = paused.iter().map(|(pool, at)| format!("{pool} (since {at})")).collect();
    let resume: Vec<_> = paused.iter().map(|(pool, _)| format!("longshore pool resume {pool}")).collect();
    Outcome::warning(format!("paused, and their jobs wait: {}", since.join(", ")), resume.join("\n"))
}

fn judge_dead(dead: &[(Pool, i64)]) -> Outcome {
    let dead: Vec<_> = dead.iter().filter(|(_, count)| *count > 0).collect();
    if dead.is_empty() {
        return Outcome::ok("none");
    }
    let counts: Vec<_> = dead.iter().map(|(pool, count)| format!("{count} of {pool}")).collect();
    Outcome::warning(
        format!("jobs are dead and wait for a person: {}", counts.join(", ")),
        "longshore jobs list\nthen `longshore jobs explain ID`, and `longshore jobs retry ID` once the cause is mended",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use uuid::Uuid;

    use super::*;

    fn status(outcome: Outcome) -> Status {
        outcome.of("x").status()
    }

    #[test]
    fn schedules_tick_as_long_as_a_worker_runs() {
        let now = Timestamp::system_now();
        let judge = |at, runs| status(judge_ticks(&[("fold_reports".to_owned(), at)], now, runs));
        assert_eq!(judge(now - Duration::from_secs(10), true), Status::Ok);
        assert_eq!(judge(now - Duration::from_secs(900), true), Status::Warning);
        assert_eq!(judge(now - Duration::from_secs(900), false), Status::Skipped);
        assert_eq!(judge(now + Duration::from_secs(900), true), Status::Warning);
        assert_eq!(status(judge_ticks(&[], now, true)), Status::Warning);
    }

    #[test]
    fn a_service_that_is_gone_is_missed_where_there_was_one() {
        let now = Timestamp::system_now();
        let ticked = ("fold_reports".to_owned(), now - Duration::from_secs(300));
        let open = [Open { status: longshore_jobs::model::Status::Arrived, count: 4, oldest: now }];

        assert_eq!(judge_service(None, &[], now), None);
        let Some(Outcome::Warning(gone)) = judge_service(Some(&ticked), &open, now) else { panic!("a warning") };
        assert_eq!(
            gone.detail,
            "nobody serves now; the last schedule ticked 5 min ago, and 4 uploads are on their way and wait"
        );
        assert!(judge_service(None, &open, now).is_some());
    }

    #[test]
    fn pools_without_a_worker_are_named() {
        let but =
            |missing: &[Pool]| Pool::ALL.iter().copied().filter(|pool| !missing.contains(pool)).collect::<Vec<_>>();
        assert_eq!(status(judge_staff(Pool::ALL, true, false)), Status::Ok);
        assert_eq!(status(judge_staff(&but(&[Pool::Report]), true, false)), Status::Warning);
        assert_eq!(status(judge_staff(Pool::ALL, false, false)), Status::Skipped, "the last beat of the dead");
        let Outcome::Failed(trouble) = judge_staff(&[], true, true) else { panic!("failed") };
        assert!(trouble.mend.contains("disks"), "it runs: {}", trouble.mend);

        let Outcome::Failed(trouble) = judge_staff(&but(&[Pool::Issue, Pool::Arrive]), true, false) else {
            panic!("failed")
        };
        assert_eq!(trouble.detail, "no worker works issue, arrive: uploads stand still");
        assert!(trouble.mend.contains("--pools issue,arrive"), "{}", trouble.mend);
    }

    #[test]
    fn jobs_that_are_tried_again_are_told_of_with_what_most_fail_of() {
        let cause = |jobs, error: &str| Cause {
            kind: "verify_upload".to_owned(),
            jobs,
            attempts: jobs,
            last_at: Timestamp::from_millis(0),
            example: Uuid::nil(),
            error: error.to_owned(),
        };
        assert_eq!(status(judge_retries(&[])), Status::Ok);
        let Outcome::Warning(trouble) = judge_retries(&[cause(3, "permission denied"), cause(1, "another")]) else {
            panic!("a warning")
        };
        assert!(trouble.detail.starts_with("4 jobs have failed in the last 15 min"), "{}", trouble.detail);
        assert!(trouble.detail.ends_with("verify_upload, of: permission denied"), "{}", trouble.detail);
    }

    #[test]
    fn a_paused_pool_is_told_of_with_how_to_resume_it() {
        let told = judge_pauses(&[(Pool::Verify, Timestamp::from_millis(0))]);
        let Outcome::Warning(trouble) = told else { panic!("a warning") };
        assert_eq!(trouble.mend, "longshore pool resume verify");
        assert_eq!(status(judge_pauses(&[])), Status::Ok);
    }

    #[test]
    fn dead_letters_are_counted_by_pool() {
        assert_eq!(status(judge_dead(&[(Pool::Store, 0)])), Status::Ok);
        assert_eq!(status(judge_dead(&[(Pool::Store, 2)])), Status::Warning);
    }
}
