//! What jobs have failed of: one row for each job, kept for a while when it has succeeded since, wherever the queue lives.

use std::collections::HashMap;

use serde_json::json;
use uuid::Uuid;

use super::steps::listed;
use super::{Db, LedgerError, keepable};
use crate::model::Timestamp;

/// How much of an error is kept, in bytes.
const LONGEST: usize = 4_000;

/// The failed attempts of one job.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Failure {
    /// What the job was about.
    pub subject: Uuid,
    /// The job's name.
    pub kind: String,
    /// How many attempts have failed; of several jobs of this kind about the same, all together.
    pub attempts: i64,
    /// When the first one did.
    pub first_at: Timestamp,
    /// When the last one did.
    pub last_at: Timestamp,
    /// Of what the last one failed, with its causes.
    pub error: String,
}

/// Keeps one failed attempt. It may be lost in a power cut.
pub async fn note(db: &Db, (subject, kind): (Uuid, &str), error: &str, now: Timestamp) -> Result<(), LedgerError> {
    let (kind, error) = (kind.to_owned(), keepable(&error[..error.floor_char_boundary(LONGEST)]));
    let query = "insert into job_failures (subject, kind, attempts, first_at, last_at, error)
        values ($1, $2, 1, $3, $3, $4)
        on conflict (subject, kind) do update
        set attempts = job_failures.attempts + 1, last_at = excluded.last_at, error = excluded.error";
    db.write_hint(move |mut tx| {
        Box::pin(async move {
            sql!(tx.on(), c => sqlx::query(query)
                .bind(subject)
                .bind(kind)
                .bind(now)
                .bind(error)
                .execute(c).await.map(drop))?;
            Ok(())
        })
    })
    .await
}

/// The failures of jobs about these, in the order in which they began.
pub async fn of(db: &Db, subjects: &[Uuid]) -> Result<Vec<Failure>, LedgerError> {
    let query = "select subject, kind, attempts, first_at, last_at, error
        from job_failures
        where subject in (select unhex(atom) from json_each($1))
        order by first_at, kind";
    let list = json!(subjects.iter().copied().map(listed).collect::<Vec<_>>()).to_string();
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(list).fetch_all(c).await)?)
}

/// What jobs of one kind have failed of lately, in the same words but for ids and paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The jobs' name.
    pub kind: String,
    /// How many jobs.
    pub jobs: i64,
    /// How many attempts of theirs.
    pub attempts: i64,
    /// When the last one failed.
    pub last_at: Timestamp,
    /// The error of that one.
    pub error: String,
    /// What that one was about; nil when it was about everything.
    pub example: Uuid,
}

macro_rules! lately {
    ($condition:literal) => {
        concat!(
            "select subject, kind, attempts, first_at, last_at, substr(error, 1, 600) as error
            from job_failures lately
            where last_at >= $1 ",
            $condition,
            " order by last_at desc
            limit $2"
        )
    };
}

/// What jobs have failed of since then, what most have failed of first. Of very many, the last `limit` are looked at.
pub async fn causes(db: &Db, since: Timestamp, limit: i64) -> Result<Vec<Cause>, LedgerError> {
    let query = lately!("");
    Ok(grouped(sql!(db.reader(), c => sqlx::query_as(query).bind(since).bind(limit).fetch_all(c).await)?))
}

/// As [`causes`], of jobs that are not dead.
pub async fn causes_of_living(db: &Db, since: Timestamp, limit: i64) -> Result<Vec<Cause>, LedgerError> {
    let query = lately!(
        "and not exists (
            select 1 from dead_letters dead where dead.subject = lately.subject and dead.kind = lately.kind)"
    );
    Ok(grouped(sql!(db.reader(), c => sqlx::query_as(query).bind(since).bind(limit).fetch_all(c).await)?))
}

fn grouped(latest_first: Vec<Failure>) -> Vec<Cause> {
    let mut causes: HashMap<(String, String), Cause> = HashMap::new();
    for Failure { subject, kind, attempts, last_at, error, .. } in latest_first {
        let cause = causes.entry((kind.clone(), in_general(&error))).or_insert_with(|| Cause {
            kind,
            jobs: 0,
            attempts: 0,
            last_at,
            error,
            example: subject,
        });
        cause.jobs += 1;
        cause.attempts += attempts;
    }
    let mut causes: Vec<Cause> = causes.into_values().collect();
    causes.sort_by(|one, other| (other.jobs, other.last_at, &one.kind).cmp(&(one.jobs, one.last_at, &other.kind)));
    causes
}

