//! `longshore migrate`

use super::{Failure, open_ledger, say};
use crate::config::Config;

/// Opening the ledger is what brings its schema to head.
pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let db = open_ledger(&config).await?;
    db.close().await;
    say(format_args!("{} is at head.\n", config.database));
    Ok(())
}
