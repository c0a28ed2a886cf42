//! Batches of any number of files under one policy: asked for, renewed, and told of.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use longshore_jobs::job::{Lane, NewJob};
use longshore_jobs::ledger::{listings, prefixes};
use longshore_jobs::list_batch::ListBatch;
use longshore_jobs::model::batch::{MOST_FILES, Mode};
use longshore_jobs::model::idempotency::IdempotencyKey;
use longshore_jobs::model::org::Scope;
use longshore_jobs::model::policy::{Place, PolicyTerms, PostPolicy};
use longshore_jobs::model::upload::{ArrivedVia, policy_life};
use longshore_jobs::model::{Batch, Timestamp, keys};

use super::super::Http;
use super::super::answer::POSTED;
use super::super::asked::Id;
use super::super::auth::Caller;
use super::super::body::Fields;
use super::super::errors::ApiError;
use super::super::openapi::{params, refusals};
use super::super::uploads::request::read_target;
use super::create::answer_written;
use super::entry::BatchesAnswer;
use super::{answer, own};

/// However much is allowed, a policy lives no longer. It can be renewed.
const LONGEST_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Takes in a wish for a batch, of whose fields `mode` has been read. Signing asks nobody, so the policy is there at once.
pub async fn create(
    (http, caller): (&Http, &Caller),
    fields: Fields,
    key: Option<IdempotencyKey>,
) -> Result<Response, ApiError> {
    let mut batch = read(http, caller, fields)?;
    let policy = sign(http, &batch).await?;
    batch.next_poll_at = Some(batch.created_at + http.ctx.limits.first_poll);
    (batch.policy, batch.policy_expires_at) = (Some(kept(&policy)), Some(policy.expires_at));
    answer_written((http, caller), StatusCode::CREATED, (batch, Vec::new()), key).await
}

fn read(http: &Http, caller: &Caller, mut fields: Fields) -> Result<Batch, ApiError> {
    let max_files = counted(&mut fields, "maxFiles", (1, MOST_FILES))?;
    let max_file_size = counted(&mut fields, "maxFileSize", (0, http.ctx.limits.max_size))?;
    let target = read_target(&mut fields)?;
    fields.end()?;
    let fresh = Batch::prefix((caller.org(), caller.user()), target, (max_files, max_file_size), http.ctx.now());
    Ok(Batch { traceparent: caller.trace(), ..fresh })
}

fn counted(fields: &mut Fields, name: &str, (least, most): (i64, i64)) -> Result<i64, ApiError> {
    let fault = format!("must be a whole number from {least} to {most}");
    match fields.take::<i64>(name, &fault)? {
        None => Err(fields.fault(name, "must be given")),
        Some(count) if (least..=most).contains(&count) => Ok(count),
        Some(_) => Err(fields.fault(name, fault)),
    }
}

async fn sign(http: &Http, batch: &Batch) -> Result<PostPolicy, ApiError> {
    let max_size = batch.max_file_size.unwrap_or(0);
    let all = batch.max_files.unwrap_or(0).saturating_mul(max_size);
    let life = policy_life(http.ctx.limits.policy_life, Some(all)).min(LONGEST_LIFE);
    let terms = PolicyTerms {
        place: Place::Prefix(keys::batch_prefix(batch.org_id, batch.id), batch.id),
        min_size: 0,
        max_size,
        content_type: None,
        sha256: None,
        traceparent: batch.traceparent,
        expires_at: http.ctx.now() + life,
    };
    Ok(http.ctx.bucket.sign(terms).await?)
}

fn kept(policy: &PostPolicy) -> String {
    serde_json::to_string(policy).expect("a policy is a map of strings")
}

/// Get a fresh policy for a batch.
///
/// Mode `prefix`, while the batch is open. The former one stays good until it ends. Scope `upload`.
#[utoipa::path(post, path = "/api/batches/{id}/policy", tag = "Batches", operation_id = "postBatchPolicy", params(params::Id),
    responses((status = 200, description = "The batch with its policy", body = BatchesAnswer), refusals::MoveOfBatch))]
pub async fn fresh_policy(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let batch = own_prefix(&http, &caller, &id).await?;
    let policy = sign(&http, &batch).await?;
    let (now, kept) = (http.ctx.now(), kept(&policy));
    let times = (now - http.ctx.limits.expiry_grace, now);
    if !prefixes::renew(&http.ctx.db, batch.id, (kept, policy.expires_at), times).await? {
        return Err(is_closed());
    }
    // Where it was not looked for any more, it is again.
    if batch.next_poll_at.is_none() {
        listings::want(&http.ctx.db, batch.id, now + http.ctx.limits.first_poll).await?;
    }
    let batch = own(&http, &caller, &id).await?;
    answer((&http, &caller), StatusCode::OK, POSTED, batch).await
}

/// Say that files were put below a batch's prefix.
///
/// Schedules a look at the bucket, and proves nothing by itself: any number of calls, with any body or none, do no harm. Scope
/// `upload`.
#[utoipa::path(post, path = "/api/batches/{id}/callback", tag = "Batches", operation_id = "postBatchCallback", params(params::Id),
    responses((status = 202, description = "The batch as it is before the look", body = BatchesAnswer,
        headers(("Location" = String, description = "Where it can be looked at"), ("Retry-After" = u32, description = "Seconds"))),
        refusals::MoveOfBatch))]
pub async fn callback(State(http): State<Arc<Http>>, caller: Caller, id: Id) -> Result<Response, ApiError> {
    caller.needs(Scope::Upload)?;
    let batch = own_prefix(&http, &caller, &id).await?;
    let now: Timestamp = http.ctx.now();
    if listings::want(&http.ctx.db, batch.id, now).await? {
        let list = ListBatch { batch: batch.id, via: ArrivedVia::Callback };
        http.ctx.queue.push(vec![NewJob::of(&list, Lane::Interactive, now)]).await?;
    }
    answer((&http, &caller), StatusCode::ACCEPTED, POSTED, batch).await
}

/// The caller's own batch, of the mode that has one policy.
async fn own_prefix(http: &Http, caller: &Caller, id: &Id) -> Result<Batch, ApiError> {
    let batch = own(http, caller, id).await?;
    if batch.mode == Mode::Prefix {
        return Ok(batch);
    }
    let fault = "Each upload of this batch has a policy and a callback of its own";
    Err(ApiError::Conflict(fault.to_owned()))
}

fn is_closed() -> ApiError {
    ApiError::Conflict("The batch is closed and takes nothing in any more".to_owned())
}
