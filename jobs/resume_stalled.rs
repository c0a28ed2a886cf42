//! Puts the job of every row that stands on again: the healer of whatever a queue or a crash has lost.
//!
//! Before: nothing. A row that has not moved by its `resume_at` gets the job that its state calls for, and the next time is
//! twice as far away; a row with a dead letter is left to a person, until it moves. So does a batch whose lines are not all
//! uploads. A second run finds `resume_at` moved. It ends after 1,000 uploads and as many batches.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::issue_batch::IssueBatch;
use crate::issue_policy::IssuePolicy;
use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::{batches, uploads};
use crate::model::{Status, Timestamp, Upload};
use crate::store_file::StoreFile;
use crate::verify_upload::VerifyUpload;

/// How many rows one run resumes.
const AT_ONCE: i64 = 1000;

/// Resumes what stands.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ResumeStalled {}

impl Job for ResumeStalled {
    const KIND: &'static str = "resume_stalled";
    const POOL: Pool = Pool::Upkeep;

    fn subject(&self) -> Uuid {
        Uuid::nil()
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let now = ctx.now();
        let stalled = uploads::due_to_resume(&ctx.db, now, AT_ONCE).await?;
        let batches = batches::due_to_resume(&ctx.db, now, AT_ONCE).await?;
        if stalled.is_empty() && batches.is_empty() {
            return Ok(End::Moot);
        }
        tracing::info!(rows = stalled.len(), batches = batches.len(), "rows stood still; their jobs are put on again");
        let expansions = batches.iter().map(|batch| NewJob::of(&IssueBatch { batch: batch.id }, Lane::Bulk, now));
        let jobs = stalled.iter().filter_map(|row| next_job(row, now)).chain(expansions).collect();
        ctx.queue.push(jobs).await?;
        uploads::resumed(&ctx.db, stalled, ctx.limits.resume_after, now).await?;
        batches::resumed(&ctx.db, batches, ctx.limits.resume_after, now).await?;
        Ok(End::Done)
    }
}

