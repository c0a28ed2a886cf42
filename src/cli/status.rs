//! `longshore status [ID]`: all that is known of an upload, a batch, or whatever else a job was about; without an id, what jobs
//! fail of.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use longshore_jobs::job::with_causes;
use longshore_jobs::ledger::dead_letters::{self, DeadLetter, KindCount};
use longshore_jobs::ledger::failures::{self, Cause, Failure};
use longshore_jobs::ledger::timeline::{self, Moment, Timeline};
use longshore_jobs::ledger::{Db, batches};
use longshore_jobs::model::batch::{Mode, Progress};
use longshore_jobs::model::{Batch, Digest, Timestamp};
use longshore_jobs::outside::{Clock, Queue, QueuedJob, SystemClock};
use uuid::Uuid;

use super::output::{Columns, about, first_line};
use super::{Failure as CliFailure, existing_ledger, say};
use crate::app;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The id of an upload, of its file, of a batch, or of what a dead job was about. Without one: what jobs of the last hour have
    /// failed of.
    pub(super) id: Option<Uuid>,
}

pub(super) async fn run(config: Config, args: StatusArgs) -> Result<(), CliFailure> {
    let db = existing_ledger(&config).await?;
    let Some(id) = args.id else {
        let told = troubled(&db, Timestamp::system_now() - LATELY).await;
        db.close().await;
        say(told?);
        return Ok(());
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Where the queue is away, the ledger still has the most of it to tell.
    let opened = app::open_queue(&config, &db, &clock, &[]).await;
    let queue = opened.map(|engine| engine as Arc<dyn Queue>).map_err(|error| with_causes(&error));
    let moment = Moment { now: clock.now(), grace: config.limits.expiry_grace };
    let told = tell(&db, &queue, id, moment).await;
    db.close().await;
    match told? {
        Some(text) => {
            say(text);
            Ok(())
        }
        None => {
            let what = format!("{id} is no upload, file or batch, and no job is known to be about it");
            Err(CliFailure::new(what))
        }
    }
}

/// What counts as of now.
const LATELY: Duration = Duration::from_secs(3600);
/// How many failed jobs are looked at, the last ones.
const LOOKED_AT: i64 = 10_000;
/// How many causes are told.
const CAUSES: usize = 30;

async fn causes(db: &Db, since: Timestamp) -> Result<String, CliFailure> {
    let causes = failures::causes(db, since, LOOKED_AT).await?;
    if causes.is_empty() {
        return Ok("No job has failed in the last hour.\n".to_owned());
    }
    let mut columns = Columns::with_heads(&["kind", "jobs", "failed attempts", "last", "for example", "error"]);
    for Cause { kind, jobs, attempts, last_at, error, example } in causes.into_iter().take(CAUSES) {
        let (jobs, attempts, last) = (jobs.to_string(), attempts.to_string(), last_at.to_string());
        columns.row(vec![kind, jobs, attempts, last, about(example), first_line(&error)]);
    }
    Ok(format!("{columns}\n`longshore status ID` with an id of the fifth column shows one of them in full.\n"))
}

/// The dead have no row among the failures where no attempt of theirs ever ended.
async fn dead(db: &Db) -> Result<String, CliFailure> {
    let kinds = dead_letters::count_by_kind(db).await?;
    if kinds.is_empty() {
        return Ok("No dead letters.\n".to_owned());
    }
    let mut columns = Columns::with_heads(&["dead", "kind", "reason"]);
    for KindCount { kind, reason, count } in kinds {
        columns.row(vec![count.to_string(), kind, reason]);
    }
    Ok(format!("{columns}\n`longshore jobs list` shows them.\n"))
}

async fn troubled(db: &Db, since: Timestamp) -> Result<String, CliFailure> {
    Ok(format!("{}\n{}", causes(db, since).await?, dead(db).await?))
}

/// The queue, or why it cannot be asked.
type Asked = Result<Arc<dyn Queue>, String>;

async fn tell(db: &Db, queue: &Asked, id: Uuid, moment: Moment) -> Result<Option<String>, CliFailure> {
    if let Some(timeline) = timeline::find(db, id).await? {
        let jobs = look(queue, &timeline.subjects(), &timeline.failures).await;
        return Ok(Some(of_upload(&timeline, &jobs, moment)));
    }
    let (failures, letters) = (failures::of(db, &[id]).await?, timeline::letters(db, &[id]).await?);
    let jobs = look(queue, &[id], &failures).await;
    if let Some(batch) = batches::find(db, id).await? {
        let progress = Progress::of(&batch, &batches::counts(db, id).await?);
        return Ok(Some(of_batch(&batch, progress, &letters) + &troubles(&jobs, &failures, &letters)));
    }
    let text = troubles(&jobs, &failures, &letters);
    let is_known = !failures.is_empty() || !letters.is_empty() || jobs.is_ok_and(|jobs| !jobs.is_empty());
    Ok(is_known.then_some(text))
}

/// What the queue has about these, or why nobody knows.
async fn look(queue: &Asked, subjects: &[Uuid], failures: &[Failure]) -> Result<Vec<QueuedJob>, String> {
    let queue = queue.as_ref().map_err(Clone::clone)?;
    let mut jobs = queue.about(subjects).await.map_err(|error| with_causes(&error))?;
    timeline::fill_errors(&mut jobs, failures);
    Ok(jobs)
}

/// Names on the left, and what is to be said of them.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl Display) {
        writeln!(self.0, "{name:<12} {value}").expect("a string takes text");
    }

    fn add_if_any(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }
}

