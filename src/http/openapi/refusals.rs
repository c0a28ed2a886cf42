//! Which errors a route can answer with, by their slugs; status, text and example come from the errors themselves.
//!
//! What every route can answer is not listed here: [`super::complete`] adds it.

use std::collections::BTreeMap;

use http::{StatusCode, header};
use serde_json::json;
use utoipa::IntoResponses;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use super::super::errors::{ApiError, ErrorBody, Slug};

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $($slug:ident)|+,)+) => {
        $(
            $(#[$doc])*
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    by_status(&[$(Slug::$slug),+])
                }
            }
        )+
    };
}

refusals! {
    /// A form that cannot be taken in.
    Form = MissingFiles | BadRequest | PayloadTooLarge | UnsupportedMediaType,
    /// What becomes of some entries of a list.
    Decision = BadRequest | PayloadTooLarge | UnsupportedMediaType | Unprocessable,
    /// A list asked for with parameters that will not do.
    List = Unprocessable,
    /// One file.
    OneFile = FileNotFound,
    /// The end of a file that may not be stored yet.
    Removal = FileNotFound | Conflict,
    /// A wish for an upload.
    Wish = BadRequest | Conflict | PayloadTooLarge | UnsupportedMediaType | Unprocessable,
    /// What may not be done with a batch of that mode, or one that is closed.
    MoveOfBatch = BatchNotFound | Conflict,
    /// The hashes of a batch's files.
    Manifest = BadRequest | BatchNotFound | Conflict | PayloadTooLarge | Unprocessable,
    /// One of the things that operators see.
    OneOfAdmin = NotFound,
    /// One batch.
    OneBatch = BatchNotFound,
    /// What belongs to one batch, asked for with parameters that will not do.
    ListOfOneBatch = BatchNotFound | Unprocessable,
    /// A wish for many uploads.
    ManyWishes = BadRequest | Conflict | PayloadTooLarge | UnsupportedMediaType | Unprocessable,
    /// One upload.
    OneUpload = UploadNotFound,
    /// A move of one upload that its state may not allow.
    Move = UploadNotFound | Conflict,
    /// A notice. Where none are taken over HTTP, there is nothing at the path.
    Notice = BadRequest | NotFound | PayloadTooLarge,
}

/// One response for each status of these errors.
pub fn by_status(slugs: &[Slug]) -> BTreeMap<String, RefOr<Response>> {
    let mut groups: BTreeMap<StatusCode, Vec<Slug>> = BTreeMap::new();
    for &slug in slugs {
        groups.entry(slug.status()).or_default().push(slug);
    }
    groups.into_iter().map(|(status, slugs)| (status.as_str().to_owned(), refusal(status, &slugs).into())).collect()
}

/// The shared body, narrowed to these slugs.
fn refusal(status: StatusCode, slugs: &[Slug]) -> Response {
    let names = slugs.iter().map(|slug| slug.as_str());
    let r#type = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    let error = ObjectBuilder::new().property("type", r#type);
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("ErrorBody"))
        .item(ObjectBuilder::new().property("error", error));
    let examples = slugs.iter().map(|&slug| (slug.as_str(), example(slug)));
    let content = ContentBuilder::new().schema(Some(schema)).examples_from_iter(examples).build();
    let response = ResponseBuilder::new().description(meaning(status)).content("application/json", content);
    match status {
        StatusCode::SERVICE_UNAVAILABLE => response.header(header::RETRY_AFTER.as_str(), seconds()).build(),
        StatusCode::METHOD_NOT_ALLOWED => response.header(header::ALLOW.as_str(), methods()).build(),
        _ => response.build(),
    }
}

fn meaning(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Refused")
}

fn example(slug: Slug) -> Example {
    ExampleBuilder::new().value(Some(json!(ErrorBody::from(&ApiError::example(slug))))).build()
}

fn methods() -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(schema)).description(Some("The methods that the path has.")).build()
}

fn seconds() -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    HeaderBuilder::new().schema(Some(schema)).description(Some("Seconds after which to try again.")).build()
}
