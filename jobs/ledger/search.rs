//! Finds what an operator has a word of: an id, a hash, a name, a number.
//!
//! Over all orgs, and by index alone: nothing here reads a table. Most indexes begin with the org, so each org is probed
//! for its newest match, which costs microseconds, and those that have one are asked for more. Uploads that came to nothing have
//! small indexes of their own; of those that are still open, the newest are looked through.

mod places;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use self::places::{BY_DIGEST, BY_NAME, ENDED_BY_CLAIM, ENDED_BY_DIGEST, ENDED_BY_NAME, OPEN, Place, WITH_BYTES};
use super::batches::COUNTS;
use super::dead_letters::DeadLetter;
use super::steps::{FIND, listed};
use super::{Db, LedgerError, Tx};
use crate::model::batch::Count;
use crate::model::org::{ApiKey, Org};
use crate::model::{Batch, Digest, Status, Upload, words};

/// The most that one search finds.
pub const MOST: usize = 50;
/// One more tells that there are more.
const ENOUGH: i64 = 51;
/// So many of the newest open uploads of each state are looked through.
const LOOKED_THROUGH: i64 = 2_500;
/// A search that takes longer is of no use to anybody. SQLite is local, and has nobody else to wait for.
const TIME_LIMIT: &str = "set local statement_timeout = '2s'";

words! {
    /// What of a thing was what was asked for.
    By, "a kind of match" {
        /// Its id, or its file's, or the id that a dead letter's job was about.
        Id = "id",
        /// What an org or a key is called.
        Name = "name",
        /// The file's name.
        Filename = "filename",
        /// The SHA-256 of the bytes, as computed or as declared.
        Hash = "hash",
        /// The number of the order that it is for.
        Order = "order",
        /// The number of the style that it is for.
        Style = "style",
        /// The client's own id.
        Ref = "ref",
    }
}

/// One thing that was found.
#[derive(Clone, Debug)]
pub struct Hit {
    /// The thing.
    pub thing: Thing,
    /// By what.
    pub by: By,
}

/// What can be found.
#[derive(Clone, Debug)]
pub enum Thing {
    /// An upload.
    Upload(Box<Upload>),
    /// What an upload has become.
    File(Box<Upload>),
    /// A batch, and where its uploads stand.
    Batch(Box<Batch>, Vec<Count>),
    /// An org.
    Org(Org),
    /// A dead letter.
    Letter(Box<FoundLetter>),
    /// An API key.
    Key(ApiKey),
}

/// A dead letter, and whose it is.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct FoundLetter {
    /// The letter.
    #[sqlx(flatten)]
    pub letter: DeadLetter,
    /// `None` when it is nobody's.
    pub org_id: Option<Uuid>,
    /// Whether its job was about an upload.
    pub of_upload: bool,
}

/// What a search has found.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// The newest of each kind of match, at most [`MOST`] in all.
    pub hits: Vec<Hit>,
    /// The names of their orgs.
    pub orgs: HashMap<Uuid, String>,
    /// Whether there are more.
    pub truncated: bool,
}

/// Whatever is called, numbered or hashed exactly so.
pub async fn search(db: &Db, asked: String) -> Result<Results, LedgerError> {
    db.read_snapshot(move |tx| Box::pin(async move { Look { tx }.all(&asked).await })).await
}

/// What was found by one kind of match.
struct Group {
    by: By,
    /// Newest first.
    found: Vec<Found>,
}

/// Uploads are read when it is clear which of them are shown.
enum Found {
    Upload(Uuid),
    Other(Thing),
}

struct Look<'t> {
    tx: Tx<'t>,
}

/// The rows of a query on the look's connection.
macro_rules! rows {
    ($look:expr, $text:expr $(, $bind:expr)* $(,)?) => {{
        let text = AssertSqlSafe($text);
        sql!($look.tx.on(), c => sqlx::query_as(text)$(.bind($bind))*.fetch_all(c).await)?
    }};
}

