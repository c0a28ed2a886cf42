//! `longshore uploads`: uploads by where they stand, those that were rejected unless it is said otherwise.

use clap::Args;
use longshore_jobs::ledger::operators_uploads::{self, Filter, Unlisted};
use longshore_jobs::ledger::page::Page;
use longshore_jobs::ledger::{Db, orgs};
use longshore_jobs::model::Status;
use longshore_jobs::model::upload::Reason;
use uuid::Uuid;

use super::output::Columns;
use super::{Failure, existing_ledger, remark, say};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct UploadsArgs {
    /// That stand there: rejected, expired, cancelled, requested, issued, arrived, verified, or with --org done [default: rejected].
    #[arg(long)]
    status: Option<Status>,
    /// That were rejected for this, for example digest_mismatch.
    #[arg(long)]
    reason: Option<Reason>,
    /// Of this org, by its name.
    #[arg(long, value_name = "NAME")]
    org: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: u32,
}

pub(super) async fn run(config: Config, args: UploadsArgs) -> Result<(), Failure> {
    let db = existing_ledger(&config).await?;
    let told = tell(&db, args).await;
    db.close().await;
    let (text, more) = told?;
    say(text);
    if more {
        remark("There are more: --limit shows them.");
    }
    Ok(())
}

/// The list, and whether there is more than it shows.
async fn tell(db: &Db, args: UploadsArgs) -> Result<(String, bool), Failure> {
    let UploadsArgs { status, reason, org, limit } = args;
    let org = match org {
        Some(name) => Some(org_of(db, &name).await?),
        None => None,
    };
    let status = status.unwrap_or(Status::Rejected);
    let filter = Filter::new(Some(status), reason, org).map_err(refusal)?;
    let page = Page { ascending: false, after: None, limit: i64::from(limit) + 1, offset: 0 };
    let mut rows = operators_uploads::list(db, filter, page).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > shown;
    rows.truncate(shown);
    if rows.is_empty() {
        return Ok((
            format!("No upload is {status}{}.\n", reason.map_or_else(String::new, |why| format!(" for {why}"))),
            more,
        ));
    }
    let mut columns = Columns::with_heads(&["id", "org", "file", "status", "asked for"]);
    for (upload, org) in rows {
        let stands = upload.reason.map_or_else(|| upload.status.to_string(), |why| format!("{}: {why}", upload.status));
        columns.row(vec![upload.id.to_string(), org, upload.filename, stands, upload.created_at.to_string()]);
    }
    Ok((columns.to_string(), more))
}

fn refusal(unlisted: Unlisted) -> Failure {
    let what = match unlisted {
        Unlisted::NoStatus => unreachable!("there is always a state"),
        Unlisted::NoReason => "--reason is for uploads that were rejected",
        Unlisted::NoOrg => "--status done needs --org NAME: nearly all uploads are done",
    };
    Failure::usage(what.to_owned())
}

async fn org_of(db: &Db, name: &str) -> Result<Uuid, Failure> {
    let found = orgs::by_name(db, name).await?;
    let org =
        found.ok_or_else(|| Failure::new(format!("there is no org {name}")).hint("`longshore org list` shows them"))?;
    Ok(org.id)
}

#[cfg(test)]
mod tests {
    use longshore_jobs::model::Upload;
    use longshore_jobs::testkit::World;

    use super::*;

    const ALL: UploadsArgs = UploadsArgs { status: None, reason: None, org: None, limit: 50 };

    #[tokio::test]
    async fn what_was_rejected_is_listed_with_its_reason_and_its_org() {
        let world = World::new().await;
        let db = &world.ctx.db;
        assert_eq!(tell(db, ALL).await.unwrap(), ("No upload is rejected.\n".to_owned(), false));
        let torn = Upload { status: Status::Rejected, reason: Some(Reason::DigestMismatch), ..world.requested() };
        longshore_jobs::ledger::uploads::insert(db, vec![torn.clone(), world.requested(), world.requested()])
            .await
            .unwrap();

        let (told, more) = tell(db, UploadsArgs { org: Some("acme".to_owned()), ..ALL }).await.unwrap();

        let row = told.lines().nth(1).unwrap();
        let expected = format!("{}  acme  MyPicture.jpg  rejected: digest_mismatch  {}", torn.id, torn.created_at);
        assert_eq!((row, told.lines().count(), more), (&*expected, 2, false));
        let some = UploadsArgs { status: Some(Status::Requested), limit: 1, ..ALL };
        let (told, more) = tell(db, some).await.unwrap();
        assert!(told.lines().count() == 2 && more, "{told}");
        let none = UploadsArgs { reason: Some(Reason::TooLarge), ..ALL };
        assert_eq!(tell(db, none).await.unwrap().0, "No upload is rejected for too_large.\n");
    }

    #[tokio::test]
    async fn lists_of_nearly_everything_and_of_orgs_that_are_not_there_are_refused() {
        let world = World::new().await;
        for args in [
            UploadsArgs { status: Some(Status::Done), ..ALL },
            UploadsArgs { status: Some(Status::Expired), reason: Some(Reason::TooLarge), ..ALL },
            UploadsArgs { org: Some("nobody".to_owned()), ..ALL },
        ] {
            assert!(tell(&world.ctx.db, args).await.is_err());
        }
    }
}
