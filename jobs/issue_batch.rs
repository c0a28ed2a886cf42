//! lines of a batch → issued or done: makes uploads of the next few hundred, with their policies.
//!
//! Before: the batch has lines that are no uploads yet. A line whose bytes the org has is done at once; one whose `ref` stands
//! for an earlier upload makes no new one. A second run, or one at the same time, finds the lines gone and is moot. It ends
//! when no line is left: as long as there are, it puts itself on again, in the bulk lane and behind whoever waits there.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::fold_reports::FoldReports;
use crate::issue_policy::terms;
use crate::job::{Context, End, Job, JobError, Lane, NewJob, Pool};
use crate::ledger::births::{Birth, Born};
use crate::ledger::blobs;
use crate::ledger::lines::{self, Chunk};
use crate::model::file::Blob;
use crate::model::line::ids_behind;
use crate::model::{Batch, Digest, Line, Status, Upload};

/// How many lines become uploads in one run: as many as keep the ledger's one writer for some milliseconds, since a person's
/// upload may have to wait for it a few times.
pub const CHUNK: usize = 100;

/// How many blobs are looked at in the bucket at once.
const HEADS: usize = 16;

/// Makes uploads of a batch's lines.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IssueBatch {
    /// The batch.
    pub batch: Uuid,
}

impl Job for IssueBatch {
    const KIND: &'static str = "issue_batch";
    const POOL: Pool = Pool::Issue;

    fn subject(&self) -> Uuid {
        self.batch
    }

    async fn run(self, ctx: &Context) -> Result<End, JobError> {
        let (batch, chunk) = (ctx.batch(self.batch).await?, lines::first(&ctx.db, self.batch).await?);
        let (Some(batch), Some(chunk)) = (batch, chunk) else {
            return Ok(End::Moot);
        };
        let position = chunk.position;
        let births = births(ctx, &batch, chunk).await?;
        let (now, sizes) = (ctx.now(), births.iter().map(|birth| birth.known).collect::<Vec<_>>());
        let times = (now, now + ctx.limits.resume_after);
        let Some(expanded) = Box::pin(lines::expand(&ctx.db, &batch, (position, births), times)).await? else {
            return Ok(End::Moot);
        };
        let mut jobs = Vec::new();
        if expanded.more {
            jobs.push(NewJob::of(&self, Lane::Bulk, now));
        }
        if expanded.born.contains(&Born::Done) {
            count_saved(expanded.born.iter().zip(sizes));
            let fold = FoldReports { org: Some(batch.org_id) };
            jobs.push(NewJob::of(&fold, Lane::Interactive, now + FoldReports::DELAY));
        }
        if !jobs.is_empty() {
            ctx.queue.push(jobs).await?;
        }
        Ok(End::Done)
    }
}

/// The chunk's uploads as they are to be: each with a policy, and with the size of the blob that makes it needless.
async fn births(ctx: &Context, batch: &Batch, chunk: Chunk) -> Result<Vec<Birth>, JobError> {
    let parsed: Vec<Line> = serde_json::from_str(&chunk.lines).map_err(|error| JobError::GiveUp(error.into()))?;
    let known = known(ctx, batch, &parsed).await?;
    let ids = ids_behind(lines::last_upload(&ctx.db, batch.id).await?, parsed.len());
    let mut births = Vec::with_capacity(parsed.len());
    for (line, id) in parsed.into_iter().zip(ids) {
        births.push(birth(ctx, line.upload(id, batch, ctx.now()), &known).await?);
    }
    Ok(births)
}

async fn birth(ctx: &Context, upload: Upload, known: &HashMap<Digest, i64>) -> Result<Birth, JobError> {
    let policy = ctx.bucket.sign(terms(ctx, &upload)).await?;
    let size = upload.sha256.and_then(|sha256| known.get(&sha256).copied());
    // The door has compared the sizes. Where the blob came later, the bucket refuses what does not fit.
    let known = size.filter(|size| upload.size.is_none_or(|declared| declared == *size));
    let text = serde_json::to_string(&policy).expect("a policy is a map of strings");
    let now = ctx.now();
    let upload = Upload {
        status: Status::Issued,
        policy: Some(text),
        policy_expires_at: Some(policy.expires_at),
        issued_at: Some(now),
        ..upload
    };
    Ok(Birth { upload, known, poll_at: Some(now + ctx.limits.first_poll) })
}

