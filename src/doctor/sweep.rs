//! What the last sweeps have found: files without their bytes, and objects that nothing needs.

use longshore_jobs::ledger::Db;
use longshore_jobs::ledger::sweeps::{self, Kind, Sum};
use longshore_jobs::model::Timestamp;

use super::workers::known;
use super::{Outcome, told};

/// From here on somebody should know; as for the alert.
const MANY: i64 = 100;
const MEGABYTE: i64 = 1_000_000;

pub(super) async fn look(db: Db) -> Outcome {
    known(sweeps::sums(&db).await.map(|sums| judge(&sums, Timestamp::system_now())))
}

fn judge(sums: &[Sum], now: Timestamp) -> Outcome {
    let Some(last) = sums.iter().map(|sum| sum.as_of).max() else {
        return Outcome::skipped("none has ended yet: the schedule sweeps each hour, `longshore sweep` looks now");
    };
    let of = |kind: Kind| sums.iter().find(|sum| sum.kind == kind).map_or(0, |sum| sum.orphans);
    if let Some(lost) = sums.iter().find(|sum| sum.kind == Kind::Row && sum.orphans > 0) {
        return Outcome::failed(
            format!(
                "{} without their bytes, {} MB, as of {} ago: their files cannot be read",
                if lost.orphans == 1 { "1 blob is".to_owned() } else { format!("{} blobs are", lost.orphans) },
                lost.bytes / MEGABYTE,
                told(now.since(lost.as_of))
            ),
            "longshore sweep --list\nnames them and looks again; runbook, LongshoreOrphansGrowing",
        );
    }
    let (staging, blobs) = (of(Kind::Staging), of(Kind::Blob));
    let seen = format!(
        "as of {} ago every blob has its bytes; objects that nothing needs: {staging} in staging, {blobs} below blobs/",
        told(now.since(last))
    );
    if staging > MANY || blobs > MANY {
        return Outcome::warning(
            seen,
            "longshore sweep --list\nnames them; find out why before you remove any: runbook, LongshoreOrphansGrowing",
        );
    }
    Outcome::ok(seen)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Status;
    use super::*;

    fn judged(found: &[(Kind, i64)]) -> Outcome {
        let now = Timestamp::system_now();
        let sum = |&(kind, orphans)| Sum { kind, orphans, bytes: 9 * MEGABYTE, oldest_at: None, as_of: now };
        judge(&found.iter().map(sum).collect::<Vec<_>>(), now)
    }

    #[test]
    fn blobs_without_their_bytes_fail_and_what_is_too_much_is_told_of() {
        let status = |found: &[(Kind, i64)]| judged(found).of("sweep").status();
        assert_eq!(status(&[]), Status::Skipped);
        assert_eq!(status(&[(Kind::Row, 0), (Kind::Blob, 100), (Kind::Staging, 3)]), Status::Ok);
        assert_eq!(status(&[(Kind::Row, 0), (Kind::Blob, 101)]), Status::Warning);
        assert_eq!(status(&[(Kind::Row, 0), (Kind::Staging, 101)]), Status::Warning);
        assert_eq!(status(&[(Kind::Row, 1), (Kind::Blob, 101)]), Status::Failed);

        let Outcome::Failed(trouble) = judged(&[(Kind::Row, 3)]) else { panic!("failed") };
        assert!(trouble.detail.starts_with("3 blobs are without their bytes, 9 MB"), "{}", trouble.detail);
        assert!(trouble.mend.starts_with("longshore sweep --list"));
    }
}
