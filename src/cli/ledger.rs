//! Opening the ledger for a command.

use longshore_jobs::ledger::Db;

use super::Failure;
use crate::app;
use crate::config::Config;

/// The ledger, its schema at head; made if it is not there.
pub(crate) async fn open_ledger(config: &Config) -> Result<Db, Failure> {
    app::open_ledger(config).await.map_err(|error| {
        Failure::new("the ledger cannot be opened")
            .because(&error)
            .hint("check data_dir and database_url: `longshore config` shows them")
    })
}

/// The ledger that is there already, for commands that have nothing to do with a fresh one.
pub(crate) async fn existing_ledger(config: &Config) -> Result<Db, Failure> {
    if let Some(path) = config.database.file().filter(|path| !path.exists()) {
        let what = format!("there is no ledger at {}; is --data-dir right?", path.display());
        return Err(
            Failure::new(what).hint("`longshore config` shows where it is looked for; `longshore up` makes one")
        );
    }
    open_ledger(config).await
}

#[cfg(test)]
mod tests {
    use crate::config::Layered;

    use super::*;

    #[tokio::test]
    async fn a_command_that_reads_makes_no_ledger_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::load(Layered::default()).unwrap().moved_to(&folder.path().join("data"));

        let Err(failure) = existing_ledger(&config).await else { panic!("there is none") };
        assert!(failure.to_string().contains("is --data-dir right?"), "{failure}");
        assert!(!folder.path().join("data").exists());

        open_ledger(&config).await.unwrap().close().await;
        existing_ledger(&config).await.unwrap().close().await;
    }
}
