//! What `up`, `intake` and `worker` have in common: start, tell where, serve until a signal comes.

use std::fmt::Write as _;

use longshore_jobs::model::org::Token;

use super::{Failure, say};
use crate::app::{App, Roles, StartError};
use crate::config::Config;
use crate::folder::FolderError;
use crate::{first_key, metrics, shutdown};

pub(super) async fn serve(config: Config, roles: Roles) -> Result<(), Failure> {
    let bootstrap = config.bootstrap_token.clone();
    let intake = roles.intake;
    let metrics = metrics::install().map_err(|error| cannot_start(&error.into()))?;
    let app = App::open(config, roles, metrics).await.map_err(|error| cannot_start(&error))?;
    let ctx = app.context();
    let token = first_key::make(&ctx.db, bootstrap.clone(), ctx.now()).await.map_err(|error| {
        Failure::new("the first key was not made")
            .because(&error)
            .hint("check bootstrap_token, or `longshore key list`")
    })?;
    let stop = shutdown::on_signal().map_err(|error| Failure::new("signals cannot be listened for").because(&error))?;
    if intake {
        // A configured token is known to whoever configured it.
        say(banner(app.url(), token.filter(|_| bootstrap.is_none()).as_ref()));
    }
    app.run(stop).await.map_err(|error| Failure::new("serving failed").because(&error))
}

/// The failure of a start, with what to do about it.
pub(super) fn cannot_start(error: &StartError) -> Failure {
    let hint = match error {
        StartError::Folder(FolderError::InUse { .. }) => "use that server, stop it, or name another --data-dir",
        StartError::Listen { .. } => "name another address: --listen 127.0.0.1:0 takes a free port",
        _ => "`longshore config` shows the configuration in effect",
    };
    Failure::new("longshore cannot start").because(error).hint(hint)
}

fn banner(url: &str, token: Option<&Token>) -> String {
    let mut text = format!(
        "longshore {}\n\n  upload page  {url}/\n  API          {url}/api\n  metrics      {url}/metrics\n  health       {url}/readyz\n",
        env!("CARGO_PKG_VERSION")
    );
    if let Some(token) = token {
        write!(text, "\n  API token, shown this once: {token}\n").expect("a string takes text");
    }
    text + "\n"
}