/// As [`rows!`], of ids.
macro_rules! ids {
    ($look:expr, $text:expr $(, $bind:expr)* $(,)?) => {{
        let text = AssertSqlSafe($text);
        let ids: Vec<Uuid> = sql!($look.tx.on(), c => sqlx::query_scalar(text)$(.bind($bind))*.fetch_all(c).await)?;
        ids
    }};
}

impl Look<'_> {
    async fn all(mut self, asked: &str) -> Result<Results, LedgerError> {
        if let super::Connection::Postgres(connection) = self.tx.on() {
            sqlx::query(TIME_LIMIT).execute(connection).await?;
        }
        let mut groups = Vec::new();
        if let Ok(id) = Uuid::try_parse(asked) {
            groups.push(self.by_id(id).await?);
        }
        groups.push(self.by_own_name(asked).await?);
        if let Some(digest) = digest_of(asked) {
            groups.push(self.by_digest(digest).await?);
        }
        groups.push(self.by_filename(asked).await?);
        for place in [places::ORDER, places::STYLE] {
            let found = self.in_orgs(place, asked).await?;
            groups.push(Group::of_uploads(place.by, found));
        }
        let mut by_ref = self.in_orgs(places::REF, asked).await?;
        by_ref.extend(self.in_orgs(places::FORMER_REF, asked).await?);
        groups.push(Group::of_uploads(By::Ref, by_ref));
        self.read(groups).await
    }

    async fn by_id(&mut self, id: Uuid) -> Result<Group, LedgerError> {
        let mut found: Vec<Found> = Vec::new();
        let mut other = |thing| found.push(Found::Other(thing));
        let uploads: Vec<Upload> = rows!(self, "select * from uploads where id = $1", id);
        uploads.into_iter().for_each(|upload| other(Thing::Upload(Box::new(upload))));
        let files: Vec<Upload> = rows!(self, "select * from uploads where file_id = $1", id);
        files.into_iter().for_each(|upload| other(of_file(upload)));
        let batches: Vec<Batch> = rows!(self, "select * from batches where id = $1", id);
        for batch in batches {
            let counts: Vec<Count> = rows!(self, COUNTS, json!([listed(id)]).to_string());
            other(Thing::Batch(Box::new(batch), counts));
        }
        let orgs: Vec<Org> = rows!(self, "select id, name, created_at from orgs where id = $1", id);
        orgs.into_iter().for_each(|org| other(Thing::Org(org)));
        for text in [places::LETTER_BY_ID, places::LETTERS_BY_SUBJECT] {
            let letters: Vec<FoundLetter> = rows!(self, text, id, ENOUGH);
            letters.into_iter().for_each(|letter| other(Thing::Letter(Box::new(letter))));
        }
        Ok(Group { by: By::Id, found })
    }

    async fn by_own_name(&mut self, name: &str) -> Result<Group, LedgerError> {
        let orgs: Vec<Org> = rows!(self, "select id, name, created_at from orgs where name = $1", name);
        let keys: Vec<ApiKey> = rows!(self, places::KEYS, name, ENOUGH);
        let things = orgs.into_iter().map(Thing::Org).chain(keys.into_iter().map(Thing::Key));
        Ok(Group { by: By::Name, found: things.map(Found::Other).collect() })
    }

    async fn by_digest(&mut self, digest: Digest) -> Result<Group, LedgerError> {
        let mut found = Vec::new();
        for blob in ids!(self, BY_DIGEST, digest, ENOUGH) {
            found.extend(ids!(self, WITH_BYTES, blob, ENOUGH));
        }
        for text in [ENDED_BY_CLAIM, ENDED_BY_DIGEST] {
            found.extend(ids!(self, text, digest, ENOUGH));
        }
        found.extend(ids!(self, places::open("sha256 = $1 or verified_sha256 = $1"), digest, LOOKED_THROUGH, ENOUGH));
        Ok(Group::of_uploads(By::Hash, found))
    }

    async fn by_filename(&mut self, name: &str) -> Result<Group, LedgerError> {
        let mut found = self.in_orgs(BY_NAME, name).await?;
        found.extend(ids!(self, ENDED_BY_NAME, name, ENOUGH));
        found.extend(ids!(self, places::open(OPEN), name, LOOKED_THROUGH, ENOUGH));
        Ok(Group::of_uploads(By::Filename, found))
    }

    /// The newest uploads of every org that are found in this place.
    async fn in_orgs(&mut self, place: Place, text: &str) -> Result<Vec<Uuid>, LedgerError> {
        let mut found = Vec::new();
        for org in ids!(self, place.orgs(), text, ENOUGH) {
            found.extend(ids!(self, place.of_org(), text, org, ENOUGH));
        }
        Ok(found)
    }

    /// Reads what is shown, each thing once.
    async fn read(mut self, groups: Vec<Group>) -> Result<Results, LedgerError> {
        let (groups, truncated) = fair(without_repeats(groups));
        let upload_ids = groups.iter().flat_map(|group| &group.found).filter_map(|found| match found {
            Found::Upload(id) => Some(listed(*id)),
            Found::Other(_) => None,
        });
        let list = json!(upload_ids.collect::<Vec<_>>()).to_string();
        let rows: Vec<Upload> = rows!(self, FIND, list);
        let mut uploads: HashMap<Uuid, Upload> = rows.into_iter().map(|row| (row.id, row)).collect();
        let hits: Vec<Hit> = groups.into_iter().flat_map(|group| group.hits(&mut uploads)).collect();
        let orgs: HashSet<Uuid> = hits.iter().filter_map(|hit| hit.thing.org()).collect();
        let list = json!(orgs.into_iter().map(listed).collect::<Vec<_>>()).to_string();
        let orgs: Vec<(Uuid, String)> =
            rows!(self, "select id, name from orgs where id in (select unhex(atom) from json_each($1))", list);
        Ok(Results { hits, orgs: orgs.into_iter().collect(), truncated })
    }
}