fn of_upload(timeline: &Timeline, jobs: &Result<Vec<QueuedJob>, String>, moment: Moment) -> String {
    let (upload, mut lines) = (&timeline.upload, Lines::default());
    lines.add("upload", upload.id);
    lines.add(
        "status",
        upload.reason.map_or_else(|| upload.status.to_string(), |why| format!("{}: {why}", upload.status)),
    );
    lines.add_if_any("means", upload.meaning());
    if upload.meaning().is_some() {
        tell_both(&mut lines, timeline);
    }
    lines.add("waits for", timeline.waits_for(jobs.as_deref().unwrap_or_default(), moment));
    lines.add("filename", &upload.filename);
    lines.add("file", upload.file_id);
    lines.add("org", format!("{} {}", upload.org_id, timeline.org_name));
    lines.add_if_any("batch", upload.batch_id);
    lines.add_if_any("size", upload.known_size().map(|size| format!("{size} bytes")));
    lines.add_if_any("hash", upload.known_sha256());
    lines.add_if_any("for", upload.target().map(|target| format!("{} {}", target.kind, target.number)));
    lines.add_if_any("told by", upload.arrived_via);
    lines.add_if_any("trace", upload.traceparent.map(|parent| parent.trace_id()));
    lines.add("object", &upload.object_key);
    for step in timeline.steps() {
        let at = step.at.map_or_else(|| "-".to_owned(), |at| at.to_string());
        let note = step.note.map_or_else(String::new, |note| format!("  {note}"));
        lines.add(step.name.as_str(), at + &note);
    }
    lines.0 + &troubles(jobs, &timeline.failures, &timeline.letters)
}

/// What was to come, and what came.
fn tell_both(lines: &mut Lines, timeline: &Timeline) {
    let upload = &timeline.upload;
    let tell = |size: Option<i64>, sha256: Option<Digest>| {
        let size = size.map_or_else(|| "any size".to_owned(), |size| format!("{size} bytes"));
        let sha256 = sha256.map_or_else(|| "any hash".to_owned(), |sha256| sha256.to_string());
        (size, sha256)
    };
    let (size, sha256) = tell(upload.size, timeline.promised);
    lines.add("declared", format!("{size}, {sha256}"));
    if upload.arrived_size.is_some() {
        let (size, _) = tell(upload.arrived_size, None);
        let sha256 = upload.verified_sha256.map_or_else(|| "not hashed".to_owned(), |sha256| sha256.to_string());
        lines.add("found", format!("{size}, {sha256}"));
    }
}

fn of_batch(batch: &Batch, progress: Progress, letters: &[DeadLetter]) -> String {
    let mut lines = Lines::default();
    let Progress { tasks, pending, running, successes, failures } = progress;
    lines.add("batch", batch.id);
    lines.add("mode", batch.mode);
    lines.add("waits for", batch_waits_for(batch, progress, letters));
    lines.add("uploads", format!("{tasks}: {pending} pending, {running} running, {successes} done, {failures} failed"));
    lines.add_if_any("known", Some(batch.known).filter(|known| *known > 0));
    lines.add_if_any("at most", batch.max_files.map(|most| format!("{most} files, {} let in", batch.admitted)));
    lines.add_if_any("manifest", batch.manifest_lines.map(|lines| format!("{lines} lines")));
    lines.add("org", batch.org_id);
    lines.add_if_any("for", batch.target().map(|target| format!("{} {}", target.kind, target.number)));
    lines.add_if_any("trace", batch.traceparent.map(|parent| parent.trace_id()));
    lines.add("requested", batch.created_at);
    lines.add_if_any("policy until", batch.policy_expires_at);
    lines.add_if_any("closed", batch.closed_at);
    lines.0
}

