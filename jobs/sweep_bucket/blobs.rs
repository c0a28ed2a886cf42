//! Below `blobs/`: the listing of the bucket against the rows of the ledger, both in the order of their keys.
//!
//! An object without a row is what a crash between copy and commit has left; after a restore of an older ledger it is every
//! blob that is newer than the backup. So nothing is removed at first sight: there is a restore window in which somebody may
//! notice, and put a better backup in place. A row without its object is lost bytes. It is only told of: it heals by itself
//! when an earlier version of the object is brought back, or when somebody uploads the same bytes again.
//!
//! What looks like an orphan is looked at once more before it counts: an object in the ledger, a row in the bucket.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use uuid::Uuid;

use super::{Page, Terms};
use crate::job::{Context, Job as _, JobError};
use crate::ledger::blobs::{self, Named};
use crate::ledger::orgs;
use crate::ledger::sweeps::{self, Kind, Look, Orphan, Span};
use crate::model::file::BlobState;
use crate::model::{Timestamp, keys};
use crate::outside::ObjectHead;
use crate::store_file::StoreFile;

/// Sorts behind every blob's key.
pub(super) const END: &str = "blobs0";
/// A copy that is older belongs to no store that still runs: that ends within its time limit, and the hour is for clocks that
/// differ and for a commit that is under way.
pub const SAFE_AGE: Duration = Duration::from_secs(StoreFile::TIME_LIMIT.as_secs() + 3600);
/// How many rows are read at once: more than a page has objects, so that most pages are compared whole.
const ROWS: usize = 2000;
/// How many objects are looked at together.
const HEADS: usize = 16;

/// Sweeps what lies behind a key, as far as a page of the bucket and one of the ledger both reach; says how far that was.
/// `clears`: whether what doctor has left goes.
pub(super) async fn sweep(ctx: &Context, terms: Terms, clears: bool, after: &str) -> Result<(Page, String), JobError> {
    let (began, youngest) = (ctx.now(), ctx.now() - terms.min_age);
    let listing = ctx.bucket.list(keys::BLOBS, Some(after)).await?;
    in_order(&listing.objects)?;
    let mut span = Span { after: after.to_owned(), to: listing.next.unwrap_or_else(|| END.to_owned()) };
    let rows = blobs::within(&ctx.db, &span, ROWS as i64).await?;
    if let Some(last) = rows.last().filter(|_| rows.len() == ROWS) {
        span.to.clone_from(&last.object_key);
    }
    let objects: Vec<_> = listing.objects.into_iter().filter(|object| object.key <= span.to).collect();
    let rows: Vec<_> = rows.into_iter().filter(|row| row.object_key <= span.to).collect();
    let looked_at = objects.len();
    let (tried, objects): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| keys::blob_org_of(&object.key) == Some(keys::NOBODY));

    let missing = missing(ctx, began, (&objects, &rows)).await?;
    let look =
        Look { kind: Kind::Row, span: &span, found: &missing, unjudged: &[], sight_age: Duration::ZERO, at: began };
    sweeps::mirror(&ctx.db, look).await?;
    let Unnamed { orphans, young, foreign } = unnamed(ctx, youngest, (objects, &rows)).await?;
    metrics::counter!("longshore_sweep_foreign_total").increment(foreign.len() as u64);
    // A copy that was seen before its store had committed, and noted in a backup of just then, would have no window after a
    // restore of that.
    let sight_age = terms.min_age.min(SAFE_AGE);
    let look = Look { kind: Kind::Blob, span: &span, found: &orphans, unjudged: &young, sight_age, at: began };
    sweeps::mirror(&ctx.db, look).await?;
    let by = By { seen: began - terms.restore_window, stored: youngest };
    let removed = if terms.applies { remove(ctx, &span, by).await? } else { Vec::new() };
    if clears {
        clear(ctx, tried, youngest).await?;
    }
    let of = |kind| move |orphan| (kind, orphan);
    let found = missing.into_iter().map(of(Kind::Row)).chain(orphans.into_iter().map(of(Kind::Blob))).collect();
    Ok((Page { found, removed, ..Page::of(Kind::Blob, looked_at, foreign) }, span.to))
}

pub(super) fn in_order(objects: &[ObjectHead]) -> Result<(), JobError> {
    if objects.is_sorted_by(|one, other| one.key < other.key) {
        return Ok(());
    }
    Err(JobError::GiveUp("the bucket does not list its keys in the order of their bytes".into()))
}

/// Removes what doctor has tried out and left: no row ever names it, and no window is needed for it.
async fn clear(ctx: &Context, tried: Vec<ObjectHead>, youngest: Timestamp) -> Result<(), JobError> {
    let old = tried.iter().filter(|object| object.modified_at <= youngest).map(super::orphan);
    super::remove(ctx, Kind::Blob, &old.collect::<Vec<_>>()).await
}

