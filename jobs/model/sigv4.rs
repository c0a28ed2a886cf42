//! AWS Signature Version 4, as far as forms and presigned URLs need it: made with [`Signer`], and judged by it.
//!
//! Source: "Authenticating Requests (AWS Signature Version 4)" in the Amazon S3 API reference. Two things surprise:
//! a form's signature covers the base64 text of the policy and not the policy, and S3 encodes a path once where
//! every other AWS service encodes it twice.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::NaiveDateTime;
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Digest, Timestamp};

/// The only algorithm there is.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The longest life of a presigned URL and of a signed form.
pub const LONGEST_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How far ahead of ours a signer's clock may be.
const SKEW: Duration = Duration::from_secs(15 * 60);
/// RFC 3986's unreserved characters stay, all else is encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const RESERVED_IN_PATHS: &AsciiSet = &RESERVED.remove(b'/');

/// What signs: an access key, its secret, and a session token when they are borrowed. `Debug` hides the secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: String,
    /// Goes along with temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A credential scope with its key, as `AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Whose signature it is.
    pub access_key_id: String,
    /// The day it was made, as `20151229`.
    pub date: String,
    /// The region it is good for.
    pub region: String,
}

impl Scope {
    /// What stands in the text to sign: the scope without the key.
    fn without_key(&self) -> String {
        format!("{}/{}/s3/aws4_request", self.date, self.region)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.access_key_id, self.without_key())
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut parts = text.rsplitn(5, '/');
        let mut part = || parts.next().ok_or(Invalid::Malformed("the credential has fewer than five parts"));
        let (end, service, region, date, key) = (part()?, part()?, part()?, part()?, part()?);
        if (service, end) != ("s3", "aws4_request") {
            return Err(Invalid::Scope("service"));
        }
        Ok(Self { access_key_id: key.to_owned(), date: date.to_owned(), region: region.to_owned() })
    }
}

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It lacks something or cannot be read.
    #[error("the signature's parameters are malformed: {0}")]
    Malformed(&'static str),
    /// Nobody has that access key.
    #[error("the access key id is not known here")]
    UnknownKey,
    /// It was made for another service, region or day.
    #[error("the credential is for another {0}")]
    Scope(&'static str),
    /// The session token is missing, wrong, or one too many.
    #[error("the session token is not that of the credentials")]
    Token,
    /// It was made in the future.
    #[error("the signature is not yet valid")]
    Early,
    /// Its time is over.
    #[error("the signature has expired")]
    Expired,
    /// It is the signature of something else, or of someone with another secret.
    #[error("the signature does not match what was sent")]
    Mismatch,
}

/// A request as it is signed.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// `GET` or `HEAD`.
    pub method: &'a str,
    /// As in the `Host` header: with the port where it is not the scheme's own.
    pub host: &'a str,
    /// Absolute, and not encoded.
    pub path: &'a str,
    /// Names and values, not encoded.
    pub query: Vec<(String, String)>,
}

impl Request<'_> {
    fn parameter(&self, name: &'static str) -> Result<&str, Invalid> {
        let mut found = self.query.iter().filter(|(given, _)| given == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Ok(value),
            _ => Err(Invalid::Malformed(name)),
        }
    }

    /// The canonical request, hashed. The body is never signed.
    fn digest(&self) -> String {
        let (path, query) = (encode_path(self.path), self.canonical_query());
        let text = format!("{}\n{path}\n{query}\nhost:{}\n\nhost\nUNSIGNED-PAYLOAD", self.method, self.host);
        Digest::of(text.as_bytes()).to_hex()
    }

    fn canonical_query(&self) -> String {
        let signed = self.query.iter().filter(|(name, _)| name != "X-Amz-Signature");
        let mut pairs: Vec<_> = signed.map(|(name, value)| (encode(name), encode(value))).collect();
        pairs.sort();
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    }
}

/// Percent-encodes a query's name or value.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Percent-encodes a path, slashes kept.
#[must_use]
pub fn encode_path(path: &str) -> String {
    utf8_percent_encode(path, RESERVED_IN_PATHS).to_string()
}

/// Signs, and judges what others have signed, in one region at one time.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a> {
    /// Whose signature.
    pub credentials: &'a Credentials,
    /// The bucket's region.
    pub region: &'a str,
    /// Now.
    pub now: Timestamp,
}

