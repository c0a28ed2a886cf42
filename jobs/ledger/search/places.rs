//! Where things are looked up, each by an index.

use super::super::refs::ref_stands;
use super::By;

/// Where an org's uploads are found by a text, which is `$1`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) by: By,
    table: &'static str,
    /// The column that names the upload.
    upload: &'static str,
    condition: &'static str,
    /// In the order of the index, or one that no index has: SQLite would rather read an org in the order of its ids than
    /// sort two rows.
    order: &'static str,
}

pub(super) const BY_NAME: Place =
    Place { by: By::Filename, table: "files", upload: "upload_id", condition: "x.filename = $1", order: "x.id" };

const OF_TARGET: Place = Place { by: By::Order, table: "uploads", upload: "id", condition: "", order: "x.id" };

pub(super) const ORDER: Place = Place { condition: "x.target_kind = 'order' and x.target_number = $1", ..OF_TARGET };

pub(super) const STYLE: Place =
    Place { by: By::Style, condition: "x.target_kind = 'style' and x.target_number = $1", ..OF_TARGET };

/// The upload for which the client's own id stands.
pub(super) const REF: Place = Place {
    by: By::Ref,
    condition: concat!("x.client_ref = $1 and ", ref_stands!("x")),
    order: "x.created_at",
    ..OF_TARGET
};

/// Those for which it stood.
pub(super) const FORMER_REF: Place = Place {
    condition: "x.client_ref = $1
        and (x.status in ('rejected', 'expired', 'cancelled') or x.file_deleted_at is not null)",
    ..REF
};

#[cfg(test)]
pub(super) const EACH_PLACE: [Place; 5] = [BY_NAME, ORDER, STYLE, REF, FORMER_REF];

impl Place {
    /// The orgs that have any, those with the newest first: one probe each. `$2` is how many are enough.
    pub(super) fn orgs(&self) -> String {
        let Self { table, condition, order, .. } = self;
        format!(
            "select org
            from (
                select o.id as org, (
                    select x.id from {table} x
                    where x.org_id = o.id and {condition}
                    order by {order} desc
                    limit 1) as newest
                from orgs o) probed
            where newest is not null
            order by newest desc
            limit $2"
        )
    }

    /// The newest of one org, which is `$2`. `$3` is how many are enough.
    pub(super) fn of_org(&self) -> String {
        let Self { table, upload, condition, order, .. } = self;
        format!("select x.{upload} from {table} x where x.org_id = $2 and {condition} order by {order} desc limit $3")
    }
}

/// The blobs with these bytes, of which each org has one at most.
pub(super) const BY_DIGEST: &str = "select blob
    from (
        select (select x.id from blobs x where x.org_id = o.id and x.sha256 = $1) as blob
        from orgs o) probed
    where blob is not null
    order by blob desc
    limit $2";

/// The uploads whose files have the bytes of a blob.
pub(super) const WITH_BYTES: &str = "select upload_id from files where blob_id = $1 order by id desc limit $2";

pub(super) const ENDED_BY_NAME: &str = "select id
    from uploads
    where filename = $1 and status in ('rejected', 'expired', 'cancelled')
    order by id desc
    limit $2";

/// Declared to have these bytes.
pub(super) const ENDED_BY_CLAIM: &str = "select id
    from uploads
    where sha256 = $1 and status in ('rejected', 'expired', 'cancelled')
    order by id desc
    limit $2";

/// Found to have them.
pub(super) const ENDED_BY_DIGEST: &str = "select id
    from uploads
    where verified_sha256 = $1 and status in ('rejected', 'expired', 'cancelled')
    order by id desc
    limit $2";

/// The open ones of this name.
pub(super) const OPEN: &str = "filename = $1";

/// Those of the newest open uploads, `$2` of each state, to which the condition applies. `$3` is how many are enough.
pub(super) fn open(condition: &str) -> String {
    let newest = ["requested", "issued", "arrived", "verified"].map(|status| {
        format!(
            "select * from (
                select id, filename, sha256, verified_sha256
                from uploads
                where status = '{status}' and status in ('requested', 'issued', 'arrived', 'verified')
                order by created_at desc
                limit $2) as {status}"
        )
    });
    let newest = newest.join(" union all ");
    format!("select id from ({newest}) as newest where {condition} order by id desc limit $3")
}

pub(super) const LETTER_BY_ID: &str = "select l.*, exists (select 1 from uploads u where u.id = l.subject) as of_upload
    from dead_letters l
    where l.id = $1
    limit $2";

pub(super) const LETTERS_BY_SUBJECT: &str =
    "select l.*, exists (select 1 from uploads u where u.id = l.subject) as of_upload
    from dead_letters l
    where l.subject = $1
    order by l.died_at desc
    limit $2";

/// Keys by their public half, or by what they are called.
pub(super) const KEYS: &str =
    "select key, org_id, user_id, name, scopes, secret_hash, created_at, expires_at, revoked_at
    from api_keys
    where key = $1 or name = $1
    order by created_at desc
    limit $2";
