//! Workers, as the ledger shows them: pools that stand still, jobs that are dead, schedules that do not tick.

use std::time::Duration;

use longshore_jobs::job::{Pool, with_causes};
use longshore_jobs::ledger::{Db, LedgerError, dead_letters, pools, schedules};
use longshore_jobs::model::Timestamp;

use super::{Finding, Outcome, told};

/// The busiest schedules tick every few seconds. Somebody may have slowed them down, so this is generous.
pub(super) const LONG_WITHOUT_TICK: Duration = Duration::from_secs(300);

/// `runs`: whether somebody should be running.
pub(super) async fn look(db: Db, runs: bool) -> Vec<Finding> {
    let ticks = schedules::last_ticks(&db).await.map(|ticks| judge_ticks(&ticks, Timestamp::system_now(), runs));
    let paused = pools::paused(&db).await.map(|paused| judge_pauses(&paused));
    let dead = dead_letters::count_by_pool(&db).await.map(|dead| judge_dead(&dead));
    vec![known(ticks).of("schedules"), known(paused).of("pools"), known(dead).of("dead letters")]
}

fn known(judged: Result<Outcome, LedgerError>) -> Outcome {
    judged.unwrap_or_else(|error| {
        Outcome::failed(format!("the ledger cannot be read: {}", with_causes(&error)), "see the checks of the ledger")
    })
}

fn judge_ticks(ticks: &[(String, Timestamp)], now: Timestamp, runs: bool) -> Outcome {
    let Some((kind, last)) = ticks.iter().max_by_key(|(_, at)| *at) else {
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
