//! What `up`, `intake` and `worker` have in common: start, tell where, serve until a signal comes.

use std::fmt::Write as _;

use longshore_jobs::job::with_causes;
use longshore_jobs::model::org::Token;

use super::{Failure, say};
use crate::app::{App, Roles, StartError};
use crate::bucket::local::OpenError;
use crate::bucket::s3;
use crate::config::Config;
use crate::doctor::sounds_full;
use crate::first_key::{self, FIRST_ORG};
use crate::folder::FolderError;
use crate::{metrics, shutdown};

pub(super) async fn serve(config: Config, roles: Roles) -> Result<(), Failure> {
    let bootstrap = config.bootstrap_token.clone();
    let intake = roles.intake;
    let is_here_alone = config.listen.ip().is_unspecified() && config.public_url.is_none();
    let metrics = metrics::install().map_err(|error| cannot_start(&error.into()))?;
    let stop = shutdown::on_signal().map_err(|error| Failure::new("signals cannot be listened for").because(&error))?;
    // Servers may be waited for, and whoever stops us need not wait for them too.
    let Some(opened) = stop.run_until_cancelled(Box::pin(App::open(config, roles, metrics))).await else {
        return Ok(());
    };
    let app = opened.map_err(|error| cannot_start(&error))?;
    // A worker alone has nobody to show a new token to.
    let token = if intake || bootstrap.is_some() { make_first_key(&app, bootstrap.clone()).await? } else { None };
    if intake {
        // A configured token is known to whoever configured it.
        let token = bootstrap.is_none().then(|| token_line(token.as_ref()));
        say(banner(app.url(), &[token, is_here_alone.then(reach_line)]));
    }
    Box::pin(app.run(stop)).await.map_err(|error| Failure::new("serving failed").because(&error))
}

/// Makes the first key, or the configured one, where it is not there.
pub(super) async fn make_first_key(app: &App, bootstrap: Option<Token>) -> Result<Option<Token>, Failure> {
    let ctx = app.context();
    first_key::make(&ctx.db, bootstrap, ctx.now()).await.map_err(|error| {
        Failure::new("the first key was not made")
            .because(&error)
            .hint("check bootstrap_token, or `longshore key list`")
    })
}

/// The failure of a start, with what to do about it.
pub(super) fn cannot_start(error: &StartError) -> Failure {
    let what = "longshore cannot start";
    let failure = match error {
        StartError::BucketApart { .. } => Failure::usage(what),
        _ => Failure::new(what),
    };
    failure.because(error).hint(what_to_do(error))
}

fn what_to_do(error: &StartError) -> &'static str {
    match error {
        // A server's full disk is not seen from here.
        error if is_on_this_machine(error) && sounds_full(&with_causes(error)) => {
            "is the disk full? `df -h data`; runbook, *A full disk*"
        }
        StartError::Ledger { .. } if is_on_this_machine(error) => {
            "see who may read and write the file, and that database_url is right"
        }
        StartError::Folder(FolderError::InUse { .. }) => "use that server, stop it, or name another --data-dir",
        StartError::Folder(FolderError::Taken { .. })
        | StartError::Bucket(OpenError::Lock(FolderError::Taken { .. })) => {
            "stop the process that uses it, or name another place: database_url, bucket_url"
        }
        StartError::Listen { .. } => "name another address: --listen 127.0.0.1:0 takes a free port",
        StartError::BucketApart { .. } => {
            "set bucket_url and inbox_url as in the other processes, or run `longshore up` alone"
        }
        StartError::Ledger { .. } => "see that the server runs and takes us, and that database_url is right",
        StartError::Queue { .. } => "see that the server runs and takes us, and that queue_url is right",
        StartError::Bucket(_) => {
            "see who may read and write the bucket's folder: `longshore doctor` as the service's user"
        }
        StartError::S3(s3::OpenError::Credentials(_)) => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role"
        }
        StartError::S3(_) => "see that bucket_url, s3.region and s3_endpoint are right",
        StartError::Inbox(_) => "see that inbox_url is right",
        _ => "`longshore config` shows the configuration in effect",
    }
}

/// Whether it is about a file of ours, and not about a server.
fn is_on_this_machine(error: &StartError) -> bool {
    match error {
        StartError::Ledger { ledger, .. } => !ledger.starts_with("postgres"),
        StartError::Folder(_) | StartError::Bucket(_) => true,
        _ => false,
    }
}

fn banner(url: &str, remarks: &[Option<String>]) -> String {
    let mut text = format!(
        "longshore {}\n\n  upload page  {url}/\n  console      {url}/console\n  API          {url}/api\n  metrics      {url}/metrics\n  \
         health       {url}/readyz\n",
        env!("CARGO_PKG_VERSION")
    );
    for remark in remarks.iter().flatten() {
        write!(text, "\n  {remark}\n").expect("a string takes text");
    }
    text + "\n"
}

fn token_line(made: Option<&Token>) -> String {
    match made {
        Some(token) => format!("API token, shown this once: {token}"),
        None => format!("API token: made earlier; `longshore key create --org {FIRST_ORG}` makes another"),
    }
}

fn reach_line() -> String {
    "Warning: it listens on every address, but the URLs that it hands out lead to this machine alone: clients elsewhere\n  \
     need public_url (--public-url http://NAME:PORT)."
        .to_owned()
}

#[cfg(test)]
mod tests {
    use longshore_jobs::ledger::LedgerError;

    use super::*;

    #[test]
    fn a_file_on_a_full_disk_is_no_server_that_is_away() {
        let hint = |ledger: &str, said: &str| {
            let source = LedgerError::Uncommitted(said.to_owned());
            what_to_do(&StartError::Ledger { ledger: ledger.to_owned(), source })
        };
        let full = "error returned from database: (code: 4874) disk I/O error";
        assert!(hint("sqlite://data/longshore.db", full).contains("df -h data"));
        assert!(hint("sqlite://data/longshore.db", "unable to open database file").contains("read and write the file"));
        assert!(hint("postgres://db/longshore", full).contains("the server runs"));
    }

    #[test]
    fn a_start_tells_of_a_token_whether_it_was_made_now_or_earlier() {
        let token = Token::random();
        assert!(token_line(Some(&token)).ends_with(&token.to_string()));

        let shown = banner("http://here", &[Some(token_line(None)), None, Some(reach_line())]);
        assert!(shown.contains("\n  API token: made earlier; `longshore key create --org default` makes another\n"));
        assert!(shown.contains("http://here/api\n") && shown.contains("public_url"), "{shown}");
    }
}
