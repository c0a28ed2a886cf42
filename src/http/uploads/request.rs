//! What a client may ask for, field by field.

use longshore_jobs::model::idempotency::IdempotencyKey;
use longshore_jobs::model::target::TargetKind;
use longshore_jobs::model::{Digest, Line, Target, Upload, filename};
use serde_json::{Map, Number, Value};
use utoipa::ToSchema;

use super::super::body::Fields;
use super::super::errors::ApiError;
use super::super::openapi::shapes;
use super::super::rows::{self, is_media_type};

/// The longest `ref` in bytes.
const LONGEST_REF: usize = 200;
/// The longest metadata as JSON text in bytes.
const LONGEST_METADATA: usize = 8 << 10;

const TEXT: &str = "must be a string";

/// What is asked for, as the document shows it; unknown fields are refused, and null is as good as nothing.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it is only looked at")]
pub struct UploadWish {
    /// The file's name, perhaps with a relative path before it: not blank, no control characters, no `.` or `..` as a part.
    #[schema(
        min_length = 1,
        max_length = 1024,
        pattern = r"^(?![/\\]|[A-Za-z]:|\s*$)(?!(.*[/\\])?\.\.?([/\\]|$))[^\x00-\x1f\x7f-\x9f]*$",
        example = "MyPicture.jpg"
    )]
    filename: String,
    /// Bytes. The policy then takes exactly so many.
    #[schema(minimum = 0, example = 3_574_392)]
    size: Option<i64>,
    /// The media type; what the name suggests if it is not given.
    #[schema(
        max_length = 255,
        example = "image/jpeg",
        pattern = r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+/[-!#$%&'*+.^_`|~0-9A-Za-z]+ *(;[ -~]*)?$"
    )]
    r#type: Option<String>,
    /// Of the bytes. Others are refused, and bytes that the org has already need not be uploaded.
    #[schema(value_type = Option<shapes::AnyDigest>)]
    sha256: Option<String>,
    #[schema(value_type = Option<shapes::Target>)]
    target: Option<Target>,
    /// Your own id for it, without control characters, 200 bytes at most. One upload stands under it at a time: asking again with it
    /// answers with that upload.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    r#ref: Option<String>,
    /// Your own object, kept as it is: at most 8,192 bytes of JSON.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A wish for an upload whose every field will do.
pub struct Asked {
    /// How the file is called.
    pub filename: String,
    /// Bytes.
    pub size: Option<i64>,
    content_type: Option<String>,
    /// Of the bytes.
    pub sha256: Option<Digest>,
    target: Option<Target>,
    /// The client's own id.
    pub client_ref: Option<String>,
    metadata: Option<String>,
    /// By which the same request is known again.
    pub key: Option<IdempotencyKey>,
}

impl Asked {
    /// Reads the fields; 422 names the first that will not do.
    pub fn read(mut fields: Fields, max_size: i64) -> Result<Self, ApiError> {
        let asked = Self {
            filename: read_filename(&mut fields)?,
            size: read_size(&mut fields, max_size)?,
            content_type: read_type(&mut fields)?,
            sha256: read_sha256(&mut fields)?,
            target: read_target(&mut fields)?,
            client_ref: read_ref(&mut fields)?,
            metadata: read_metadata(&mut fields)?,
            key: None,
        };
        fields.end()?;
        Ok(asked)
    }

    /// The wish as one that is to be granted once, if it came with a key.
    pub fn once(self, key: Option<IdempotencyKey>) -> Self {
        Self { key, ..self }
    }

    /// As a line of a batch.
    pub fn into_line(self) -> Line {
        let guessed = || rows::guess_type(&self.filename);
        Line {
            content_type: self.content_type.or_else(guessed),
            filename: self.filename,
            size: self.size,
            sha256: self.sha256,
            target: self.target,
            client_ref: self.client_ref,
            metadata: self.metadata,
        }
    }