impl Signer<'_> {
    /// The scope of what is signed now.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope {
            access_key_id: self.credentials.access_key_id.clone(),
            date: self.now.to_amz()[..8].to_owned(),
            region: self.region.to_owned(),
        }
    }

    /// The signature of a text, in hexadecimal. For a form the text is the policy in base64.
    #[must_use]
    pub fn sign(&self, scope: &Scope, text: &str) -> String {
        hex::encode(self.mac(scope, text).finalize().into_bytes())
    }

    /// Judges the signature of a text, in constant time.
    pub fn verify(&self, scope: &Scope, text: &str, signature: &str) -> Result<(), Invalid> {
        let given = hex::decode(signature).map_err(|_| Invalid::Mismatch)?;
        self.mac(scope, text).verify_slice(&given).map_err(|_| Invalid::Mismatch)
    }

    /// Reads a credential and judges it against the time of signing (`x-amz-date`): our key, our region, that very
    /// day. Also says when it was signed.
    pub fn scope_of(&self, credential: &str, amz_date: &str) -> Result<(Scope, Timestamp), Invalid> {
        let scope: Scope = credential.parse()?;
        if scope.access_key_id != self.credentials.access_key_id {
            return Err(Invalid::UnknownKey);
        }
        if scope.region != self.region {
            return Err(Invalid::Scope("region"));
        }
        let signed_at = parse_amz(amz_date).ok_or(Invalid::Malformed("X-Amz-Date"))?;
        if scope.date != amz_date[..8] {
            return Err(Invalid::Scope("date"));
        }
        if signed_at > self.now + SKEW {
            return Err(Invalid::Early);
        }
        Ok((scope, signed_at))
    }

    /// Judges the session token that came along.
    pub fn verify_token(&self, token: Option<&str>) -> Result<(), Invalid> {
        if token == self.credentials.session_token.as_deref() { Ok(()) } else { Err(Invalid::Token) }
    }

    /// The query string by which anyone may make the request for `life`, at most [`LONGEST_LIFE`].
    #[must_use]
    pub fn presign(&self, mut request: Request<'_>, life: Duration) -> String {
        let (scope, life) = (self.scope(), life.min(LONGEST_LIFE).as_secs().max(1));
        let mut add = |name: &str, value: String| request.query.push((name.to_owned(), value));
        add("X-Amz-Algorithm", ALGORITHM.to_owned());
        add("X-Amz-Credential", scope.to_string());
        add("X-Amz-Date", self.now.to_amz());
        add("X-Amz-Expires", life.to_string());
        add("X-Amz-SignedHeaders", "host".to_owned());
        if let Some(token) = &self.credentials.session_token {
            add("X-Amz-Security-Token", token.clone());
        }
        let signature = self.sign(&scope, &text_to_sign(&self.now.to_amz(), &scope, &request));
        format!("{}&X-Amz-Signature={signature}", request.canonical_query())
    }

    /// Judges a presigned request.
    pub fn verify_presigned(&self, request: &Request<'_>) -> Result<(), Invalid> {
        if request.parameter("X-Amz-Algorithm")? != ALGORITHM {
            return Err(Invalid::Malformed("X-Amz-Algorithm"));
        }
        if request.parameter("X-Amz-SignedHeaders")? != "host" {
            return Err(Invalid::Malformed("X-Amz-SignedHeaders"));
        }
        let amz_date = request.parameter("X-Amz-Date")?;
        let (scope, signed_at) = self.scope_of(request.parameter("X-Amz-Credential")?, amz_date)?;
        self.verify_token(request.parameter("X-Amz-Security-Token").ok())?;
        let life = request.parameter("X-Amz-Expires")?.parse().map(Duration::from_secs);
        let life = life.ok().filter(|life| !life.is_zero() && *life <= LONGEST_LIFE);
        let life = life.ok_or(Invalid::Malformed("X-Amz-Expires"))?;
        let text = text_to_sign(amz_date, &scope, request);
        self.verify(&scope, &text, request.parameter("X-Amz-Signature")?)?;
        if self.now > signed_at + life { Err(Invalid::Expired) } else { Ok(()) }
    }

    fn mac(&self, scope: &Scope, text: &str) -> Hmac<Sha256> {
        let mut key = format!("AWS4{}", self.credentials.secret_access_key).into_bytes();
        for part in [&scope.date, &scope.region, "s3", "aws4_request"] {
            key = keyed(&key, part).finalize().into_bytes().to_vec();
        }
        keyed(&key, text)
    }
}

fn keyed(key: &[u8], text: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac
}

fn text_to_sign(amz_date: &str, scope: &Scope, request: &Request<'_>) -> String {
    format!("{ALGORITHM}\n{amz_date}\n{}\n{}", scope.without_key(), request.digest())
}

