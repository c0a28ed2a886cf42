//! Why a form is refused, in S3's words.

use super::super::sigv4::Invalid;

/// Why a form is not stored. The codes are S3's and stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The policy does not allow it.
    #[error("Invalid according to Policy: {0}")]
    AgainstPolicy(String),
    /// The policy's time is over.
    #[error("Invalid according to Policy: Policy expired.")]
    PolicyExpired,
    /// The form is not signed at all.
    #[error("The form needs the field {0}")]
    Unsigned(&'static str),
    /// The policy cannot be read.
    #[error("Invalid Policy: {0}")]
    InvalidPolicy(String),
    /// The signature does not count.
    #[error(transparent)]
    Signature(#[from] Invalid),
    /// A field is missing, doubled, or makes no sense.
    #[error("{0}")]
    InvalidArgument(String),
    /// The key is longer than 1024 bytes.
    #[error("Your key is too long")]
    KeyTooLong,
    /// There is too much before the file.
    #[error("Your POST request's fields preceding the upload file are too large")]
    TooManyFields,
    /// The file is smaller than the policy wants.
    #[error("Your proposed upload is smaller than the minimum allowed size of {0} bytes")]
    TooSmall(i64),
    /// The file is larger than the policy allows.
    #[error("Your proposed upload exceeds the maximum allowed size of {0} bytes")]
    TooLarge(i64),
    /// The bytes are not those whose digest the form declares.
    #[error("The SHA-256 you specified did not match the calculated checksum")]
    BadDigest,
    /// It is not a form, or a broken one.
    #[error("The body of your POST request is not well-formed multipart/form-data: {0}")]
    Malformed(String),
}

impl Refusal {
    /// S3's word for it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AgainstPolicy(_) | Self::PolicyExpired | Self::Unsigned(_) => "AccessDenied",
            Self::InvalidPolicy(_) => "InvalidPolicyDocument",
            Self::Signature(Invalid::UnknownKey) => "InvalidAccessKeyId",
            Self::Signature(Invalid::Mismatch) => "SignatureDoesNotMatch",
            Self::Signature(Invalid::Token) => "InvalidToken",
            Self::Signature(_) => "AccessDenied",
            Self::InvalidArgument(_) => "InvalidArgument",
            Self::KeyTooLong => "KeyTooLongError",
            Self::TooManyFields => "MaxPostPreDataLengthExceeded",
            Self::TooSmall(_) => "EntityTooSmall",
            Self::TooLarge(_) => "EntityTooLarge",
            Self::BadDigest => "BadDigest",
            Self::Malformed(_) => "MalformedPOSTRequest",
        }
    }

    /// The HTTP status that S3 answers with: 403 where it is about who may do what, else 400.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::AgainstPolicy(_) | Self::PolicyExpired | Self::Unsigned(_) => 403,
            Self::Signature(Invalid::Token) => 400,
            Self::Signature(_) => 403,
            _ => 400,
        }
    }
}
