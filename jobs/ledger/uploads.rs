//! Uploads: inserted by doors, moved by jobs, each move a compare-and-set that tells whether somebody was faster.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::refs::ref_stands;
use super::stalled::{next_resume, no_letter};
use super::steps::{Arrive, Issue, Verify, listed, millis};
use super::{Db, LedgerError, rows};
use crate::model::policy::PostPolicy;
use crate::model::upload::{ArrivedVia, Reason};
use crate::model::{Digest, Status, Timestamp, Upload};
use crate::outside::ObjectHead;

/// Adds a row as it is. [`LedgerError::is_taken`] when its `client_ref` stands for another open upload of the org.
pub async fn insert(db: &Db, rows: Vec<Upload>) -> Result<(), LedgerError> {
    db.write(move |mut tx| {
        Box::pin(async move {
            let inserted = rows::insert(&mut tx, rows.iter().map(|row| (row, None))).await?;
            if inserted.len() < rows.len() { Err(LedgerError::Taken) } else { Ok(()) }
        })
    })
    .await
}

/// How long after its policy was handed out the second look at the bucket comes.
const SECOND_POLL: Duration = Duration::from_secs(600);

/// requested → issued, to be looked for at `poll_at`. `false` when the row has a policy or has moved on.
pub async fn issue(
    db: &Db,
    id: Uuid,
    policy: PostPolicy,
    poll_at: Timestamp,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let text = serde_json::to_string(&policy).expect("a policy is a map of strings");
    let (ends, poll_at, now) = (millis(policy.expires_at), millis(poll_at), millis(now));
    let issue = Issue { id: listed(id), policy: text, ends, poll_at, now };
    let done = db.gathered().issue.ask(issue).await?;
    Ok(moved(db, id, Status::Issued, done.into()))
}

/// issued or expired → issued without a policy, so that `issue_policy` signs a fresh one. `false` from any other state.
pub async fn renew(
    db: &Db,
    id: Uuid,
    ends: Timestamp,
    resume_at: Timestamp,
    now: Timestamp,
) -> Result<bool, LedgerError> {
    let done = db
        .write_one_again(move |mut tx| {
            Box::pin(async move {
                let query = "update uploads
                    set status = 'issued', policy = null, policy_expires_at = $2, issued_at = null, resume_at = $3,
                        resumes = 0, updated_at = $4
                    where id = $1 and status in ('issued', 'expired')";
                Ok(sql!(tx.on(), c => sqlx::query(query)
                    .bind(id)
                    .bind(ends)
                    .bind(resume_at)
                    .bind(now)
                    .execute(c)
                    .await?
                    .rows_affected()))
            })
        })
        .await?;
    Ok(done == 1)
}

/// The object is there: requested, issued or expired → arrived. `false` from any other state, and from expired when the
/// row [is superseded](is_superseded). `times` are now and when the row is to be resumed if it stands.
pub async fn arrive(
    db: &Db,
    id: Uuid,
    head: &ObjectHead,
    via: ArrivedVia,
    times: (Timestamp, Timestamp),
) -> Result<bool, LedgerError> {
    let (now, resume_at) = (millis(times.0), millis(times.1));
    let (etag, size, landed) = (head.etag.clone(), head.size, head.landed_at().map(millis));
    let arrive = Arrive { id: listed(id), etag, size, via: via.as_str(), landed, now, resume_at };
    let done = db.gathered().arrive.ask(arrive).await?;
    Ok(moved(db, id, Status::Arrived, done.into()))
}

/// The bytes of this version were hashed and are right: arrived → verified. `false` when the row has moved on or knows
/// of another version, or when the manifest of its batch pins another hash. `times` as in [`arrive`].
pub async fn verify(
    db: &Db,
    (id, batch): (Uuid, Option<Uuid>),
    etag: String,
    sha256: Digest,
    times: (Timestamp, Timestamp),
) -> Result<bool, LedgerError> {
    let (now, resume_at) = (millis(times.0), millis(times.1));
    let verify = Verify { id: listed(id), batch, etag, sha256: sha256.to_string(), now, resume_at };
    let done = db.gathered().verify.ask(verify).await?;
    Ok(moved(db, id, Status::Verified, done.into()))
}

/// The bytes changed under us: arrived or verified → arrived with the version that is there now. `false` when the row is no
/// longer as it was seen, or was seen in any other state.
pub async fn arrive_again(db: &Db, seen: &Upload, head: &ObjectHead, now: Timestamp) -> Result<bool, LedgerError> {
    if !matches!(seen.status, Status::Arrived | Status::Verified) {
        return Ok(false);
    }
    let (id, from, old, etag, size) = (seen.id, seen.status, seen.etag.clone(), head.etag.clone(), head.size);
    let landed = head.landed_at();
    let done = db
        .write_one_again(move |mut tx| {
            Box::pin(async move {
                let query = "update uploads
                    set status = 'arrived', etag = $4, arrived_size = $5, landed_at = $6, verified_sha256 = null,
                        verified_at = null, changes = changes + 1, updated_at = $7
                    where id = $1 and status = $2 and etag = $3";
                Ok(sql!(tx.on(), c => sqlx::query(query)
                    .bind(id)
                    .bind(from)
                    .bind(old)
                    .bind(etag)
                    .bind(size)
                    .bind(landed)
                    .bind(now)
                    .execute(c)
                    .await?
                    .rows_affected()))
            })
        })
        .await?;
    Ok(moved(db, id, Status::Arrived, done))
}

