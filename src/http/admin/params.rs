//! Parameters of the operators' lists, as the document shows them.

#![expect(dead_code, reason = "they are only looked at")]

use utoipa::IntoParams;
use uuid::Uuid;

use super::super::openapi::shapes;

/// Which dead letters: all that are given must fit.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Letters {
    /// Only of this kind of job.
    #[param(example = "verify_upload", pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    kind: Option<String>,
    /// Only of this pool.
    #[param(value_type = Option<shapes::Pool>, inline)]
    pool: Option<String>,
    /// Only dead for this reason: `attempts`, `gave_up`, `undecodable`, `unknown_kind`, `crashed`.
    #[param(example = "attempts", pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    reason: Option<String>,
    /// Only of the job about this upload, batch or org.
    subject: Option<Uuid>,
    /// Only of jobs of this org.
    org: Option<Uuid>,
    /// Only with this in the error, in whichever case; 300 characters at most.
    #[param(max_length = 300, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    error: Option<String>,
}

/// Which uploads: all that are given must fit.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UploadsOfAll {
    /// Only those that stand there; may be left out only beside a `reason`.
    #[param(value_type = Option<shapes::Status>, inline, example = "rejected")]
    status: Option<String>,
    /// Only those that were rejected for this.
    #[param(value_type = Option<shapes::Reason>, inline)]
    reason: Option<String>,
    /// Only those of this org; may be left out unless `status` is `done`.
    org: Option<Uuid>,
}

/// Which orgs.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Orgs {
    /// Which page, from 1 on.
    #[param(minimum = 1, default = 1)]
    page: Option<i64>,
    /// How many entries a page has; more than 100 is as good as 100.
    #[param(rename = "perPage", minimum = 1, default = 30)]
    per_page: Option<i64>,
    /// Continues after the entry with this id, in the order of the list; as given by `next`. `page` does not count then.
    after: Option<Uuid>,
    /// The order of the entries: oldest first or, with `-`, newest first.
    #[param(value_type = Option<shapes::RisingSort>, inline)]
    sort: Option<String>,
    /// Only those with this in their name, in whichever case; 300 characters at most.
    #[param(max_length = 300, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    name: Option<String>,
}

/// A pool.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Pool {
    /// What it is called.
    #[param(value_type = shapes::Pool, inline)]
    pool: String,
}

/// What is looked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Search {
    /// An id, a SHA-256 (with `sha256-` or `sha256:` before it, or not), a file's name, an order or style number, a client's own id,
    /// the name of an org or key, the public half of a key: exactly as it is. 300 characters at most.
    #[param(
        min_length = 1,
        max_length = 300,
        example = "A-100",
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    q: String,
}
