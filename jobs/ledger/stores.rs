//! Storing files, many in one transaction: six statements, however many uploads are stored.
//!
//! Uploads of the same bytes share a blob: the org's, if it has one that stands, else the copy of the first that brought
//! one. Where neither is to be had, because the org's blob is being removed, the uploads are put back as they were.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::engine::{Engine, Unit};
use super::files::{Stored, entry_of};
use super::steps::{listed, millis};
use super::{LedgerError, Tx};
use crate::model::file::File;
use crate::model::report::Delta;
use crate::model::{Digest, Timestamp, Upload};

/// One upload to be stored.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) upload: Upload,
    /// The key of a copy that may become the blob.
    pub(super) copy: Option<String>,
    pub(super) now: Timestamp,
}

pub(super) const DONE: &str = "update uploads
    set status = 'done', stored_at = cast(given.value ->> 'now' as bigint),
        updated_at = cast(given.value ->> 'now' as bigint), resume_at = null, next_poll_at = null, policy = null
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 'id') and status || '' = 'verified' and etag = given.value ->> 'etag'
    returning uploads.id";

pub(super) const JOIN: &str = "update blobs
    set refs = refs + cast(given.value ->> 'refs' as bigint), unreferenced_at = null
    from json_each($1) given
    where org_id = unhex(given.value ->> 'org') and sha256 = given.value ->> 'sha256' and state = 'live'
    returning blobs.id, org_id, sha256, refs";

const ADOPT: &str = "insert into blobs (id, org_id, sha256, size, object_key, state, refs, created_at)
    select unhex(value ->> 'id'), unhex(value ->> 'org'), value ->> 'sha256', cast(value ->> 'size' as bigint), value ->> 'key',
        'live', cast(value ->> 'refs' as bigint), cast(value ->> 'now' as bigint)
    from json_each($1)
    where true
    on conflict (org_id, sha256) do nothing
    returning id, org_id, sha256, refs";

const FILES: &str = "insert into files
    (id, org_id, user_id, upload_id, blob_id, filename, size, sha256, content_type, target_kind, target_number,
     deduplicated, created_at)
    select unhex(value ->> 0), unhex(value ->> 1), unhex(value ->> 2), unhex(value ->> 3), unhex(value ->> 4), value ->> 5,
        cast(value ->> 6 as bigint), value ->> 7, value ->> 8, value ->> 9, value ->> 10, cast(value ->> 11 as boolean),
        cast(value ->> 12 as bigint)
    from json_each($1)";

pub(super) const DEDUPLICATED: &str = "update uploads
    set deduplicated = cast(given.value ->> 1 as boolean)
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 0)";

pub(super) const PUT_BACK: &str = "update uploads
    set status = 'verified', stored_at = null, updated_at = cast(given.value ->> 'updated_at' as bigint),
        resume_at = cast(given.value ->> 'resume_at' as bigint)
    from json_each($1) given
    where uploads.id = unhex(given.value ->> 'id')";

const DELTAS: &str = "insert into report_deltas (org_id, files, bytes, unique_files, unique_bytes, created_at)
    select unhex(value ->> 0), cast(value ->> 1 as bigint), cast(value ->> 2 as bigint), cast(value ->> 3 as bigint),
        cast(value ->> 4 as bigint), cast(value ->> 5 as bigint)
    from json_each($1)";

/// What became of each, in order.
pub(super) async fn store_all(engine: Engine, stores: Vec<Store>) -> Result<Vec<Stored>, LedgerError> {
    engine.write(Unit::Statements, move |mut tx| Box::pin(async move { Ok(store_in(&mut tx, &stores).await?) })).await
}

/// Gives those that were born done their files. What became of each, in order: joined, or leaving where the org has no blob
/// to join any more.
pub(super) async fn join_all(tx: &mut Tx<'_>, stores: &[Store]) -> Result<Vec<Stored>, sqlx::Error> {
    let mut groups = group(stores, &(0..stores.len()).collect::<Vec<_>>());
    join(tx, &mut groups).await?;
    let answers = answers(stores.len(), &groups);
    record(tx, stores, &groups, &answers).await?;
    Ok(answers)
}

/// Uploads that bring the same bytes to the same org.
struct Group<'s> {
    org: Uuid,
    sha256: Digest,
    /// Places in the list of those who asked.
    members: Vec<usize>,
    /// The place of the one whose copy may become the blob, and that copy.
    copy: Option<(usize, &'s str)>,
    blob: Option<Uuid>,
    /// Whether the copy became the blob.
    adopted: bool,
    /// Whether nothing referred to the blob before.
    revived: bool,
}