/// arrived or verified → rejected. `false` when the row is no longer as it was seen, or was seen in any other state.
pub async fn reject(db: &Db, seen: &Upload, reason: Reason, now: Timestamp) -> Result<bool, LedgerError> {
    if !seen.status.can_become(Status::Rejected) {
        return Ok(false);
    }
    let (id, from, etag, found) = (seen.id, seen.status, seen.etag.clone(), seen.verified_sha256);
    let done = db
        .write_one_again(move |mut tx| {
            Box::pin(async move {
                let query = "update uploads
                    set status = 'rejected', reason = $4, updated_at = $5, next_poll_at = null, resume_at = null,
                        policy = null, verified_sha256 = $6
                    where id = $1 and status = $2 and etag = $3";
                Ok(sql!(tx.on(), c => sqlx::query(query)
                    .bind(id)
                    .bind(from)
                    .bind(etag)
                    .bind(reason)
                    .bind(now)
                    .bind(found)
                    .execute(c)
                    .await?
                    .rows_affected()))
            })
        })
        .await?;
    if done == 1 {
        tracing::info!(upload = %id, %reason, "rejected");
    }
    Ok(moved(db, id, Status::Rejected, done))
}

/// requested or issued → expired, if the policy's end is still the one that was seen. `false` from any other state.
pub async fn expire(db: &Db, seen: &Upload, now: Timestamp) -> Result<bool, LedgerError> {
    if !seen.status.can_become(Status::Expired) {
        return Ok(false);
    }
    let (id, from, ends) = (seen.id, seen.status, seen.policy_expires_at);
    let done = db
        .write_one_again(move |mut tx| {
            Box::pin(async move {
                let query = "update uploads
                    set status = 'expired', updated_at = $4, next_poll_at = null, resume_at = null, policy = null
                    where id = $1 and status = $2 and policy_expires_at = $3";
                Ok(sql!(tx.on(), c => sqlx::query(query)
                    .bind(id)
                    .bind(from)
                    .bind(ends)
                    .bind(now)
                    .execute(c)
                    .await?
                    .rows_affected()))
            })
        })
        .await?;
    Ok(moved(db, id, Status::Expired, done))
}

/// requested, issued or arrived → cancelled. `false` from any other state.
pub async fn cancel(db: &Db, id: Uuid, now: Timestamp) -> Result<bool, LedgerError> {
    let done = db
        .write_one_again(move |mut tx| {
            Box::pin(async move {
                let query = "update uploads
                    set status = 'cancelled', updated_at = $2, next_poll_at = null, resume_at = null, policy = null
                    where id = $1 and status in ('requested', 'issued', 'arrived')";
                Ok(sql!(tx.on(), c => sqlx::query(query).bind(id).bind(now).execute(c).await?.rows_affected()))
            })
        })
        .await?;
    Ok(moved(db, id, Status::Cancelled, done))
}

/// The one place that tells of a move: to those who wait and to the counters.
pub(super) fn moved(db: &Db, id: Uuid, to: Status, rows: u64) -> bool {
    if rows == 0 {
        return false;
    }
    tracing::debug!(upload = %id, %to, "moved");
    if to.is_final() {
        metrics::counter!("longshore_uploads_total", "outcome" => to.as_str()).increment(1);
    }
    db.moves().announce(id, to);
    true
}

/// The upload; `None` when there is none of that id.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<Upload>, LedgerError> {
    db.gathered().find.ask(id).await
}

/// The upload whose file entry has or will have that id.
pub async fn find_by_file(db: &Db, file: Uuid) -> Result<Option<Upload>, LedgerError> {
    let query = "select * from uploads where file_id = $1";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(file).fetch_optional(c).await)?)
}

/// The upload that stands under a client's own id.
pub async fn find_by_ref(db: &Db, org: Uuid, client_ref: &str) -> Result<Option<Upload>, LedgerError> {
    let query = concat!("select * from uploads where org_id = $1 and client_ref = $2 and ", ref_stands!());
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(org).bind(client_ref).fetch_optional(c).await)?)
}

/// Whether the upload has expired and its client's own id stands for another one now, so that it cannot come back.
pub async fn is_superseded(db: &Db, id: Uuid) -> Result<bool, LedgerError> {
    let query = concat!(
        "select exists (
        select 1
        from uploads late
        join uploads other on other.org_id = late.org_id and other.client_ref = late.client_ref
        where late.id = $1 and late.status = 'expired' and ",
        ref_stands!("other"),
        ")"
    );
    Ok(sql!(db.reader(), c => sqlx::query_scalar(query).bind(id).fetch_one(c).await)?)
}

