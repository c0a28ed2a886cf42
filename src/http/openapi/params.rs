//! Parameters, as the document shows them; they are read by [`super::super::asked`].

#![expect(dead_code, reason = "they are only looked at")]

use utoipa::IntoParams;
use uuid::Uuid;

use super::shapes;

/// The id in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Id {
    /// The id that the answer to the creation gave. One that is malformed is answered as one that does not exist.
    id: Uuid,
}

/// What the client would like about waiting.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Prefer {
    /// `wait=N` waits up to N seconds (at most 60) for what the answer is about; `respond-async` does not wait at all (RFC 7240).
    /// Anything else is ignored.
    #[param(rename = "Prefer", nullable = false, example = "wait=2")]
    prefer: Option<String>,
}

/// The same request again is answered with what the first one made.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// 1 to 255 visible ASCII characters, new for each new request, the same when one is sent again: for 24 hours it is answered
    /// with what the first one made, as it is now.
    #[param(
        rename = "Idempotency-Key",
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = r"^[\x21-\x7e]+$"
    )]
    idempotency_key: Option<String>,
}

/// A part of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Which page, from 1 on.
    #[param(minimum = 1, default = 1)]
    page: Option<i64>,
    /// How many entries a page has; more than 100 is as good as 100.
    #[param(rename = "perPage", minimum = 1, default = 30)]
    per_page: Option<i64>,
    /// Continues after the entry with this id, in the order of the list; as given by `next`. `page` does not count then.
    after: Option<Uuid>,
    /// The order of the entries: oldest first or, with `-`, newest first.
    #[param(value_type = Option<shapes::Sort>, inline)]
    sort: Option<String>,
}

/// What entries belong to.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ForTarget {
    /// Only those of an order, or only those of a style.
    #[param(value_type = Option<shapes::TargetKind>, inline)]
    target: Option<String>,
    /// Only those of the order or style of this number.
    #[param(example = "A-100", pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    number: Option<String>,
}

/// What the lines of a batch are for, unless one says otherwise; where the body is JSON, it says so itself.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ForLines {
    /// Order or style; with `number`.
    #[param(value_type = Option<shapes::TargetKind>, inline)]
    target: Option<String>,
    /// The number; with `target`.
    #[param(example = "A-100", min_length = 1, max_length = 128, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    number: Option<String>,
}

/// What is asked of a list of files.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Files {
    /// Only those with these bytes.
    #[param(value_type = Option<shapes::AnyDigest>, inline)]
    hash: Option<String>,
    /// Only those of exactly this name.
    #[param(example = "MyPicture.jpg", pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    filename: Option<String>,
    /// Only those of exactly this media type.
    #[param(example = "image/jpeg", pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    r#type: Option<String>,
}

/// What is asked of the uploads of a batch.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Members {
    /// Which page, from 1 on.
    #[param(minimum = 1, default = 1)]
    page: Option<i64>,
    /// How many entries a page has; more than 1,000 is as good as 1,000.
    #[param(rename = "perPage", minimum = 1, default = 30)]
    per_page: Option<i64>,
    /// Continues after the entry with this id, in the order of the list; as given by `next`. `page` does not count then.
    after: Option<Uuid>,
    /// The order of the entries: the order of the lines or, with `-`, its reverse. All as lines are always in the order of the lines.
    #[param(value_type = Option<shapes::RisingSort>, inline)]
    sort: Option<String>,
    /// Only those that stand there.
    #[param(value_type = Option<shapes::Status>, inline)]
    status: Option<String>,
}

/// What is asked of a list of uploads.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Uploads {
    /// Only those that stand there.
    #[param(value_type = Option<shapes::Status>, inline)]
    status: Option<String>,
    /// Only those of this batch.
    batch: Option<Uuid>,
    /// Only those that this id of the client's own stood for, the ended ones too.
    #[param(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    r#ref: Option<String>,
}
