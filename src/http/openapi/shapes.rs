//! How the types of the model look in JSON: the model itself knows nothing of documents.
//!
//! Each stands in for the model's type of the same name (`#[schema(value_type = shapes::Status)]`); lists of words are the
//! model's own.

use longshore_jobs::job::Pool as Crew;
use longshore_jobs::model::batch::Mode as Way;
use longshore_jobs::model::target::TargetKind as Kind;
use longshore_jobs::model::upload::{Reason as Why, Status as Stand};
use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! shapes {
    ($($(#[$doc:meta])* $name:ident = $schema:expr,)+) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    $schema.into()
                }
            }

            impl ToSchema for $name {}
        )+
    };
}

shapes! {
    /// Where an upload stands.
    Status = text("Where the upload stands.").enum_values(Some(Stand::ALL.iter().map(|word| word.as_str()))),
    /// Why an upload was rejected.
    Reason = text("Why the upload was rejected.").enum_values(Some(Why::ALL.iter().map(|word| word.as_str()))),
    /// How a batch's files come in.
    Mode = text("How its files come in: each with a policy of its own, or all under one.")
        .enum_values(Some(Way::ALL.iter().map(|word| word.as_str()))),
    /// A group of workers.
    Pool = text("A group of workers that can be paused together.").enum_values(Some(Crew::ALL.iter().map(|word| word.as_str()))),
    /// The mode of those that say nothing.
    ModeEach = text("`each` unless it says otherwise.").enum_values(Some([Way::Each.as_str()])),
    /// The other mode.
    ModePrefix = text("All under one policy.").enum_values(Some([Way::Prefix.as_str()])),
    /// Order or style.
    TargetKind = text("What the number is of.").enum_values(Some(Kind::ALL.iter().map(|word| word.as_str()))),
    /// The order of a list.
    Sort = text("Oldest first or, with `-`, newest first.")
        .enum_values(Some(["createdAt", "-createdAt"]))
        .default(Some(json!("-createdAt"))),
    /// The order of a list that begins with the oldest.
    RisingSort = text("Oldest first or, with `-`, newest first.")
        .enum_values(Some(["createdAt", "-createdAt"]))
        .default(Some(json!("createdAt"))),
    /// RFC 3339.
    Timestamp = text("A time in UTC (RFC 3339), with milliseconds.")
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples([json!("2026-02-11T09:30:00.000Z")]),
    /// SHA-256 as answers spell it.
    Digest = text("The SHA-256 of the bytes.").pattern(Some("^sha256-[0-9a-f]{64}$")).examples([json!(DIGEST)]),
    /// SHA-256 as requests may spell it.
    AnyDigest = text("A SHA-256: 64 hexadecimal digits, with or without `sha256-` before them.")
        .pattern(Some("^(sha256-)?[0-9A-Fa-f]{64}$"))
        .examples([json!(DIGEST)]),
}

/// Of the four bytes `test`.
const DIGEST: &str = "sha256-9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn text(meaning: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(meaning))
}

/// The order or the style that files belong to.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only looked at")]
pub struct Target {
    kind: TargetKind,
    /// The number as you write it: not blank, without control characters, 128 bytes at most.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
        example = "A-100"
    )]
    number: String,
}
