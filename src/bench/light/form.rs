//! Form posts. **The policy is not looked at**: whatever key the form names is written, by anybody.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use multer::{Field, Multipart};

use super::Cloud;
use super::fault::Fault;
use super::memory::content_length;
use super::object::{Described, Object, is_kept};
use super::s3::Asked;
use super::write::land;
use super::xml::{answer, escape};

/// The field that stands for the name of the posted file.
const FILENAME: &str = "${filename}";

/// `POST /bucket`: fields first, `file` last; what stands behind it is ignored.
pub(super) async fn post(cloud: &Cloud, asked: &Asked, body: Body) -> Result<Response, Fault> {
    let kind = asked.header("content-type").unwrap_or_default();
    let boundary = multer::parse_boundary(kind).map_err(malformed)?;
    let mut form = Multipart::new(body.into_data_stream(), boundary);
    let mut fields = Fields::default();
    while let Some(field) = form.next_field().await.map_err(malformed)? {
        if field.name() == Some("file") {
            return store(cloud, asked, fields, field).await;
        }
        fields.take(field).await?;
    }
    Err(Fault::Malformed("the form has no file".to_owned()))
}

async fn store(cloud: &Cloud, asked: &Asked, fields: Fields, mut file: Field<'_>) -> Result<Response, Fault> {
    let key = fields.key.ok_or_else(|| Fault::Malformed("the form has no key before its file".to_owned()))?;
    let key = key.replace(FILENAME, file.file_name().unwrap_or_default());
    let mut held = cloud.memory.hold();
    // A little more than the file, since the fields count too; what is too much is given back.
    held.expect(content_length(asked.headers()))?;
    while let Some(chunk) = file.chunk().await.map_err(malformed)? {
        held.push(&chunk)?;
    }
    let object = Object::new(vec![held.freeze()], fields.described);
    let path = format!("{}{key}", asked.path);
    let etag = land(cloud, path, object, "ObjectCreated:Post");
    Ok(stored(cloud, asked, (&key, etag), fields.status))
}

/// 201 tells what was stored; 200 and 204 have no body.
fn stored(cloud: &Cloud, asked: &Asked, (key, etag): (&str, HeaderValue), status: StatusCode) -> Response {
    let (bucket, _) = asked.bucket_and_key();
    let (bucket, key) = (escape(bucket), escape(key));
    let location = format!("{}/{bucket}/{key}", cloud.url);
    let mut response = if status == StatusCode::CREATED {
        let quoted = escape(etag.to_str().expect("it is made of digits"));
        answer(
            status,
            &format!(
                "<PostResponse><Location>{location}</Location><Bucket>{bucket}</Bucket><Key>{key}</Key>\
                 <ETag>{quoted}</ETag></PostResponse>"
            ),
        )
    } else {
        status.into_response()
    };
    response.headers_mut().insert(header::ETAG, etag);
    response
}

/// What the form says before its file.
struct Fields {
    key: Option<String>,
    described: Described,
    status: StatusCode,
}

impl Default for Fields {
    fn default() -> Self {
        Self { key: None, described: Described::default(), status: StatusCode::NO_CONTENT }
    }
}

impl Fields {
    async fn take(&mut self, field: Field<'_>) -> Result<(), Fault> {
        let name = field.name().unwrap_or_default().to_ascii_lowercase();
        let value = field.text().await.map_err(malformed)?;
        match name.as_str() {
            "key" => self.key = Some(value),
            "success_action_status" => self.status = success(&value),
            _ => {
                let kept = HeaderName::from_bytes(name.as_bytes()).ok().filter(is_kept);
                if let Some((name, value)) = kept.zip(HeaderValue::from_str(&value).ok()) {
                    self.described.0.push((name, value));
                }
            }
        }
        Ok(())
    }
}

/// As S3 has it: what is neither 200 nor 201 is 204.
fn success(wish: &str) -> StatusCode {
    match wish {
        "200" => StatusCode::OK,
        "201" => StatusCode::CREATED,
        _ => StatusCode::NO_CONTENT,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands where an error is handed over")]
fn malformed(error: multer::Error) -> Fault {
    Fault::Malformed(error.to_string())
}
