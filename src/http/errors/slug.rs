//! The names by which clients tell errors apart, each with its status.

use http::StatusCode;
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

macro_rules! slugs {
    ($($variant:ident = $status:ident $name:literal,)+) => {
        /// The stable name of an error: of the [`super::ApiError`] that is called the same.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Slug { $($variant,)+ }

        impl Slug {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// As it is written.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The status that it comes with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }
        }
    };
}

slugs! {
    MissingFiles = BAD_REQUEST "missing_files_error",
    BadRequest = BAD_REQUEST "bad_request_error",
    Authentication = UNAUTHORIZED "authentication_error",
    Authorization = FORBIDDEN "authorization_error",
    FileNotFound = NOT_FOUND "file_not_found_error",
    UploadNotFound = NOT_FOUND "upload_not_found_error",
    BatchNotFound = NOT_FOUND "batch_not_found_error",
    NotFound = NOT_FOUND "not_found_error",
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed_error",
    Conflict = CONFLICT "conflict_error",
    PayloadTooLarge = PAYLOAD_TOO_LARGE "payload_too_large_error",
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported_media_type_error",
    Unprocessable = UNPROCESSABLE_ENTITY "unprocessable_error",
    Internal = INTERNAL_SERVER_ERROR "internal_error",
    Unavailable = SERVICE_UNAVAILABLE "unavailable_error",
}

impl Serialize for Slug {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for Slug {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(schema::SchemaType::new(Type::String))
            .enum_values(Some(Self::ALL.iter().map(|slug| slug.as_str())))
            .description(Some("The stable name of the error."))
            .into()
    }
}

impl ToSchema for Slug {}
