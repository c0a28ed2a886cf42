//! Opening the ledger for a command.

use longshore_jobs::ledger::Db;

use super::Failure;
use crate::app;
use crate::config::Config;

/// The ledger, its schema at head; made if it is not there.
pub(crate) async fn open_ledger(config: &Config) -> Result<Db, Failure> {
    app::open_ledger(config).await.map_err(|error| {
        Failure::new(format!("the ledger {} cannot be opened", config.database))
            .because(&error)
            .hint("check data_dir and database_url: `longshore config` shows them")
    })
}