    /// The row with what was asked for.
    pub fn row(&self, fresh: Upload) -> Upload {
        Upload {
            size: self.size,
            content_type: self.content_type.clone().or(fresh.content_type),
            sha256: self.sha256,
            target_kind: self.target.as_ref().map(|target| target.kind),
            target_number: self.target.as_ref().map(|target| target.number.clone()),
            client_ref: self.client_ref.clone(),
            metadata: self.metadata.clone(),
            ..fresh
        }
    }
}

/// What is wrong with the size that goes with known bytes which have another.
pub fn other_size(known: i64) -> String {
    format!("does not fit `sha256`: the bytes with that hash are {known}")
}

fn read_filename(fields: &mut Fields) -> Result<String, ApiError> {
    let name: String = fields.take("filename", TEXT)?.ok_or_else(|| fields.fault("filename", "must be given"))?;
    match filename::fault(&name) {
        None => Ok(name),
        Some(fault) => Err(fields.fault("filename", fault)),
    }
}

fn read_size(fields: &mut Fields, max_size: i64) -> Result<Option<i64>, ApiError> {
    let fault = "must be a whole number of bytes";
    let size: Option<Number> = fields.take("size", fault)?;
    let size = size.map(|size| whole(&size).ok_or_else(|| fields.fault("size", fault))).transpose()?;
    match size {
        Some(size) if size < 0 => Err(fields.fault("size", "must not be negative")),
        Some(size) if size > max_size => Err(fields.fault("size", format!("must be at most {max_size} bytes"))),
        size => Ok(size),
    }
}

/// `7.0` is whole too, and what some languages write; above 2^53 nobody knows what such a number was.
fn whole(number: &Number) -> Option<i64> {
    let exact = |real: &f64| real.fract() == 0.0 && real.abs() <= 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
    number.as_i64().or_else(|| number.as_f64().filter(exact).map(|real| real as i64))
}

fn read_type(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let content_type: Option<String> = fields.take("type", TEXT)?;
    match content_type {
        Some(text) if !is_media_type(&text) => Err(fields.fault("type", "must be a media type such as `image/jpeg`")),
        content_type => Ok(content_type),
    }
}

fn read_sha256(fields: &mut Fields) -> Result<Option<Digest>, ApiError> {
    let text: Option<String> = fields.take("sha256", TEXT)?;
    let digest = text.map(|text| text.parse::<Digest>()).transpose();
    digest.map_err(|fault| fields.fault("sha256", format!("will not do: {fault}")))
}

/// What the upload is for, from the field `target`.
pub fn read_target(fields: &mut Fields) -> Result<Option<Target>, ApiError> {
    let Some(mut parts) = fields.take_fields("target", "target.")? else {
        return Ok(None);
    };
    let kind: Option<String> = parts.take("kind", TEXT)?;
    let kind = kind.ok_or_else(|| parts.fault("kind", "must be given"))?.parse::<TargetKind>();
    let kind = kind.map_err(|fault| parts.fault("kind", format!("will not do: {fault}")))?;
    let number: Option<String> = parts.take("number", TEXT)?;
    let target = Target { kind, number: number.ok_or_else(|| parts.fault("number", "must be given"))? };
    if let Some(fault) = target.fault() {
        return Err(parts.fault("number", fault));
    }
    parts.end()?;
    Ok(Some(target))
}

fn read_ref(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let Some(client_ref) = fields.take::<String>("ref", TEXT)? else {
        return Ok(None);
    };
    if client_ref.is_empty() || client_ref.len() > LONGEST_REF {
        return Err(fields.fault("ref", format!("must be 1 to {LONGEST_REF} bytes long")));
    }
    if client_ref.chars().any(char::is_control) {
        return Err(fields.fault("ref", "must not hold control characters"));
    }
    Ok(Some(client_ref))
}

fn read_metadata(fields: &mut Fields) -> Result<Option<String>, ApiError> {
    let metadata: Option<Map<String, Value>> = fields.take("metadata", "must be an object")?;
    let text = metadata.map(|metadata| Value::Object(metadata).to_string());
    match text {
        Some(text) if text.len() > LONGEST_METADATA => {
            Err(fields.fault("metadata", format!("must be at most {LONGEST_METADATA} bytes of JSON")))
        }
        text => Ok(text),
    }
}
