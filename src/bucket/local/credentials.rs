//! The bucket's own credentials: made at random once and kept beside the data, readable by the owner alone.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use longshore_jobs::model::policy::Credentials;
use tempfile::NamedTempFile;

use super::OpenError;

const NAME: &str = "credentials.json";

/// What the folder holds, or new ones that it holds from now on. Blocks.
pub(crate) fn load_or_make(dir: &Path) -> Result<Credentials, OpenError> {
    match fs::read(dir.join(NAME)) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(dir),
        Err(error) => Err(error.into()),
    }
}

fn make(dir: &Path) -> Result<Credentials, OpenError> {
    let (mut key, mut secret) = ([0; 8], [0; 32]);
    rand::fill(&mut key);
    rand::fill(&mut secret);
    let access_key_id = format!("LOCAL{}", hex::encode_upper(key));
    let made = Credentials { access_key_id, secret_access_key: hex::encode(secret), session_token: None };
    // Temporary files have mode 0600 from their first moment.
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(serde_json::to_string_pretty(&made)?.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(dir.join(NAME)).map_err(|error| error.error)?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn credentials_are_made_once_and_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();

        let made = load_or_make(dir.path()).unwrap();

        assert_eq!(load_or_make(dir.path()).unwrap(), made);
        let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn credentials_that_cannot_be_read_are_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "{").unwrap();
        assert!(matches!(load_or_make(dir.path()), Err(OpenError::Credentials(_))));
    }
}
