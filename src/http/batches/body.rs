//! The body of `POST /api/batches`: one JSON object, or lines of JSON.
//!
//! It is cut into its lines before any of them is read, so that memory does not grow with what a line may hold: a body of
//! brackets and zeros, read whole, would take ten times its bytes.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use longshore_jobs::model::Target;
use longshore_jobs::model::batch::{MOST_LINES, Mode};
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::super::body::{Fields, is_json, media_type, shortened};
use super::super::errors::ApiError;
use super::super::openapi::shapes;
use super::super::uploads::request::{UploadWish, read_target};
use super::lines::{Bounds, Lines};

/// The most fields that the object may have, whatever they are.
const MOST_FIELDS: usize = 32;

/// What a batch is asked for with, as the document shows it. Lines are objects such as those of `uploads`.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is only looked at")]
pub enum BatchWish {
    Each(EachWish),
    Prefix(PrefixWish),
}

/// Many uploads, each with a policy of its own.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only looked at")]
pub struct EachWish {
    #[schema(value_type = Option<shapes::ModeEach>)]
    mode: Option<Mode>,
    /// What all of them are for, unless one says otherwise.
    #[schema(value_type = Option<shapes::Target>)]
    target: Option<Target>,
    /// No two with the same `ref`.
    #[schema(min_items = 1, max_items = 10_000)]
    uploads: Vec<UploadWish>,
}

/// Any number of files under one policy.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "it is only looked at")]
pub struct PrefixWish {
    #[schema(value_type = shapes::ModePrefix)]
    mode: Mode,
    /// What all of them are for.
    #[schema(value_type = Option<shapes::Target>)]
    target: Option<Target>,
    /// How many files it takes.
    #[schema(minimum = 1, maximum = 1_000_000)]
    max_files: i64,
    /// Bytes that one file may have.
    #[schema(minimum = 0)]
    max_file_size: i64,
}

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One object.
    Object,
    /// An object a line.
    Lines,
}

impl Form {
    /// As its media type says.
    pub fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        if is_lines(&media_type(headers)) {
            return Ok(Self::Lines);
        }
        let either = "application/json or application/x-ndjson";
        if is_json(headers) { Ok(Self::Object) } else { Err(ApiError::UnsupportedMediaType(either)) }
    }
}

/// Whether the media type is that of lines of JSON, of which there are several names.
pub fn is_lines(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonlines"
    )
}

/// What a batch is asked for with.
pub enum Body {
    /// Uploads, and what they are for unless they say otherwise.
    Each(Option<Target>, Lines),
    /// The fields of a batch with one policy, without their `mode`.
    Prefix(Fields),
}

impl Body {
    /// Reads all of it; 422 names the first line and its field that will not do.
    pub fn read(form: Form, text: &[u8], bounds: Bounds) -> Result<Self, ApiError> {
        match form {
            Form::Lines => Ok(Self::Each(None, Lines::of_text(text, bounds)?)),
            Form::Object => Self::read_object(text, bounds),
        }
    }

    fn read_object(text: &[u8], bounds: Bounds) -> Result<Self, ApiError> {
        let Object { uploads, others } = serde_json::from_slice(text).map_err(refused)?;
        let mut fields = Fields::of(read_others(others, bounds)?);
        let fault = "must be `each` or `prefix`";
        if fields.take("mode", fault)? == Some(Mode::Prefix) {
            return match uploads {
                Some(_) => Err(fields.fault("uploads", "must not be given in mode `prefix`")),
                None => Ok(Self::Prefix(fields)),
            };
        }
        let target = read_target(&mut fields)?;
        let uploads = uploads.ok_or_else(|| fields.fault("uploads", "must be given"))?;
        let List(lines) = serde_json::from_str(uploads.get()).map_err(|_| fields.fault("uploads", "must be a list"))?;
        fields.end()?;
        Ok(Self::Each(target, Lines::of_list(&lines, bounds)?))
    }
}

fn read_others(others: Vec<(Cow<'_, str>, &RawValue)>, bounds: Bounds) -> Result<Map<String, Value>, ApiError> {
    let mut read = Map::new();
    for (name, text) in others {
        if text.get().len() > bounds.longest {
            return Err(ApiError::Unprocessable { field: shortened(&name), fault: "is too long".to_owned() });
        }
        // Skipping over a value forgives what reading it does not: too large a number, too deep a list, half a character.
        let value = serde_json::from_str(text.get()).map_err(refused)?;
        read.insert(name.into_owned(), value);
    }
    Ok(read)
}

fn refused(error: serde_json::Error) -> ApiError {
    ApiError::BadRequest(format!("The body is not valid JSON: {error}"))
}

/// The object, each of whose values is still text.
struct Object<'b> {
    uploads: Option<&'b RawValue>,
    others: Vec<(Cow<'b, str>, &'b RawValue)>,
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut object = Object { uploads: None, others: Vec::new() };
                while let Some(Name(name)) = map.next_key()? {
                    if name == "uploads" {
                        object.uploads = Some(map.next_value()?);
                    } else if object.others.len() == MOST_FIELDS {
                        return Err(A::Error::custom("the object has too many fields"));
                    } else {
                        object.others.push((name, map.next_value()?));
                    }
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[derive(Deserialize)]
struct Name<'b>(#[serde(borrow)] Cow<'b, str>);

/// The entries of a list, each still text. One more than there may be is kept, to tell of it; what follows is passed over.
struct List<'b>(Vec<&'b RawValue>);

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = List<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<List<'de>, A::Error> {
                let mut entries = Vec::new();
                while entries.len() <= MOST_LINES
                    && let Some(entry) = list.next_element()?
                {
                    entries.push(entry);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List(entries))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}
