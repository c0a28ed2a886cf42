//! What the pipeline speaks of: pure types and rules, no input or output.
//!
//! Everything here can be tested without a database, a bucket or a clock. Types that stand in the ledger as text say so
//! with `stored_as_text!`, so that an operator who opens the database reads the same words as the API shows.

pub mod batch;
pub mod digest;
pub mod file;
pub mod filename;
pub mod idempotency;
pub mod keys;
pub mod line;
pub mod manifest;
pub mod notice;
pub mod org;
pub mod path;
pub mod policy;
pub mod report;
pub mod sigv4;
pub mod step;
pub mod target;
pub mod time;
pub mod trace;
pub mod upload;

pub use batch::Batch;
pub use digest::Digest;
pub use line::Line;
pub use target::Target;
pub use time::Timestamp;
pub use trace::TraceParent;
pub use upload::{Status, Upload};

/// Lets a type with `Display` and `FromStr` be a text column, on every engine of sqlx.
macro_rules! stored_as_text {
    ($type:ty) => {
        impl<D: sqlx::Database> sqlx::Type<D> for $type
        where
            String: sqlx::Type<D>,
        {
            fn type_info() -> D::TypeInfo {
                <String as sqlx::Type<D>>::type_info()
            }

            fn compatible(ty: &D::TypeInfo) -> bool {
                <String as sqlx::Type<D>>::compatible(ty)
            }
        }

        impl<'q, D: sqlx::Database> sqlx::Encode<'q, D> for $type
        where
            String: sqlx::Encode<'q, D>,
        {
            fn encode_by_ref(
                &self,
                buffer: &mut <D as sqlx::Database>::ArgumentBuffer,
            ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
                sqlx::Encode::<D>::encode(self.to_string(), buffer)
            }
        }

        impl<'r, D: sqlx::Database> sqlx::Decode<'r, D> for $type
        where
            &'r str: sqlx::Decode<'r, D>,
        {
            fn decode(value: <D as sqlx::Database>::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
                Ok(<&str as sqlx::Decode<D>>::decode(value)?.parse()?)
            }
        }
    };
}
pub(crate) use stored_as_text;

/// An enum whose variants are known by one fixed lower-case word each: in the ledger, in JSON and in metric labels.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of the text.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The one word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::model::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::model::UnknownWord { what: $what, words: &[$($word,)+] }),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        $crate::model::stored_as_text!($name);
    };
}
pub(crate) use words;

/// A word that is not one of the few that are allowed there.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{what} is one of: {}", words.join(", "))]
pub struct UnknownWord {
    /// What was asked for.
    pub what: &'static str,
    /// The words that are allowed.
    pub words: &'static [&'static str],
}