fn parse_amz(text: &str) -> Option<Timestamp> {
    let time = NaiveDateTime::parse_from_str(text, "%Y%m%dT%H%M%SZ").ok().filter(|_| text.len() == 16)?;
    Some(Timestamp::from_millis(time.and_utc().timestamp_millis()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// AWS's published example credentials.
    pub(crate) fn example() -> Credentials {
        Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        }
    }

    fn signer(credentials: &Credentials) -> Signer<'_> {
        Signer { credentials, region: "us-east-1", now: Timestamp::from_millis(1_369_353_600_000) }
    }

    fn test_txt() -> Request<'static> {
        Request { method: "GET", host: "examplebucket.s3.amazonaws.com", path: "/test.txt", query: Vec::new() }
    }

    fn signed<'a>(request: &Request<'a>, query: &str) -> Request<'a> {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
        let query = pairs.map(|(name, value)| (decode(name), decode(value))).collect();
        Request { query, ..request.clone() }
    }

    #[test]
    fn the_published_form_signs_to_the_published_signature() {
        let policy = [
            r#"{ "expiration": "2015-12-30T12:00:00.000Z","#,
            r#"  "conditions": ["#,
            r#"    {"bucket": "sigv4examplebucket"},"#,
            r#"    ["starts-with", "$key", "user/user1/"],"#,
            r#"    {"acl": "public-read"},"#,
            r#"    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},"#,
            r#"    ["starts-with", "$Content-Type", "image/"],"#,
            r#"    {"x-amz-meta-uuid": "14365123651274"},"#,
            r#"    {"x-amz-server-side-encryption": "AES256"},"#,
            r#"    ["starts-with", "$x-amz-meta-tag", ""],"#,
            "",
            r#"    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},"#,
            r#"    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},"#,
            r#"    {"x-amz-date": "20151229T000000Z" }"#,
            "  ]",
            "}",
        ]
        .join("\r\n");
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(policy);
        let scope: Scope = "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request".parse().unwrap();

        let signature = signer(&example()).sign(&scope, &text);

        assert_eq!(signature, "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e");
        assert_eq!(signer(&example()).verify(&scope, &text, &signature), Ok(()));
    }

    #[test]
    fn the_published_url_signs_to_the_published_signature() {
        let credentials = example();
        let query = signer(&credentials).presign(test_txt(), Duration::from_secs(86400));

        assert_eq!(
            query,
            "X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
             &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
        assert_eq!(signer(&credentials).verify_presigned(&signed(&test_txt(), &query)), Ok(()));
    }

    #[test]
    fn a_presigned_request_that_was_touched_is_refused() {
        let credentials = example();
        let signer = signer(&credentials);
        let query = signer.presign(test_txt(), Duration::from_secs(60));
        let good = signed(&test_txt(), &query);
        let altered = |old: &str, new: &str| signed(&test_txt(), &query.replace(old, new));
        let other_method = Request { method: "HEAD", ..good.clone() };
        let other_path = Request { path: "/test2.txt", ..good.clone() };
        let other_host = Request { host: "elsewhere", ..good.clone() };

        for touched in [other_method, other_path, other_host, altered("Expires=60", "Expires=61")] {
            assert_eq!(signer.verify_presigned(&touched), Err(Invalid::Mismatch), "{touched:?}");
        }
        let later = Signer { now: signer.now + Duration::from_secs(61), ..signer };
        assert_eq!(later.verify_presigned(&good), Err(Invalid::Expired));
        let earlier = Signer { now: signer.now - Duration::from_secs(16 * 60), ..signer };
        assert_eq!(earlier.verify_presigned(&good), Err(Invalid::Early));
        let odd = [
            (altered("us-east-1", "eu-west-1"), Invalid::Scope("region")),
            (altered("%2Fs3%2F", "%2Fsqs%2F"), Invalid::Scope("service")),
            (altered("%2F20130524%2F", "%2F20130525%2F"), Invalid::Scope("date")),
            (altered("AKIAIOSFODNN7EXAMPLE", "AKIANOBODY"), Invalid::UnknownKey),
            (altered("Expires=60", "Expires=604801"), Invalid::Malformed("X-Amz-Expires")),
            (altered("Expires=60", "Expires=0"), Invalid::Malformed("X-Amz-Expires")),
            (altered("=host", "=host%3Bx"), Invalid::Malformed("X-Amz-SignedHeaders")),
            (altered("X-Amz-Date", "X-Amz-Dote"), Invalid::Malformed("X-Amz-Date")),
            (altered("20130524T000000Z", "20130524T0000"), Invalid::Malformed("X-Amz-Date")),
            (altered("X-Amz-Date", "X-Amz-Security-Token=x&X-Amz-Date"), Invalid::Token),
            (altered("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=60"), Invalid::Malformed("X-Amz-Expires")),
        ];
        for (request, expected) in odd {
            assert_eq!(signer.verify_presigned(&request), Err(expected), "{request:?}");
        }
    }

    #[test]
    fn a_session_token_goes_along_and_is_demanded() {
        let credentials = Credentials { session_token: Some("tok/en+".to_owned()), ..example() };
        let signer = signer(&credentials);
        let query = signer.presign(test_txt(), Duration::from_secs(60));

        assert!(query.contains("X-Amz-Security-Token=tok%2Fen%2B"), "{query}");
        assert_eq!(signer.verify_presigned(&signed(&test_txt(), &query)), Ok(()));
        let without = query.replace("X-Amz-Security-Token=tok%2Fen%2B&", "");
        assert_eq!(signer.verify_presigned(&signed(&test_txt(), &without)), Err(Invalid::Token));
    }

    #[test]
    fn encodes_by_the_specification() {
        assert_eq!(encode("a b/ü+~-._*='"), "a%20b%2F%C3%BC%2B~-._%2A%3D%27");
        assert_eq!(encode_path("/a b/ü"), "/a%20b/%C3%BC");
    }

    #[test]
    fn debug_hides_the_secrets() {
        let credentials = Credentials { session_token: Some("token-of-mine".to_owned()), ..example() };
        let shown = format!("{credentials:?}");
        assert!(shown.contains("AKIAIOSFODNN7EXAMPLE"));
        assert!(!shown.contains("wJalr") && !shown.contains("token-of-mine"), "{shown}");
    }
}