/// Also as other tools write it.
fn digest_of(asked: &str) -> Option<Digest> {
    asked.strip_prefix("sha256:").unwrap_or(asked).parse().ok()
}

fn of_file(upload: Upload) -> Thing {
    let upload = Box::new(upload);
    if upload.status == Status::Done && upload.file_deleted_at.is_none() {
        return Thing::File(upload);
    }
    Thing::Upload(upload)
}

impl Thing {
    /// Whose it is.
    #[must_use]
    pub fn org(&self) -> Option<Uuid> {
        match self {
            Self::Upload(upload) | Self::File(upload) => Some(upload.org_id),
            Self::Batch(batch, _) => Some(batch.org_id),
            Self::Org(org) => Some(org.id),
            Self::Letter(found) => found.org_id,
            Self::Key(key) => Some(key.org_id),
        }
    }
}

impl Group {
    /// Ids tell when they were made.
    fn of_uploads(by: By, mut ids: Vec<Uuid>) -> Self {
        ids.sort_unstable_by(|one, other| other.cmp(one));
        ids.dedup();
        Self { by, found: ids.into_iter().map(Found::Upload).collect() }
    }

    fn hits(self, uploads: &mut HashMap<Uuid, Upload>) -> Vec<Hit> {
        let by = self.by;
        let things = self.found.into_iter().filter_map(|found| match found {
            Found::Upload(id) => uploads.remove(&id).map(of_file),
            Found::Other(thing) => Some(thing),
        });
        things.map(|thing| Hit { thing, by }).collect()
    }
}

/// What was found in two ways is shown in the first.
fn without_repeats(mut groups: Vec<Group>) -> Vec<Group> {
    let mut seen = HashSet::new();
    for group in &mut groups {
        group.found.retain(|found| match found {
            Found::Upload(id) => seen.insert(*id),
            Found::Other(Thing::Upload(upload) | Thing::File(upload)) => seen.insert(upload.id),
            Found::Other(_) => true,
        });
    }
    groups
}

/// No more than [`MOST`] in all: the longest group gives way first.
fn fair(mut groups: Vec<Group>) -> (Vec<Group>, bool) {
    let mut truncated = false;
    while groups.iter().map(|group| group.found.len()).sum::<usize>() > MOST {
        if let Some(longest) = groups.iter_mut().max_by_key(|group| group.found.len()) {
            longest.found.pop();
            truncated = true;
        }
    }
    (groups, truncated)
}