fn batch_waits_for(batch: &Batch, progress: Progress, letters: &[DeadLetter]) -> String {
    if let Some(letter) = letters.iter().find(|letter| letter.died_at >= batch.updated_at) {
        return format!("a person: its job is dead (`longshore jobs explain {}`)", letter.id);
    }
    if let Some(at) = batch.resume_at {
        return format!("a worker to make uploads of its lines; put on again at {at} if it has not got on by then");
    }
    let looks = |at: Timestamp| format!("; the bucket is looked into at {at}");
    match (batch.mode, batch.closed_at) {
        (_, None | Some(_)) if progress.running > 0 => "workers to hash and store what has come".to_owned(),
        (Mode::Prefix, None) => "files to come".to_owned() + &batch.next_poll_at.map_or_else(String::new, looks),
        (Mode::Each, None) if progress.pending > 0 => "the client to send the bytes".to_owned(),
        _ => "nothing".to_owned(),
    }
}

/// What is on the queue, what has failed, and what is dead.
fn troubles(jobs: &Result<Vec<QueuedJob>, String>, failures: &[Failure], letters: &[DeadLetter]) -> String {
    let mut lines = Lines::default();
    match jobs {
        Ok(jobs) => jobs.iter().for_each(|job| lines.add("job", on_queue(job))),
        Err(fault) => lines.add("job", format!("not known, the queue does not answer: {fault}")),
    }
    for Failure { kind, attempts, first_at, last_at, error, .. } in failures {
        let when = match attempts {
            1 => format!("once, at {last_at}"),
            _ => format!("{attempts} times, from {first_at} to {last_at}"),
        };
        lines.add("failed", format!("{kind}, {when}: {error}"));
    }
    for DeadLetter { id, kind, reason, died_at, error, .. } in letters {
        lines.add("dead job", format!("{id} {kind} ({reason}) at {died_at}: {error}"));
    }
    lines.0
}

fn on_queue(job: &QueuedJob) -> String {
    let QueuedJob { kind, pool, due, attempts, max_attempts, .. } = job;
    let state = if job.is_running { "running".to_owned() } else { format!("waiting, runs at {due}") };
    let error = job.error.as_ref().map_or_else(String::new, |error| format!("; last error: {error}"));
    format!("{kind} on {pool}, {state}, attempt {} of {max_attempts}{error}", attempts + 1)
}

#[cfg(test)]
mod tests {
    use longshore_jobs::model::Upload;
    use longshore_jobs::testkit::World;

    use super::*;

    async fn status(world: &World, id: Uuid) -> String {
        tell(&world.ctx.db, &Ok(Arc::clone(&world.ctx.queue)), id, moment(world)).await.unwrap().unwrap()
    }

    fn moment(world: &World) -> Moment {
        Moment { now: world.ctx.now(), grace: world.ctx.limits.expiry_grace }
    }

    #[tokio::test]
    async fn a_rejected_upload_tells_what_that_means_and_what_came_in_place_of_what_was_declared() {
        let world = World::new().await;
        let (size, sha256) = (Some(5), Some(Digest::of(b"other")));
        let upload = world.issue(Upload { size, sha256, ..world.requested() }).await;
        world.bucket.land(&upload.object_key, b"bytes");
        world.notice(&upload).await;
        world.drain().await;

        let told = status(&world, upload.id).await;

        assert!(
            told.contains("status       rejected: digest_mismatch\nmeans        What arrived has another SHA-256 than"),
            "{told}"
        );
        assert!(told.contains(&format!("declared     5 bytes, {}\n", Digest::of(b"other"))), "{told}");
        assert!(told.contains(&format!("found        5 bytes, {}\n", Digest::of(b"bytes"))), "{told}");
    }

    #[tokio::test]
    async fn an_upload_that_failed_once_tells_why_and_when_it_is_tried_again() {
        let world = World::new().await;
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, b"bytes");
        world.bucket.break_key(&upload.object_key);
        world.notice(&upload).await;
        world.drain().await;

        let told = status(&world, upload.id).await;