/// The live rows whose object is not there whole. A row that is younger than the listing cannot be missed in it.
async fn missing(
    ctx: &Context,
    began: Timestamp,
    (objects, rows): (&[ObjectHead], &[Named]),
) -> Result<Vec<Orphan>, JobError> {
    let sizes: HashMap<&str, i64> = objects.iter().map(|object| (object.key.as_str(), object.size)).collect();
    let suspect = |row: &&Named| {
        row.state == BlobState::Live && row.created_at < began && sizes.get(row.object_key.as_str()) != Some(&row.size)
    };
    let suspects: Vec<Named> = rows.iter().filter(suspect).cloned().collect();
    let looked = stream::iter(suspects).map(|row| is_missing(ctx, row)).buffered(HEADS);
    let lost: Vec<Named> = looked.try_filter_map(async |row| Ok(row)).try_collect().await?;
    // The collector may have removed both halves meanwhile, and a store may have mended the row.
    let object_keys: Vec<String> = lost.iter().map(|row| row.object_key.clone()).collect();
    let named = blobs::naming(&ctx.db, &object_keys).await?;
    let live: HashSet<String> =
        named.into_iter().filter(|row| row.state == BlobState::Live).map(|row| row.object_key).collect();
    let of_row = |row: Named| Orphan { object_key: row.object_key, size: row.size, stored_at: row.created_at };
    Ok(lost.into_iter().filter(|row| live.contains(&row.object_key)).map(of_row).collect())
}

async fn is_missing(ctx: &Context, row: Named) -> Result<Option<Named>, JobError> {
    let head = ctx.bucket.head(&row.object_key).await?;
    Ok(head.is_none_or(|head| head.size != row.size).then_some(row))
}

/// The objects that no row names.
struct Unnamed {
    /// The old ones of our orgs.
    orphans: Vec<Orphan>,
    /// The keys of those that are too young to be judged.
    young: Vec<String>,
    /// The keys of the old ones of others.
    foreign: Vec<String>,
}

async fn unnamed(
    ctx: &Context,
    youngest: Timestamp,
    (objects, rows): (Vec<ObjectHead>, &[Named]),
) -> Result<Unnamed, JobError> {
    let named: HashSet<&str> = rows.iter().map(|row| row.object_key.as_str()).collect();
    let suspects = objects.into_iter().filter(|object| !named.contains(object.key.as_str()));
    let (old, young): (Vec<_>, Vec<_>) = suspects.partition(|object| object.modified_at <= youngest);
    let (old, foreign) = of_known_orgs(ctx, old).await?;
    let orphans = still_unnamed(ctx, old.iter().map(super::orphan).collect()).await?;
    Ok(Unnamed { orphans, young: young.into_iter().map(|object| object.key).collect(), foreign })
}

async fn of_known_orgs(ctx: &Context, objects: Vec<ObjectHead>) -> Result<(Vec<ObjectHead>, Vec<String>), JobError> {
    let org_ids: HashSet<Uuid> = objects.iter().filter_map(|object| keys::blob_org_of(&object.key)).collect();
    let known = orgs::known(&ctx.db, &org_ids).await?;
    let (ours, foreign): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| keys::blob_org_of(&object.key).is_some_and(|org| known.contains(&org)));
    Ok((ours, foreign.into_iter().map(|object| object.key).collect()))
}

/// Those that no row names at this moment.
async fn still_unnamed(ctx: &Context, mut orphans: Vec<Orphan>) -> Result<Vec<Orphan>, JobError> {
    let object_keys: Vec<String> = orphans.iter().map(|orphan| orphan.object_key.clone()).collect();
    let named = blobs::naming(&ctx.db, &object_keys).await?;
    let named: HashSet<String> = named.into_iter().map(|row| row.object_key).collect();
    orphans.retain(|orphan| !named.contains(&orphan.object_key));
    Ok(orphans)
}

/// By when an orphan has to have been seen first, and stored, to go.
#[derive(Clone, Copy)]
pub(super) struct By {
    pub(super) seen: Timestamp,
    pub(super) stored: Timestamp,
}

/// Removes those whose window has passed, after a last look at the ledger. A key is never given twice, and no store that could
/// still name one of these runs: who is not named now never will be.
pub(super) async fn remove(ctx: &Context, span: &Span, by: By) -> Result<Vec<Orphan>, JobError> {
    let due = sweeps::seen_by(&ctx.db, Kind::Blob, span, by.seen).await?;
    let orphan =
        |found: sweeps::Finding| Orphan { object_key: found.object_key, size: found.size, stored_at: found.stored_at };
    let due = due.into_iter().filter(|found| found.stored_at <= by.stored).map(orphan).collect();
    let due = still_unnamed(ctx, due).await?;
    super::remove(ctx, Kind::Blob, &due).await?;
    if !due.is_empty() {
        let gone: Vec<String> = due.iter().map(|orphan| orphan.object_key.clone()).collect();
        sweeps::strike(&ctx.db, Kind::Blob, &gone).await?;
        tracing::info!(removed = due.len(), first = gone[0], "objects below blobs/ that no row named were removed");
    }
    Ok(due)
}