/// The job that the row's state calls for; `None` in states where nobody but the client can move it.
fn next_job(row: &Upload, now: Timestamp) -> Option<NewJob> {
    let upload = row.id;
    match row.status {
        Status::Requested | Status::Issued => Some(NewJob::of(&IssuePolicy { upload }, Lane::Bulk, now)),
        Status::Arrived => Some(NewJob::of(&VerifyUpload { upload }, Lane::Bulk, now)),
        Status::Verified => Some(NewJob::of(&StoreFile { upload }, Lane::Bulk, now)),
        Status::Done | Status::Rejected | Status::Expired | Status::Cancelled => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::dead_letters::{self, DeadLetter};
    use crate::model::Batch;
    use crate::model::upload::ArrivedVia;
    use crate::record_arrival::RecordArrival;
    use crate::testkit::World;

    crate::on_every_engine! {
        a_row_whose_job_was_lost_gets_it_again_and_later_each_time,
        an_issued_upload_waits_for_its_client_alone,
        a_row_with_a_dead_letter_is_left_alone,
        a_row_that_moved_after_its_job_died_is_resumed_again,
        what_an_older_worker_did_not_know_is_resumed,
        at_most_a_thousand_rows_are_resumed_in_one_run,
    }

    async fn a_row_whose_job_was_lost_gets_it_again_and_later_each_time(world: World) {
        let row = world.requested();
        uploads::insert(&world.ctx.db, vec![row.clone()]).await.unwrap();

        let mut resumed_at = Vec::new();
        for second in 1..=500 {
            world.clock.advance(Duration::from_secs(1));
            let ended = ResumeStalled {}.run(&world.ctx).await.unwrap();
            if ended == End::Done {
                resumed_at.push(second);
                assert_eq!(world.queue.waiting(), ["issue_policy"]);
                world.queue.forget();
            }
        }

        assert_eq!(resumed_at, [60, 180, 420]);
        assert_eq!(world.upload(row.id).await.resumes, 3);
    }

    async fn an_issued_upload_waits_for_its_client_alone(world: World) {
        world.issued().await;
        world.clock.advance(Duration::from_secs(800));
        assert_eq!(ResumeStalled {}.run(&world.ctx).await.unwrap(), End::Moot);
    }

    /// An upload that has arrived and whose `verify_upload` has died.
    async fn dead_while_arrived(world: &World) -> Upload {
        let upload = world.issued().await;
        world.bucket.land(&upload.object_key, b"bytes");
        RecordArrival { upload: upload.id, via: ArrivedVia::Notice }.run(&world.ctx).await.unwrap();
        world.queue.forget();
        died(world, &VerifyUpload { upload: upload.id }, "gave_up").await;
        world.upload(upload.id).await
    }

    async fn died<J: Job>(world: &World, job: &J, reason: &str) {
        let letter = DeadLetter {
            id: Uuid::now_v7(),
            kind: J::KIND.to_owned(),
            subject: job.subject(),
            pool: J::POOL,
            lane: Lane::Bulk,
            payload: "{}".to_owned(),
            attempts: 1,
            crashes: 0,
            reason: reason.to_owned(),
            error: "no use".to_owned(),
            died_at: world.ctx.now(),
        };
        let kept =
            world.ctx.db.write_one(move |mut tx| Box::pin(async move { dead_letters::insert(&mut tx, &letter).await }));
        kept.await.unwrap();
    }

    async fn what_an_older_worker_did_not_know_is_resumed(world: World) {
        let (row, now) = (world.requested(), world.ctx.now());
        uploads::insert(&world.ctx.db, vec![row.clone()]).await.unwrap();
        let resume_at = Some(now + world.ctx.limits.resume_after);
        let batch = Batch { resume_at, ..Batch::each((world.org, Uuid::nil()), None, 1, now) };
        batches::insert(&world.ctx.db, batch.clone(), vec!["[]".to_owned()], None).await.unwrap();

        died(&world, &IssuePolicy { upload: row.id }, "unknown_kind").await;
        died(&world, &IssueBatch { batch: batch.id }, "unknown_kind").await;
        world.clock.advance(world.ctx.limits.resume_after);

        assert_eq!(ResumeStalled {}.run(&world.ctx).await.unwrap(), End::Done);
        assert_eq!(world.queue.waiting(), ["issue_batch", "issue_policy"]);
    }

    async fn a_row_with_a_dead_letter_is_left_alone(world: World) {
        dead_while_arrived(&world).await;

        world.clock.advance(Duration::from_secs(10_000));

        assert_eq!(ResumeStalled {}.run(&world.ctx).await.unwrap(), End::Moot);
        assert!(world.queue.waiting().is_empty());
    }

    async fn a_row_that_moved_after_its_job_died_is_resumed_again(world: World) {
        let upload = dead_while_arrived(&world).await;
        let head = world.bucket.land(&upload.object_key, b"other bytes");

        world.clock.advance(Duration::from_secs(10_000));
        assert!(uploads::arrive_again(&world.ctx.db, &upload, &head, world.ctx.now()).await.unwrap());

        assert_eq!(ResumeStalled {}.run(&world.ctx).await.unwrap(), End::Done);
        assert_eq!(world.queue.waiting(), ["verify_upload"]);
    }

    async fn at_most_a_thousand_rows_are_resumed_in_one_run(world: World) {
        let rows = (0..1001).map(|_| world.requested()).collect();
        uploads::insert(&world.ctx.db, rows).await.unwrap();
        world.clock.advance(Duration::from_secs(61));

        let mut resumed = Vec::new();
        for _ in 0..3 {
            ResumeStalled {}.run(&world.ctx).await.unwrap();
            resumed.push(world.queue.waiting().len());
            world.queue.forget();
        }

        assert_eq!(resumed, [1000, 1, 0]);
    }
}