async fn store_in(tx: &mut Tx<'_>, stores: &[Store]) -> Result<Vec<Stored>, sqlx::Error> {
    let won = win(tx, stores).await?;
    let mut groups = group(stores, &won);
    join(tx, &mut groups).await?;
    let offered = adopt(tx, &mut groups, stores).await?;
    if groups.iter().filter(|group| group.adopted).count() < offered {
        // Another process has just adopted a copy of its own. That blob may be joined, if it is not being removed already.
        join(tx, &mut groups).await?;
    }
    let answers = answers(stores.len(), &groups);
    let lost: Vec<&Store> = picked(stores, &answers, Stored::Leaving);
    if !lost.is_empty() {
        run(tx, PUT_BACK, &lost.iter().map(|store| put_back(store)).collect::<Vec<_>>()).await?;
    }
    record(tx, stores, &groups, &answers).await?;
    tell(tx, stores, &answers).await?;
    Ok(answers)
}

/// The places of those whose move to done was made. Of two for the same upload, the first.
async fn win(tx: &mut Tx<'_>, stores: &[Store]) -> Result<Vec<usize>, sqlx::Error> {
    let row =
        |store: &Store| json!({ "id": listed(store.upload.id), "etag": store.upload.etag, "now": millis(store.now) });
    let mut in_order: Vec<&Store> = stores.iter().collect();
    in_order.sort_by_key(|store| store.upload.id);
    let list = json!(in_order.into_iter().map(row).collect::<Vec<_>>()).to_string();
    let done: Vec<Uuid> = sql!(tx.on(), c => sqlx::query_scalar(DONE).bind(list).fetch_all(c).await)?;
    let mut done: HashSet<Uuid> = done.into_iter().collect();
    Ok((0..stores.len()).filter(|&place| done.remove(&stores[place].upload.id)).collect())
}

fn group<'s>(stores: &'s [Store], won: &[usize]) -> Vec<Group<'s>> {
    let mut groups: Vec<Group<'s>> = Vec::new();
    let mut places = HashMap::new();
    for &place in won {
        let Store { upload, copy, .. } = &stores[place];
        let Some(sha256) = upload.verified_sha256 else { continue };
        let at = *places.entry((upload.org_id, sha256)).or_insert_with(|| {
            let (org, members) = (upload.org_id, Vec::new());
            groups.push(Group { org, sha256, members, copy: None, blob: None, adopted: false, revived: false });
            groups.len() - 1
        });
        groups[at].members.push(place);
        if groups[at].copy.is_none() {
            groups[at].copy = copy.as_deref().map(|key| (place, key));
        }
    }
    // Two processes that store the same bytes take turns at the blobs in one order.
    groups.sort_unstable_by_key(|group| (group.org, group.sha256));
    groups
}

/// A blob that a statement has touched: its id, whose it is, its bytes, and how many refer to it now.
type Touched = (Uuid, Uuid, Digest, i64);

/// Lets the groups that have no blob yet join those that their orgs have.
async fn join(tx: &mut Tx<'_>, groups: &mut [Group<'_>]) -> Result<(), sqlx::Error> {
    let row =
        |group: &Group<'_>| json!({ "org": listed(group.org), "sha256": group.sha256, "refs": group.members.len() });
    let without = groups.iter().filter(|group| group.blob.is_none());
    let list = json!(without.map(row).collect::<Vec<_>>()).to_string();
    let touched: Vec<Touched> = sql!(tx.on(), c => sqlx::query_as(JOIN).bind(list).fetch_all(c).await)?;
    for (group, refs) in give(groups, &touched) {
        group.revived = i64::try_from(group.members.len()).is_ok_and(|all| all == refs);
    }
    Ok(())
}

/// Makes blobs of the copies of those groups that have found none; says how many copies there were.
async fn adopt(tx: &mut Tx<'_>, groups: &mut [Group<'_>], stores: &[Store]) -> Result<usize, sqlx::Error> {
    let row = |group: &Group<'_>| {
        let (place, key) = group.copy.filter(|_| group.blob.is_none())?;
        Some(json!({
            "id": listed(Uuid::now_v7()),
            "org": listed(group.org),
            "sha256": group.sha256,
            "size": stores[place].upload.arrived_size,
            "key": key,
            "refs": group.members.len(),
            "now": millis(stores[place].now),
        }))
    };
    let rows: Vec<_> = groups.iter().filter_map(row).collect();
    if rows.is_empty() {
        return Ok(0);
    }
    let list = json!(rows).to_string();
    let touched: Vec<Touched> = sql!(tx.on(), c => sqlx::query_as(ADOPT).bind(list).fetch_all(c).await)?;
    for (group, _) in give(groups, &touched) {
        group.adopted = true;
    }
    Ok(rows.len())
}