/// Issued uploads whose object should be looked for by now, most overdue first.
pub async fn due_for_poll(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<Upload>, LedgerError> {
    let query = "select * from uploads where next_poll_at <= $1 order by next_poll_at limit $2";
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(now).bind(limit).fetch_all(c).await)?)
}

/// Sets when each of these is looked for next: ten minutes after it was issued, once more when its policy has ended, and
/// then no more (`expire_uploads` has the last look).
pub async fn polled(db: &Db, seen: Vec<Upload>, now: Timestamp) -> Result<(), LedgerError> {
    let query = "update uploads
        set next_poll_at = cast(given.value ->> 'next' as bigint)
        from json_each($1) given
        where uploads.id = unhex(given.value ->> 'id') and next_poll_at <= $2";
    let row = |row: &Upload| json!({ "id": listed(row.id), "next": next_poll(row, now).map(millis) });
    let list = json!(in_order(seen).iter().map(row).collect::<Vec<_>>()).to_string();
    db.write_one(move |mut tx| {
        Box::pin(
            async move { Ok(sql!(tx.on(), c => sqlx::query(query).bind(list).bind(now).execute(c).await.map(drop))?) },
        )
    })
    .await
}

/// By id: two statements that write many rows must not wait for each other in a ring.
fn in_order(mut rows: Vec<Upload>) -> Vec<Upload> {
    rows.sort_unstable_by_key(|row| row.id);
    rows
}

fn next_poll(row: &Upload, now: Timestamp) -> Option<Timestamp> {
    let second = row.updated_at + SECOND_POLL;
    let last = row.policy_expires_at.map(|end| end + Duration::from_secs(1));
    [Some(second), last].into_iter().flatten().filter(|&at| at > now).min()
}

/// A place in a list of what is to end: when the policy ended, and whose it is.
pub type Ended = (Timestamp, Uuid);

/// The place that such a list starts from.
pub(super) const BEFORE_ALL: Ended = (Timestamp::from_millis(i64::MIN), Uuid::nil());

/// Uploads whose policy ended before `before` and for which nothing came, longest ago first, behind the place `after`.
pub async fn due_to_expire(
    db: &Db,
    before: Timestamp,
    after: Option<Ended>,
    limit: i64,
) -> Result<Vec<Upload>, LedgerError> {
    let query = "select *
        from uploads
        where status in ('requested', 'issued') and policy_expires_at < $1 and (policy_expires_at, id) > ($2, $3)
        order by policy_expires_at, id
        limit $4";
    let (ended, id) = after.unwrap_or(BEFORE_ALL);
    Ok(sql!(db.reader(), c => sqlx::query_as(query)
        .bind(before)
        .bind(ended)
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await)?)
}

/// Rows that stand although a job should have moved them and no dead letter holds them back, most overdue first.
pub async fn due_to_resume(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<Upload>, LedgerError> {
    let query = concat!(
        "select *
        from uploads u
        where u.resume_at <= $1
          and ",
        no_letter!("u"),
        "
        order by u.resume_at
        limit $2"
    );
    Ok(sql!(db.reader(), c => sqlx::query_as(query).bind(now).bind(limit).fetch_all(c).await)?)
}

/// Notes that their jobs were put on again; the next time comes after twice the wait.
pub async fn resumed(db: &Db, seen: Vec<Upload>, base: Duration, now: Timestamp) -> Result<(), LedgerError> {
    let query = "update uploads
        set resume_at = cast(given.value ->> 'next' as bigint), resumes = resumes + 1
        from json_each($1) given
        where uploads.id = unhex(given.value ->> 'id') and status || '' = given.value ->> 'status'";
    let row = |row: &Upload| {
        let next = next_resume(base, row.resumes, now);
        json!({ "id": listed(row.id), "next": millis(next), "status": row.status })
    };
    let list = json!(in_order(seen).iter().map(row).collect::<Vec<_>>()).to_string();
    db.write_one(move |mut tx| {
        Box::pin(async move { Ok(sql!(tx.on(), c => sqlx::query(query).bind(list).execute(c).await.map(drop))?) })
    })
    .await
}

/// How many uploads stand in an open state, and when the oldest of them was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Open {
    /// The state.
    pub status: Status,
    /// How many.
    pub count: i64,
    /// The oldest.
    pub oldest: Timestamp,
}

/// The open uploads by state; a state in which none stands is missing. Of very many, the last count of this process.
pub async fn open(db: &Db) -> Result<Vec<Open>, LedgerError> {
    let query = "select status, count(*) as count, min(created_at) as oldest
        from uploads
        where status in ('requested', 'issued', 'arrived', 'verified')
        group by status";
    let reader = db.clone();
    let count = async move { Ok(sql!(reader.reader(), c => sqlx::query_as(query).fetch_all(c).await)?) };
    db.open_uploads().or_count(|counted| counted.iter().map(|open| open.count.unsigned_abs()).sum(), count).await
}
