//! `longshore status ID`

use std::fmt::Write as _;

use clap::Args;
use longshore_jobs::ledger::dead_letters::{self, DeadLetter};
use longshore_jobs::ledger::{Db, LedgerError, uploads};
use longshore_jobs::model::{Status, Upload};
use uuid::Uuid;

use super::{Failure, existing_ledger, say};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The id of an upload or of its file.
    pub(super) id: Uuid,
}

pub(super) async fn run(config: Config, args: StatusArgs) -> Result<(), Failure> {
    let db = existing_ledger(&config).await?;
    let told = tell(&db, args.id).await;
    db.close().await;
    let Some(text) = told? else {
        return Err(Failure::new(format!("{} is neither an upload nor a file", args.id)));
    };
    say(text);
    Ok(())
}

async fn tell(db: &Db, id: Uuid) -> Result<Option<String>, LedgerError> {
    let upload = match uploads::find(db, id).await? {
        Some(upload) => Some(upload),
        None => uploads::find_by_file(db, id).await?,
    };
    let Some(upload) = upload else { return Ok(None) };
    let letters = dead_letters::Filter { subject: Some(upload.id), ..dead_letters::Filter::default() };
    Ok(Some(render(&upload, &dead_letters::list(db, &letters, 10).await?)))
}

fn render(upload: &Upload, letters: &[DeadLetter]) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| writeln!(text, "{name:<10} {value}").expect("a string takes text");
    line("upload", upload.id.to_string());
    line("status", upload.reason.map_or_else(|| upload.status.to_string(), |why| format!("{}: {why}", upload.status)));
    line("waits for", waits_for(upload, letters));
    line("filename", upload.filename.clone());
    line("file", upload.file_id.to_string());
    for (name, value) in [
        ("size", upload.known_size().map(|size| format!("{size} bytes"))),
        ("hash", upload.known_sha256().map(|hash| hash.to_string())),
        ("for", upload.target().map(|target| format!("{} {}", target.kind, target.number))),
        ("arrived", upload.arrived_at.map(|at| at.to_string())),
        ("told by", upload.arrived_via.map(|via| via.to_string())),
    ] {
        if let Some(value) = value {
            line(name, value);
        }
    }
    line("asked for", upload.created_at.to_string());
    line("moved", upload.updated_at.to_string());
    for letter in letters {
        line("dead job", format!("{} {} ({}): {}", letter.id, letter.kind, letter.reason, letter.error));
    }
    text
}

fn waits_for(upload: &Upload, letters: &[DeadLetter]) -> String {
    if !letters.is_empty() && !upload.status.is_final() {
        return "a person: its job is dead (`longshore jobs explain ID`)".to_owned();
    }
    let what = match upload.status {
        Status::Requested => "a worker to sign its policy",
        Status::Issued if upload.policy.is_none() => "a worker to sign a fresh policy",
        Status::Issued => "the client to send the bytes",
        Status::Arrived => "a worker to hash it",
        Status::Verified => "a worker to store it",
        Status::Done | Status::Rejected | Status::Expired | Status::Cancelled => return "nothing".to_owned(),
    };
    match upload.resume_at {
        Some(at) => format!("{what}; put on again at {at} if it has not moved by then"),
        None => what.to_owned(),
    }
}