/// The error without what is of one job alone: words that hold an id, a digest or a random name.
fn in_general(error: &str) -> String {
    let is_of_digits = |part: &str| {
        let digits = part.bytes().filter(u8::is_ascii_hexdigit).count();
        digits >= 16 && digits + part.matches('-').count() == part.len()
    };
    let of_one_job = |word: &str| word.split(|one: char| !one.is_ascii_alphanumeric() && one != '-').any(is_of_digits);
    let words = error.split_whitespace().map(|word| if of_one_job(word) { "…" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// Forgets those whose last attempt failed until `before`, at most so many. Returns how many.
pub async fn forget(db: &Db, before: Timestamp, limit: i64) -> Result<u64, LedgerError> {
    // PostgreSQL, which looks again at a row that has failed once more meanwhile, looks at the outer conditions alone.
    let query = "delete from job_failures
        where last_at <= $1 and (subject, kind) in (
            select subject, kind from job_failures where last_at <= $1 order by last_at limit $2)";
    db.write_one(move |mut tx| {
        Box::pin(async move {
            Ok(sql!(tx.on(), c => sqlx::query(query).bind(before).bind(limit).execute(c).await?.rows_affected()))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Job as _;
    use crate::job::{Delivery, perform};
    use crate::noop::{Act, Noop};
    use crate::testkit::World;

    crate::on_every_engine! {
        attempts_that_fail_are_counted_with_the_last_error,
        what_many_fail_of_is_told_once_and_first,
        what_differs_behind_the_same_beginning_is_told_apart,
        the_dead_are_not_among_the_living,
        an_attempt_that_ends_well_or_too_early_leaves_no_trace,
        what_no_text_of_the_ledger_can_hold_is_kept_as_far_as_it_can_be,
    }

    async fn attempt(world: &World, id: Uuid, act: Act, attempt: u32) {
        let payload = serde_json::to_string(&Noop { id, act }).unwrap();
        let (kind, due) = (Noop::KIND.to_owned(), world.ctx.now());
        perform(&world.ctx, &Delivery { kind, subject: id, payload, attempt, max_attempts: 3, due }).await;
    }

    async fn attempts_that_fail_are_counted_with_the_last_error(world: World) {
        let (id, began) = (Uuid::now_v7(), world.ctx.now());
        attempt(&world, id, Act::Fail, 1).await;
        world.clock.advance(std::time::Duration::from_secs(5));
        attempt(&world, id, Act::Panic, 2).await;
        attempt(&world, id, Act::Fail, 3).await;
        attempt(&world, Uuid::now_v7(), Act::GiveUp, 1).await;

        let (kind, error) = (Noop::KIND.to_owned(), "it was told to fail".to_owned());
        let expected = Failure { subject: id, kind, attempts: 3, first_at: began, last_at: world.ctx.now(), error };
        assert_eq!(of(&world.ctx.db, &[id]).await.unwrap(), [expected]);
    }

    async fn what_many_fail_of_is_told_once_and_first(world: World) {
        attempt(&world, Uuid::now_v7(), Act::Fail, 1).await;
        world.clock.advance(std::time::Duration::from_secs(5));
        let since = world.ctx.now();
        attempt(&world, Uuid::now_v7(), Act::Panic, 1).await;
        for id in [Uuid::now_v7(), Uuid::now_v7()] {
            attempt(&world, id, Act::Fail, 1).await;
            attempt(&world, id, Act::Fail, 2).await;
        }

        let causes = causes(&world.ctx.db, since, 100).await.unwrap();

        let told: Vec<_> = causes.iter().map(|cause| (cause.jobs, cause.attempts, cause.error.as_str())).collect();
        assert_eq!(told, [(2, 4, "it was told to fail"), (1, 1, "panicked: it was told to panic")]);
    }

    async fn what_differs_behind_the_same_beginning_is_told_apart(world: World) {
        let failed = |id: Uuid, why: &str| {
            format!("read failed on the bucket: read the object staging/{id} at data/46/{}: {why}", id.simple())
        };
        let mut last = Uuid::nil();
        for (why, jobs) in [("Permission denied", 2), ("No such file", 1), ("Permission denied", 1)] {
            for _ in 0..jobs {
                last = Uuid::now_v7();
                world.clock.advance(std::time::Duration::from_secs(1));
                note(&world.ctx.db, (last, "verify_upload"), &failed(last, why), world.ctx.now()).await.unwrap();
            }
        }

        let began = world.ctx.now() - std::time::Duration::from_secs(60);
        let told = causes(&world.ctx.db, began, 100).await.unwrap();
        assert_eq!(told.iter().map(|cause| cause.jobs).collect::<Vec<_>>(), [3, 1]);
        assert_eq!((told[0].example, &told[0].error), (last, &failed(last, "Permission denied")));
        assert_eq!(causes(&world.ctx.db, began, 2).await.unwrap().len(), 2, "only the last two are looked at");
    }

    async fn the_dead_are_not_among_the_living(world: World) {
        let (dead, alive) = (Uuid::now_v7(), Uuid::now_v7());
        attempt(&world, alive, Act::Fail, 1).await;
        note(&world.ctx.db, (dead, Noop::KIND), "it was told to die", world.ctx.now()).await.unwrap();
        let bury = "insert into dead_letters (id, kind, subject, pool, lane, payload, attempts, crashes, reason, error, died_at)
            values ($1, $2, $1, 'upkeep', 'bulk', '{}', 1, 0, 'attempts', 'dead', 0)";
        let buried = world.ctx.db.write_one(move |mut tx| {
            Box::pin(async move {
                Ok(sql!(tx.on(), c => sqlx::query(bury).bind(dead).bind(Noop::KIND).execute(c).await.map(drop))?)
            })
        });
        buried.await.unwrap();

        let causes = causes_of_living(&world.ctx.db, world.ctx.now(), 100).await.unwrap();

        let told: Vec<_> = causes.iter().map(|cause| (cause.jobs, cause.error.as_str())).collect();
        assert_eq!(told, [(1, "it was told to fail")]);
    }

    async fn an_attempt_that_ends_well_or_too_early_leaves_no_trace(world: World) {
        let id = Uuid::now_v7();
        attempt(&world, id, Act::Done, 1).await;
        attempt(&world, id, Act::Snooze, 1).await;

        assert_eq!(of(&world.ctx.db, &[id]).await.unwrap(), []);
    }

    async fn what_no_text_of_the_ledger_can_hold_is_kept_as_far_as_it_can_be(world: World) {
        let (id, error) = (Uuid::now_v7(), format!("\0{}", "é".repeat(LONGEST)));

        note(&world.ctx.db, (id, "noop"), &error, world.ctx.now()).await.unwrap();

        let kept = of(&world.ctx.db, &[id]).await.unwrap().remove(0).error;
        assert!(kept.starts_with("\u{fffd}é") && kept.len() <= LONGEST + 2, "{} bytes", kept.len());
    }
}