/// The sizes of those bytes that the org has and that are whole in the bucket.
async fn known(ctx: &Context, batch: &Batch, lines: &[Line]) -> Result<HashMap<Digest, i64>, JobError> {
    let digests: HashSet<Digest> = lines.iter().filter_map(|line| line.sha256).collect();
    let blobs = blobs::live(&ctx.db, batch.org_id, &digests.into_iter().collect::<Vec<_>>()).await?;
    let looked = stream::iter(blobs).map(|blob| is_whole(ctx, blob)).buffer_unordered(HEADS);
    let whole: Vec<Option<Blob>> = looked.try_collect().await?;
    Ok(whole.into_iter().flatten().map(|blob| (blob.sha256, blob.size)).collect())
}

async fn is_whole(ctx: &Context, blob: Blob) -> Result<Option<Blob>, JobError> {
    let head = ctx.bucket.head(&blob.object_key).await?;
    Ok(head.is_some_and(|head| head.size == blob.size).then_some(blob))
}

fn count_saved<'b>(born: impl Iterator<Item = (&'b Born, Option<i64>)>) {
    let saved: i64 = born.filter(|(born, _)| **born == Born::Done).filter_map(|(_, size)| size).sum();
    metrics::counter!("longshore_dedupe_bytes_saved_total").increment(u64::try_from(saved).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ledger::page::Page;
    use crate::ledger::uploads;
    use crate::ledger::{batches, files, members};
    use crate::model::batch::Progress;
    use crate::resume_stalled::ResumeStalled;
    use crate::testkit::World;

    crate::on_every_engine! {
        every_line_becomes_an_issued_upload_in_its_order,
        a_run_at_the_same_time_and_a_second_one_change_nothing,
        a_line_whose_bytes_the_org_has_is_done_at_once,
        a_line_whose_blob_has_begun_to_leave_waits_for_its_bytes,
        a_line_with_another_size_than_the_known_bytes_waits_for_its_bytes,
        a_line_whose_ref_stands_makes_no_upload,
        a_ref_whose_file_was_deleted_before_is_known_once,
        two_batches_with_the_same_refs_at_once_make_one_upload_of_each,
        a_batch_that_is_closed_in_the_middle_makes_no_more_uploads,
        a_batch_whose_job_was_lost_gets_it_again_and_later_each_time,
    }

    fn line(name: &str) -> Line {
        Line {
            filename: name.to_owned(),
            size: Some(5),
            content_type: None,
            sha256: None,
            target: None,
            client_ref: None,
            metadata: None,
        }
    }

    fn with_ref(name: &str) -> Line {
        Line { client_ref: Some(name.to_owned()), ..line(name) }
    }

    /// A batch of these lines, so many to a chunk, whose job is not on yet.
    async fn posted(world: &World, lines: Vec<Line>, in_chunk: usize) -> Batch {
        let now = world.ctx.now();
        let count = i64::try_from(lines.len()).unwrap();
        let resume_at = Some(now + world.ctx.limits.resume_after);
        let batch = Batch { resume_at, ..Batch::each((world.org, Uuid::nil()), None, count, now) };
        let chunks = lines.chunks(in_chunk).map(|chunk| serde_json::to_string(chunk).unwrap()).collect();
        batches::insert(&world.ctx.db, batch.clone(), chunks, None).await.unwrap();
        batch
    }

    async fn expanded(world: &World, lines: Vec<Line>, in_chunk: usize) -> Batch {
        let batch = posted(world, lines, in_chunk).await;
        world.ctx.push(&IssueBatch { batch: batch.id }).await.unwrap();
        world.drain().await;
        now(world, &batch).await
    }

    async fn now(world: &World, batch: &Batch) -> Batch {
        batches::find(&world.ctx.db, batch.id).await.unwrap().unwrap()
    }

    async fn uploads_of(world: &World, batch: &Batch) -> Vec<Upload> {
        let all = Page { ascending: true, after: None, limit: 10_000, offset: 0 };
        members::list(&world.ctx.db, batch.id, None, all).await.unwrap()
    }

    fn names(uploads: &[Upload]) -> Vec<&str> {
        uploads.iter().map(|upload| upload.filename.as_str()).collect()
    }

    async fn progress(world: &World, batch: &Batch) -> Progress {
        Progress::of(&now(world, batch).await, &batches::counts(&world.ctx.db, batch.id).await.unwrap())
    }

    async fn every_line_becomes_an_issued_upload_in_its_order(world: World) {
        let expected: Vec<String> = (0..7).map(|number| format!("{number}.txt")).collect();
        let batch = expanded(&world, expected.iter().map(|name| line(name)).collect(), 3).await;

        let uploads = uploads_of(&world, &batch).await;
        assert_eq!(names(&uploads), expected);
        assert!(uploads.iter().all(|upload| upload.status == Status::Issued && upload.policy.is_some()));
        assert_eq!((batch.resume_at, batch.known), (None, 0));
        assert_eq!(lines::first(&world.ctx.db, batch.id).await.unwrap(), None);

        world.bucket.land(&uploads[4].object_key, b"bytes");
        world.notice(&uploads[4]).await;
        world.drain().await;
        let progress = progress(&world, &batch).await;
        assert_eq!(progress, Progress { tasks: 7, pending: 6, successes: 1, ..Progress::default() });
    }

    async fn a_run_at_the_same_time_and_a_second_one_change_nothing(world: World) {
        let batch = posted(&world, (0..4).map(|number| line(&number.to_string())).collect(), 4).await;
        let other = Context { db: world.beside_if_shared().await, ..world.ctx.clone() };
        let job = || IssueBatch { batch: batch.id };

        let (one, two) = tokio::join!(job().run(&world.ctx), job().run(&other));
        let third = job().run(&world.ctx).await.unwrap();

        let mut ends = [one.unwrap(), two.unwrap()];
        ends.sort_unstable_by_key(|end| *end == End::Moot);
        assert_eq!((ends, third), ([End::Done, End::Moot], End::Moot));
        assert_eq!(uploads_of(&world, &batch).await.len(), 4);
        assert_eq!(progress(&world, &batch).await.tasks, 4);
    }

    async fn a_line_whose_bytes_the_org_has_is_done_at_once(world: World) {
        world.uploaded(b"known").await;
        let known = |name: &str| Line { sha256: Some(Digest::of(b"known")), ..line(name) };

        let batch = expanded(&world, vec![known("a"), line("b"), known("c")], 3).await;

        let uploads = uploads_of(&world, &batch).await;
        let states: Vec<_> = uploads.iter().map(|upload| (upload.status, upload.deduplicated)).collect();
        let done = (Status::Done, Some(true));
        assert_eq!(states, [done, (Status::Issued, None), done]);
        assert!(uploads[0].policy.is_none() && uploads[0].resume_at.is_none());
        assert_eq!(world.entries_of(b"known").await, 3);
        let blob = blobs::find(&world.ctx.db, world.org, Digest::of(b"known")).await.unwrap().unwrap();
        let report = world.report().await;
        assert_eq!((blob.refs, report.files, report.unique_files, report.bytes), (3, 3, 1, 15));
        assert_eq!(progress(&world, &batch).await.successes, 2);
    }

    async fn a_line_whose_blob_has_begun_to_leave_waits_for_its_bytes(world: World) {
        world.uploaded(b"known").await;
        let batch = posted(&world, vec![Line { sha256: Some(Digest::of(b"known")), ..line("a") }], 1).await;
        let chunk = lines::first(&world.ctx.db, batch.id).await.unwrap().unwrap();
        let births = births(&world.ctx, &batch, chunk).await.unwrap();
        assert_eq!(births[0].known, Some(5));
        let leave = "update blobs set state = 'deleting'";
        let left = world.ctx.db.write_one(move |mut tx| {
            Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(leave).execute(c).await.map(drop))?) })
        });
        left.await.unwrap();

        let times = (world.ctx.now(), world.ctx.now());
        let expanded = lines::expand(&world.ctx.db, &batch, (0, births), times).await.unwrap().unwrap();

        assert_eq!(expanded.born, [Born::Wanting]);
        let upload = uploads_of(&world, &batch).await.remove(0);
        assert_eq!((upload.status, upload.deduplicated, upload.arrived_size), (Status::Issued, None, None));
        assert!(upload.policy.is_some() && upload.policy_expires_at.is_some());
        assert_eq!(world.entries_of(b"known").await, 1);
        assert_eq!(progress(&world, &batch).await, Progress { tasks: 1, pending: 1, ..Progress::default() });
    }

    async fn a_line_with_another_size_than_the_known_bytes_waits_for_its_bytes(world: World) {
        world.uploaded(b"known").await;

        let other = Line { sha256: Some(Digest::of(b"known")), size: Some(6), ..line("a") };
        let batch = expanded(&world, vec![other], 1).await;

        assert_eq!(uploads_of(&world, &batch).await[0].status, Status::Issued);
    }

    async fn a_line_whose_ref_stands_makes_no_upload(world: World) {
        let earlier = world.issue(Upload { client_ref: Some("b".to_owned()), ..world.requested() }).await;
        let ended = world.issue(Upload { client_ref: Some("c".to_owned()), ..world.requested() }).await;
        assert!(uploads::cancel(&world.ctx.db, ended.id, world.ctx.now()).await.unwrap());

        let batch = expanded(&world, ["a", "b", "c"].map(with_ref).to_vec(), 2).await;

        assert_eq!(batch.known, 1);
        let uploads = uploads_of(&world, &batch).await;
        assert_eq!(uploads[0].id, earlier.id);
        assert_eq!(names(&uploads[1..]), ["a", "c"]);
        assert_eq!(progress(&world, &batch).await.tasks, 2);
        assert_eq!(members::count_known(&world.ctx.db, batch.id, Some(Status::Issued)).await.unwrap(), 1);
    }

    async fn a_ref_whose_file_was_deleted_before_is_known_once(world: World) {
        let under_ref = || Upload { client_ref: Some("a".to_owned()), ..world.requested() };
        let former = world.issue(under_ref()).await;
        world.bucket.land(&former.object_key, b"bytes");
        world.notice(&former).await;
        world.drain().await;
        assert!(files::delete(&world.ctx.db, former.file_id, world.ctx.now()).await.unwrap());
        let stands = world.issue(under_ref()).await;

        let batch = expanded(&world, vec![with_ref("a")], 1).await;

        assert_eq!(batch.known, 1);
        assert_eq!(uploads_of(&world, &batch).await.iter().map(|upload| upload.id).collect::<Vec<_>>(), [stands.id]);
    }

    async fn two_batches_with_the_same_refs_at_once_make_one_upload_of_each(world: World) {
        let other = Context { db: world.beside_if_shared().await, ..world.ctx.clone() };
        for round in 0..10 {
            let lines: Vec<Line> = (0..40).map(|number| with_ref(&format!("{round} {number}"))).collect();
            let one = posted(&world, lines.clone(), 40).await;
            let two = posted(&world, lines.into_iter().rev().collect(), 40).await;

            let job = |batch: &Batch| IssueBatch { batch: batch.id };
            let (first, second) = tokio::join!(job(&one).run(&world.ctx), job(&two).run(&other));

            assert_eq!((first.unwrap(), second.unwrap()), (End::Done, End::Done));
            let (mut ours, mut theirs) = (uploads_of(&world, &one).await, uploads_of(&world, &two).await);
            ours.sort_unstable_by_key(|upload| upload.id);
            theirs.sort_unstable_by_key(|upload| upload.id);
            let ids = |uploads: &[Upload]| uploads.iter().map(|upload| upload.id).collect::<Vec<_>>();
            assert_eq!((ids(&ours), ours.len()), (ids(&theirs), 40));
            assert_eq!(now(&world, &one).await.known + now(&world, &two).await.known, 40);
        }
    }

    async fn a_batch_that_is_closed_in_the_middle_makes_no_more_uploads(world: World) {
        let batch = posted(&world, (0..6).map(|number| line(&number.to_string())).collect(), 2).await;
        let job = || IssueBatch { batch: batch.id };
        job().run(&world.ctx).await.unwrap();

        let late = lines::first(&world.ctx.db, batch.id).await.unwrap().unwrap();
        batches::close(&world.ctx.db, batch.id, world.ctx.now()).await.unwrap();
        let cancelled = members::cancel_some(&world.ctx.db, batch.id, None, (1, world.ctx.now())).await.unwrap();
        let rest = members::cancel_some(&world.ctx.db, batch.id, cancelled.next, (9, world.ctx.now())).await.unwrap();
        world.drain().await;

        assert_eq!((cancelled.keys.len(), rest.keys.len(), rest.next), (1, 1, None));
        let births = births(&world.ctx, &batch, late).await.unwrap();
        let times = (world.ctx.now(), world.ctx.now());
        assert_eq!(lines::expand(&world.ctx.db, &batch, (1, births), times).await.unwrap(), None);
        assert_eq!(uploads_of(&world, &batch).await.len(), 2);
        assert_eq!(progress(&world, &batch).await, Progress { tasks: 6, failures: 6, ..Progress::default() });
        let closed = now(&world, &batch).await;
        assert!(closed.closed_at.is_some() && closed.resume_at.is_none());
    }

    async fn a_batch_whose_job_was_lost_gets_it_again_and_later_each_time(world: World) {
        let batch = posted(&world, vec![line("a")], 1).await;

        let mut resumed_at = Vec::new();
        for second in 1..=500 {
            world.clock.advance(Duration::from_secs(1));
            let ended = ResumeStalled {}.run(&world.ctx).await.unwrap();
            if ended == End::Done {
                resumed_at.push(second);
                assert_eq!(world.queue.waiting(), ["issue_batch"]);
                world.queue.forget();
            }
        }
        assert_eq!(resumed_at, [60, 180, 420]);

        IssueBatch { batch: batch.id }.run(&world.ctx).await.unwrap();
        world.clock.advance(Duration::from_secs(10_000));
        assert_eq!(ResumeStalled {}.run(&world.ctx).await.unwrap(), End::Moot);
        assert_eq!(now(&world, &batch).await.resumes, 0);
    }
}
