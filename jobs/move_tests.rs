//! Every state against every move of the ledger, on real rows: what is made is legal, and what is legal can be made.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ledger::files::{self, Stored};
use crate::ledger::uploads;
use crate::model::policy::{Place, PolicyTerms};
use crate::model::upload::{ArrivedVia, Reason};
use crate::model::{Digest, Status, Upload};
use crate::outside::{Bucket as _, ObjectHead};
use crate::testkit::World;

/// The moves that the ledger can make.
#[derive(Clone, Copy, Debug)]
enum Move {
    Issue,
    Renew,
    Arrive,
    Verify,
    ArriveAgain,
    Reject,
    Expire,
    Cancel,
    Store,
}

use Move::{Arrive, ArriveAgain, Cancel, Expire, Issue, Reject, Renew, Store, Verify};

const MOVES: [Move; 9] = [Issue, Renew, Arrive, Verify, ArriveAgain, Reject, Expire, Cancel, Store];

impl Move {
    const fn target(self) -> Status {
        match self {
            Issue | Renew => Status::Issued,
            Arrive | ArriveAgain => Status::Arrived,
            Verify => Status::Verified,
            Reject => Status::Rejected,
            Expire => Status::Expired,
            Cancel => Status::Cancelled,
            Store => Status::Done,
        }
    }

    /// Tries it on a row that is as it was seen, and tells whether the ledger says that it was made.
    async fn tried(self, world: &World, seen: &Upload) -> bool {
        let (db, now) = (&world.ctx.db, world.ctx.now());
        let (head, etag) = (newer(seen), seen.etag.clone().unwrap());
        let made = match self {
            Issue => {
                let policy = world.bucket.sign(terms(world, seen)).await.unwrap();
                uploads::issue(db, seen.id, policy, now, now).await
            }
            Renew => uploads::renew(db, seen.id, now, now, now).await,
            Arrive => uploads::arrive(db, seen.id, &head, ArrivedVia::Notice, (now, now)).await,
            Verify => uploads::verify(db, (seen.id, seen.batch_id), etag, Digest::of(b"bytes"), (now, now)).await,
            ArriveAgain => uploads::arrive_again(db, seen, &head, now).await,
            Reject => uploads::reject(db, seen, Reason::ObjectMissing, now).await,
            Expire => uploads::expire(db, seen, now).await,
            Cancel => uploads::cancel(db, seen.id, now).await,
            Store => {
                let stored = files::store(db, seen.clone(), Some("blobs/copy".to_owned()), now).await;
                stored.map(|stored| matches!(stored, Stored::Adopted | Stored::Joined))
            }
        };
        made.unwrap()
    }
}

/// Another version than the one that the row knows.
fn newer(seen: &Upload) -> ObjectHead {
    ObjectHead {
        key: seen.object_key.clone(),
        size: 5,
        etag: "newer".to_owned(),
        content_type: None,
        modified_at: seen.created_at,
    }
}

fn terms(world: &World, seen: &Upload) -> PolicyTerms {
    PolicyTerms {
        place: Place::Key(seen.object_key.clone(), seen.id),
        min_size: 0,
        max_size: 5,
        content_type: None,
        sha256: None,
        traceparent: None,
        expires_at: world.ctx.now() + Duration::from_secs(900),
    }
}

/// A row in that state which knows all that a row can know, so that a move can only fail for the state's sake.
async fn row_in(world: &World, status: Status) -> Upload {
    let row = Upload {
        status,
        reason: (status == Status::Rejected).then_some(Reason::TooLarge),
        etag: Some("seen".to_owned()),
        arrived_size: Some(5),
        verified_sha256: Some(Digest::of(b"bytes")),
        policy: (status == Status::Issued).then(|| "{}".to_owned()),
        ..world.requested()
    };
    uploads::insert(&world.ctx.db, vec![row.clone()]).await.unwrap();
    row
}

crate::on_every_engine! {
    the_ledger_makes_the_legal_moves_and_no_other,
    a_row_that_moved_since_it_was_seen_is_not_moved_by_what_was_seen,
}

async fn the_ledger_makes_the_legal_moves_and_no_other(world: World) {
    let mut made = BTreeSet::new();

    for &from in Status::ALL {
        for one in MOVES {
            let row = row_in(&world, from).await;
            let moved = one.tried(&world, &row).await;

            let after = world.upload(row.id).await.status;
            let expected = if moved { one.target() } else { from };
            assert_eq!(after, expected, "{one:?} of a row that is {from}");
            if moved && after != from {
                made.insert((from, after));
            }
        }
    }

    let pairs = Status::ALL.iter().flat_map(|from| Status::ALL.iter().map(|to| (*from, *to)));
    let legal: BTreeSet<_> = pairs.filter(|(from, to)| from.can_become(*to)).collect();
    assert_eq!(made, legal);
}

async fn a_row_that_moved_since_it_was_seen_is_not_moved_by_what_was_seen(world: World) {
    for (from, one) in [(Status::Arrived, Reject), (Status::Arrived, ArriveAgain), (Status::Issued, Expire)] {
        let seen = row_in(&world, from).await;
        assert!(Cancel.tried(&world, &seen).await);

        assert!(!one.tried(&world, &seen).await, "{one:?}");
        assert_eq!(world.upload(seen.id).await.status, Status::Cancelled, "{one:?}");
    }
}