        assert!(told.contains("job          record_arrival on arrive, waiting, runs at "), "{told}");
        assert!(told.contains(", attempt 2 of 20; last error: "), "{told}");
        assert!(told.contains("failed       record_arrival, once, at "), "{told}");
        assert!(told.contains("waits for    a worker to look at its object: attempt 2 of 20 at "), "{told}");
        assert!(told.contains("landed       -\n"), "{told}");
    }

    #[tokio::test]
    async fn what_jobs_fail_of_is_told_without_an_id() {
        let world = World::new().await;
        assert_eq!(causes(&world.ctx.db, world.ctx.now()).await.unwrap(), "No job has failed in the last hour.\n");
        let upload = world.issued().await;
        world.bucket.break_key(&upload.object_key);
        world.notice(&upload).await;
        world.drain().await;

        let told = causes(&world.ctx.db, world.ctx.now()).await.unwrap();

        assert!(told.lines().nth(1).unwrap().starts_with("record_arrival  1     1 "), "{told}");
        assert!(told.lines().nth(1).unwrap().contains(&upload.id.to_string()), "{told}");
    }

    #[tokio::test]
    async fn the_dead_are_counted_although_no_attempt_of_theirs_has_failed() {
        let world = World::new().await;
        assert!(troubled(&world.ctx.db, world.ctx.now()).await.unwrap().ends_with("\nNo dead letters.\n"));
        let letter = DeadLetter {
            id: Uuid::now_v7(),
            kind: "from_the_future".to_owned(),
            subject: Uuid::now_v7(),
            pool: longshore_jobs::job::Pool::Verify,
            lane: longshore_jobs::job::Lane::Bulk,
            payload: "{}".to_owned(),
            attempts: 0,
            crashes: 0,
            reason: "unknown_kind".to_owned(),
            error: "this program knows no job".to_owned(),
            died_at: world.ctx.now(),
        };
        let keep = world.ctx.db.write(|mut tx| Box::pin(async move { dead_letters::insert(&mut tx, &letter).await }));
        keep.await.unwrap();

        let told = troubled(&world.ctx.db, world.ctx.now()).await.unwrap();

        assert!(told.contains("\n1     from_the_future  unknown_kind\n"), "{told}");
    }

    #[tokio::test]
    async fn a_queue_that_is_away_hides_nothing_else() {
        let world = World::new().await;
        let upload = world.uploaded(b"bytes").await;

        let away = Err("it is away".to_owned());
        let told = tell(&world.ctx.db, &away, upload.file_id, moment(&world)).await.unwrap().unwrap();

        assert!(told.contains("status       done\nwaits for    nothing\n"), "{told}");
        assert!(told.contains("job          not known, the queue does not answer: it is away\n"), "{told}");
    }

    #[tokio::test]
    async fn a_batch_tells_how_far_it_is_and_what_it_waits_for() {
        let world = World::new().await;
        let batch = world.prefix_batch(10).await;
        let key = world.land_in(&batch, "a", b"bytes");
        world.notice_of(&key).await;
        world.drain().await;

        let told = status(&world, batch.id).await;

        assert!(told.contains("waits for    files to come; the bucket is looked into at "), "{told}");
        assert!(told.contains("uploads      1: 0 pending, 0 running, 1 done, 0 failed\n"), "{told}");
        assert!(told.contains("at most      10 files, 1 let in\n"), "{told}");
    }

    #[tokio::test]
    async fn what_a_failed_job_was_about_is_known_whatever_it_is() {
        let world = World::new().await;
        let batch = world.prefix_batch(10).await;
        let key = world.land_in(&batch, "a", b"bytes");
        world.bucket.break_key(&key);
        world.notice_of(&key).await;
        world.drain().await;

        let about = world.ctx.queue.about(&[subject_of(&key)]).await.unwrap().remove(0).subject;
        let told = status(&world, about).await;

        assert!(told.contains("failed       admit_object, once, at "), "{told}");
        assert!(
            tell(&world.ctx.db, &Ok(Arc::clone(&world.ctx.queue)), Uuid::now_v7(), moment(&world))
                .await
                .unwrap()
                .is_none()
        );
    }

    fn subject_of(key: &str) -> Uuid {
        use longshore_jobs::job::Job as _;
        let via = longshore_jobs::model::upload::ArrivedVia::Notice;
        longshore_jobs::admit_object::AdmitObject { key: key.to_owned(), via }.subject()
    }
}
