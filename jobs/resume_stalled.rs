//! Puts the job of every row that stands on again: the healer of whatever a queue or a crash has lost.
//!
//! Before: nothing. A row that has not moved by its `resume_at` gets the job that its state calls for, and the next time is
//! twice as far away; a row with a dead letter is left to a person. A second run finds `resume_at` moved. It ends after
//! 1,000 rows.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::issue_policy::IssuePolicy;
use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::uploads;
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
        if stalled.is_empty() {
            return Ok(End::Moot);
        }
        tracing::info!(rows = stalled.len(), "rows stood still; their jobs are put on again");
        ctx.queue.push(stalled.iter().filter_map(|row| next_job(row, now)).collect()).await?;
        uploads::resumed(&ctx.db, stalled, ctx.limits.resume_after, now).await?;
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
    use crate::testkit::World;

    #[tokio::test]
    async fn a_row_whose_job_was_lost_gets_it_again_and_later_each_time() {
        let world = World::new().await;
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

    #[tokio::test]
    async fn an_issued_upload_waits_for_its_client_alone() {
        let world = World::new().await;
        world.issued().await;
        world.clock.advance(Duration::from_secs(800));
        assert_eq!(ResumeStalled {}.run(&world.ctx).await.unwrap(), End::Moot);
    }
}