/// Gives each group the blob that was touched for it; says which have got one, and how many refer to that.
fn give<'g, 's>(groups: &'g mut [Group<'s>], touched: &[Touched]) -> Vec<(&'g mut Group<'s>, i64)> {
    let mut given = Vec::new();
    for group in groups {
        let mine = touched.iter().find(|(_, org, sha256, _)| (*org, *sha256) == (group.org, group.sha256));
        if let Some((blob, .., refs)) = mine {
            group.blob = Some(*blob);
            given.push((group, *refs));
        }
    }
    given
}

fn answers(count: usize, groups: &[Group<'_>]) -> Vec<Stored> {
    let mut answers = vec![Stored::Lost; count];
    for group in groups {
        for &place in &group.members {
            let own = group.adopted && group.copy.is_some_and(|(adopter, _)| adopter == place);
            answers[place] = match group.blob {
                None => Stored::Leaving,
                Some(_) if own => Stored::Adopted,
                Some(_) => Stored::Joined,
            };
        }
    }
    answers
}

fn picked<'s>(stores: &'s [Store], answers: &[Stored], wanted: Stored) -> Vec<&'s Store> {
    stores.iter().zip(answers).filter(|(_, answer)| **answer == wanted).map(|(store, _)| store).collect()
}

fn put_back(store: &Store) -> Value {
    let upload = &store.upload;
    let resume_at = upload.resume_at.map(millis);
    json!({ "id": listed(upload.id), "updated_at": millis(upload.updated_at), "resume_at": resume_at })
}

/// Has the uploads say whether the org had their bytes.
async fn tell(tx: &mut Tx<'_>, stores: &[Store], answers: &[Stored]) -> Result<(), sqlx::Error> {
    let row = |(store, answer): (&Store, &Stored)| match answer {
        Stored::Adopted | Stored::Joined => Some(json!([listed(store.upload.id), *answer == Stored::Joined])),
        Stored::Lost | Stored::Leaving => None,
    };
    let told: Vec<_> = stores.iter().zip(answers).filter_map(row).collect();
    if told.is_empty() { Ok(()) } else { run(tx, DEDUPLICATED, &told).await }
}

/// Writes the entries, and one delta for each org.
async fn record(
    tx: &mut Tx<'_>,
    stores: &[Store],
    groups: &[Group<'_>],
    answers: &[Stored],
) -> Result<(), sqlx::Error> {
    let (mut files, mut deltas) = (Vec::new(), HashMap::<Uuid, (Delta, i64)>::new());
    for group in groups {
        let Some(blob) = group.blob else { continue };
        for &place in &group.members {
            let Store { upload, now, .. } = &stores[place];
            let (joined, size) = (answers[place] == Stored::Joined, upload.arrived_size.unwrap_or(0));
            files.push(file_row(&entry_of(upload, (group.sha256, size), blob, joined)));
            let (delta, at) = deltas.entry(group.org).or_insert((Delta::NONE, millis(*now)));
            let new = !joined || (group.revived && Some(&place) == group.members.first());
            (*delta, *at) = (delta.plus(Delta::stored(size, new)), millis(*now));
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    let delta_row = |(org, (delta, now)): (&Uuid, &(Delta, i64))| {
        json!([listed(*org), delta.files, delta.bytes, delta.unique_files, delta.unique_bytes, now])
    };
    run(tx, FILES, &files).await?;
    run(tx, DELTAS, &deltas.iter().map(delta_row).collect::<Vec<_>>()).await
}

fn file_row(file: &File) -> Value {
    json!([
        listed(file.id),
        listed(file.org_id),
        listed(file.user_id),
        listed(file.upload_id),
        listed(file.blob_id),
        file.filename,
        file.size,
        file.sha256,
        file.content_type,
        file.target_kind,
        file.target_number,
        file.deduplicated,
        millis(file.created_at),
    ])
}

async fn run(tx: &mut Tx<'_>, query: &'static str, rows: &[Value]) -> Result<(), sqlx::Error> {
    let list = json!(rows).to_string();
    sql!(tx.on(), c => sqlx::query(query).bind(list).execute(c).await.map(drop))
}
