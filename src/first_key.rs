//! The first org and its first key, so that a fresh start can be used.

use longshore_jobs::ledger::{Db, LedgerError, api_keys, orgs};
use longshore_jobs::model::Timestamp;
use longshore_jobs::model::org::{ApiKey, Org, Scopes, Token};
use uuid::Uuid;

/// What the first org is called.
pub(crate) const FIRST_ORG: &str = "default";

/// The first key could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirstKeyError {
    /// The ledger failed.
    #[error("make the first key")]
    Ledger(#[from] LedgerError),
    /// The configured token contradicts the ledger.
    #[error("the bootstrap token names the key {key}, which is there with another secret or was revoked")]
    Contradicted {
        /// The public half.
        key: String,
    },
}

/// Makes the configured token's key if it is not there; else, where no lasting key was ever made, one of its own. Returns the token
/// if its key was made now.
pub(crate) async fn make(db: &Db, configured: Option<Token>, now: Timestamp) -> Result<Option<Token>, FirstKeyError> {
    let Some(token) = configured else {
        if api_keys::any_lasting(db).await? {
            return Ok(None);
        }
        return Ok(Some(add(db, Token::random(), now).await?));
    };
    match api_keys::find(db, &token.key).await? {
        None => Ok(Some(add(db, token, now).await?)),
        Some(key) if key.stands(now) && key.secret_hash == token.secret_hash() => Ok(None),
        Some(_) => Err(FirstKeyError::Contradicted { key: token.key }),
    }
}

async fn add(db: &Db, token: Token, now: Timestamp) -> Result<Token, LedgerError> {
    let org = first_org(db, now).await?;
    api_keys::insert(db, key_row(&token, &org, "first key", now)).await?;
    Ok(token)
}

/// The org that is used where none is named, made if it is not there.
pub(crate) async fn first_org(db: &Db, now: Timestamp) -> Result<Org, LedgerError> {
    org_named(db, FIRST_ORG, now).await
}

/// The org of that name, made if it is not there.
pub(crate) async fn org_named(db: &Db, name: &str, now: Timestamp) -> Result<Org, LedgerError> {
    match orgs::by_name(db, name).await? {
        Some(org) => Ok(org),
        None => orgs::create(db, name.to_owned(), now).await,
    }
}

/// The row of a key with all scopes and a user of its own.
pub(crate) fn key_row(token: &Token, org: &Org, name: &str, now: Timestamp) -> ApiKey {
    ApiKey {
        key: token.key.clone(),
        org_id: org.id,
        user_id: Uuid::now_v7(),
        name: name.to_owned(),
        scopes: Scopes::all(),
        secret_hash: token.secret_hash(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ledger() -> (tempfile::TempDir, Db) {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&folder.path().join("ledger.db")).await.unwrap();
        (folder, db)
    }

    #[tokio::test]
    async fn a_fresh_ledger_gets_a_token_once() {
        let (_folder, db) = ledger().await;
        let now = Timestamp::from_millis(1);
        let token = make(&db, None, now).await.unwrap().unwrap();
        assert!(api_keys::find(&db, &token.key).await.unwrap().unwrap().stands(now));
        assert_eq!(make(&db, None, now).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_configured_token_is_made_once_and_may_not_be_contradicted() {
        let (_folder, db) = ledger().await;
        let now = Timestamp::from_millis(1);
        let token = Token::random();
        assert_eq!(make(&db, Some(token.clone()), now).await.unwrap(), Some(token.clone()));
        assert_eq!(make(&db, Some(token.clone()), now).await.unwrap(), None);

        let other = Token { secret: "x".repeat(40), ..token };
        assert!(matches!(make(&db, Some(other), now).await, Err(FirstKeyError::Contradicted { .. })));
    }
}
