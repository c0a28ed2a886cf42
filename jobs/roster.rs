//! The roster: every job there is. What is not on it can neither be enqueued nor run.

use crate::admit_object::AdmitObject;
use crate::close_batches::CloseBatches;
use crate::collect_blobs::CollectBlobs;
use crate::expire_uploads::ExpireUploads;
use crate::fold_reports::FoldReports;
use crate::issue_batch::IssueBatch;
use crate::issue_policy::IssuePolicy;
use crate::job::Entry;
use crate::list_batch::ListBatch;
use crate::noop::Noop;
use crate::poll_arrivals::PollArrivals;
use crate::rebuild_reports::RebuildReports;
use crate::record_arrival::RecordArrival;
use crate::resume_stalled::ResumeStalled;
use crate::store_file::StoreFile;
use crate::sweep_bucket::SweepBucket;
use crate::tidy_ledger::TidyLedger;
use crate::verify_upload::VerifyUpload;

static ROSTER: &[Entry] = &[
    Entry::of::<IssuePolicy>(),
    Entry::of::<IssueBatch>(),
    Entry::of::<RecordArrival>(),
    Entry::of::<AdmitObject>(),
    Entry::of::<VerifyUpload>(),
    Entry::of::<StoreFile>(),
    Entry::of::<ExpireUploads>(),
    Entry::of::<ResumeStalled>(),
    Entry::of::<PollArrivals>(),
    Entry::of::<ListBatch>(),
    Entry::of::<CloseBatches>(),
    Entry::of::<SweepBucket>(),
    Entry::of::<CollectBlobs>(),
    Entry::of::<TidyLedger>(),
    Entry::of::<FoldReports>(),
    Entry::of::<RebuildReports>(),
    Entry::of::<Noop>(),
];

/// The entry of that kind; `None` when this program does not know it.
#[must_use]
pub fn find(kind: &str) -> Option<&'static Entry> {
    ROSTER.iter().find(|entry| entry.kind == kind)
}

/// How many attempts a job of that kind has. One that is not on the roster has one: to be found out.
#[must_use]
pub fn attempts(kind: &str) -> u32 {
    find(kind).map_or(1, |entry| entry.attempts)
}

/// Every entry, in the order of the pipeline.
#[must_use]
pub fn all() -> &'static [Entry] {
    ROSTER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_unique() {
        let mut kinds: Vec<_> = all().iter().map(|entry| entry.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), all().len());
    }
}
