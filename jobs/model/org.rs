//! Orgs, and the API keys by which their servers and people come in.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::{Digest, Timestamp, stored_as_text, words};

/// A tenant. Files, hashes and reports of one org are never seen by another.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Org {
    /// UUIDv7.
    pub id: Uuid,
    /// Unique, chosen by the operator.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
}

words! {
    /// What a key may do.
    Scope, "a scope" {
        /// Create, renew, cancel, delete and see uploads.
        Upload = "upload",
        /// Every other GET.
        Read = "read",
        /// The org's report.
        Report = "report",
        /// Everything an operator does.
        Admin = "admin",
    }
}

/// A set of scopes; in the ledger a comma list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Every scope there is.
    #[must_use]
    pub fn all() -> Self {
        Self(Scope::ALL.to_vec())
    }

    /// Just these.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        let mut scopes = scopes.to_vec();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }

    /// Whether the key may do this.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.write_str(&words.join(","))
    }
}

impl FromStr for Scopes {
    type Err = super::UnknownWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        Ok(Self::of(&words.map(str::parse).collect::<Result<Vec<_>, _>>()?))
    }
}

stored_as_text!(Scopes);

/// An API key. Its secret is not here: the ledger keeps only the secret's SHA-256.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ApiKey {
    /// The public half, for example `k3f9…`.
    pub key: String,
    /// Whose files it reaches.
    pub org_id: Uuid,
    /// Who is shown as the owner of what it uploads.
    pub user_id: Uuid,
    /// What an operator called it.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// SHA-256 of the secret.
    pub secret_hash: Digest,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused; `None` is never.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back; `None` while it stands.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether the key is neither revoked nor expired.
    #[must_use]
    pub fn stands(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// Key and secret in one string, `lsk_<key>_<secret>`. It is shown once; `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The public half.
    pub key: String,
    /// The secret half.
    pub secret: String,
}

/// The text is not `lsk_<key>_<secret>`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a token reads lsk_<key>_<secret>: letters and digits, a secret of at least 32 characters")]
pub struct NotAToken;

impl Token {
    /// A new token with 256 random bits of secret.
    #[must_use]
    pub fn random() -> Self {
        let (mut key, mut secret) = ([0; 8], [0; 32]);
        rand::fill(&mut key);
        rand::fill(&mut secret);
        Self { key: hex::encode(key), secret: hex::encode(secret) }
    }

    /// What the ledger keeps of the secret.
    #[must_use]
    pub fn secret_hash(&self) -> Digest {
        Digest::of(self.secret.as_bytes())
    }
}

impl FromStr for Token {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (key, secret) = text.strip_prefix("lsk_").and_then(|rest| rest.split_once('_')).ok_or(NotAToken)?;
        let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let fits = (1..=64).contains(&key.len()) && (32..=256).contains(&secret.len());
        if !fits || !plain(key) || !plain(secret) {
            return Err(NotAToken);
        }
        Ok(Self { key: key.to_owned(), secret: secret.to_owned() })
    }
}

/// The whole token, secret included: for the one time that it is shown.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lsk_{}_{}", self.key, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lsk_{}_…", self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_own_spelling() {
        let token = Token::random();
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(&token.secret));
    }

    #[test]
    fn weak_or_broken_tokens_are_refused() {
        for text in ["", "lsk_", "lsk_a_short", "abc", &format!("lsk_a-b_{}", "x".repeat(40))] {
            assert_eq!(text.parse::<Token>(), Err(NotAToken), "{text}");
        }
    }

    #[test]
    fn scopes_read_and_write_as_a_list() {
        let scopes: Scopes = "read, upload,read".parse().unwrap();
        assert_eq!(scopes.to_string(), "upload,read");
        assert!("upload,root".parse::<Scopes>().is_err());
    }
}
