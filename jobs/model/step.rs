//! The steps of an upload's way, as an operator looks at them: those it has taken, and while it is open those before it.

use uuid::Uuid;

use super::{Status, Timestamp, Upload, words};

words! {
    /// A step.
    Name, "a step" {
        /// It was asked for.
        Requested = "requested",
        /// The client was given a policy.
        Policy = "policy",
        /// The object was stored, as the bucket tells.
        Landed = "landed",
        /// We heard of that.
        Notified = "notified",
        /// Its bytes were hashed and are what was promised.
        Hashed = "hashed",
        /// The org had the bytes.
        Deduplicated = "deduplicated",
        /// They became a blob of their own.
        Stored = "stored",
        /// It is a file.
        Done = "done",
        /// It was refused.
        Rejected = "rejected",
        /// Nothing came.
        Expired = "expired",
        /// The client took it back.
        Cancelled = "cancelled",
        /// The file was deleted.
        Deleted = "deleted",
    }
}

/// A step, taken or to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub name: Name,
    /// When it was taken; `None` when it is still to come.
    pub at: Option<Timestamp>,
    /// What is to be said of it.
    pub note: Option<String>,
}

/// The steps in the order of the way. `blob` is the one that the upload's file has; `None` without a file.
#[must_use]
pub fn steps(upload: &Upload, blob: Option<Uuid>) -> Vec<Step> {
    let step = |name, at, note| Step { name, at, note };
    let mut steps = vec![step(Name::Requested, Some(upload.created_at), None)];
    let ahead = first_ahead(upload);
    let way = [
        step(Name::Policy, upload.issued_at, policy_note(upload)),
        step(Name::Landed, upload.landed_at, None),
        step(Name::Notified, upload.arrived_at, upload.arrived_via.map(|via| format!("by {via}"))),
        step(Name::Hashed, upload.verified_at, changes_note(upload)),
        step(kept_as(upload), upload.stored_at, blob.map(|blob| format!("blob {blob}"))),
        step(Name::Done, upload.stored_at, None),
    ];
    steps.extend(way.into_iter().filter(|step| step.at.is_some() || ahead.is_some_and(|first| step.name >= first)));
    steps.extend(end(upload));
    steps.extend(upload.file_deleted_at.map(|at| step(Name::Deleted, Some(at), None)));
    steps
}

/// The first step that an open upload has before it; `None` when it has ended.
const fn first_ahead(upload: &Upload) -> Option<Name> {
    match upload.status {
        Status::Requested => Some(Name::Policy),
        Status::Issued if upload.policy.is_none() => Some(Name::Policy),
        Status::Issued => Some(Name::Landed),
        Status::Arrived => Some(Name::Hashed),
        Status::Verified => Some(Name::Stored),
        Status::Done | Status::Rejected | Status::Expired | Status::Cancelled => None,
    }
}

fn policy_note(upload: &Upload) -> Option<String> {
    let ends = upload.policy_expires_at.filter(|_| upload.status == Status::Issued && upload.issued_at.is_some())?;
    Some(format!("good until {ends}"))
}

fn changes_note(upload: &Upload) -> Option<String> {
    match upload.changes {
        0 => None,
        1 => Some("the bytes changed once".to_owned()),
        changes => Some(format!("the bytes changed {changes} times")),
    }
}

fn kept_as(upload: &Upload) -> Name {
    if upload.deduplicated == Some(true) { Name::Deduplicated } else { Name::Stored }
}

fn end(upload: &Upload) -> Option<Step> {
    let name = match upload.status {
        Status::Rejected => Name::Rejected,
        Status::Expired => Name::Expired,
        Status::Cancelled => Name::Cancelled,
        _ => return None,
    };
    Some(Step { name, at: Some(upload.updated_at), note: upload.reason.map(|reason| reason.to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::upload::{ArrivedVia, Reason};

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_millis(second * 1_000))
    }

    fn asked() -> Upload {
        Upload::requested(Uuid::nil(), Uuid::nil(), "a".to_owned(), Timestamp::from_millis(0))
    }

    fn arrived() -> Upload {
        Upload {
            status: Status::Arrived,
            issued_at: at(1),
            landed_at: at(2),
            arrived_at: at(3),
            arrived_via: Some(ArrivedVia::Notice),
            ..asked()
        }
    }

    fn told(upload: &Upload) -> Vec<String> {
        let tell = |step: Step| match step.at {
            Some(at) => format!("{}@{}", step.name, at.as_millis() / 1_000),
            None => step.name.to_string(),
        };
        steps(upload, None).into_iter().map(tell).collect()
    }

    #[test]
    fn an_open_upload_shows_what_lies_before_it() {
        let ahead = ["requested@0", "policy", "landed", "notified", "hashed", "stored", "done"];
        assert_eq!(told(&asked()), ahead);
        assert_eq!(told(&Upload { status: Status::Issued, ..asked() }), ahead, "its policy is being renewed");
        let issued = Upload { status: Status::Issued, issued_at: at(1), policy: Some(String::new()), ..asked() };
        assert_eq!(told(&issued)[..3], ["requested@0", "policy@1", "landed"]);
        assert_eq!(told(&arrived())[3..], ["notified@3", "hashed", "stored", "done"]);
    }

    #[test]
    fn a_step_that_was_not_taken_is_not_still_to_come() {
        let faster = Upload { issued_at: None, landed_at: None, ..arrived() };
        assert_eq!(told(&faster), ["requested@0", "notified@3", "hashed", "stored", "done"]);
    }

    #[test]
    fn an_upload_that_has_ended_shows_its_way_and_its_end() {
        let done = Upload { status: Status::Done, verified_at: at(4), stored_at: at(5), ..arrived() };
        let way = ["requested@0", "policy@1", "landed@2", "notified@3", "hashed@4", "stored@5", "done@5"];
        assert_eq!(told(&done), way);

        let known = Upload { status: Status::Done, stored_at: at(0), deduplicated: Some(true), ..asked() };
        assert_eq!(told(&known), ["requested@0", "deduplicated@0", "done@0"]);

        let deleted = Upload { file_deleted_at: at(9), updated_at: Timestamp::from_millis(9_000), ..known };
        assert_eq!(told(&deleted), ["requested@0", "deduplicated@0", "done@0", "deleted@9"]);

        let updated_at = Timestamp::from_millis(7_000);
        let rejected =
            Upload { status: Status::Rejected, reason: Some(Reason::DigestMismatch), updated_at, ..arrived() };
        assert_eq!(told(&rejected)[3..], ["notified@3", "rejected@7"]);
        assert_eq!(steps(&rejected, None).pop().unwrap().note.as_deref(), Some("digest_mismatch"));
        assert_eq!(told(&Upload { status: Status::Expired, updated_at, ..asked() }), ["requested@0", "expired@7"]);
        assert_eq!(told(&Upload { status: Status::Cancelled, updated_at, ..asked() }), ["requested@0", "cancelled@7"]);
    }

    #[test]
    fn notes_say_what_a_time_does_not() {
        let blob = Uuid::now_v7();
        let done = Upload { status: Status::Done, verified_at: at(4), stored_at: at(5), changes: 2, ..arrived() };
        let notes: Vec<_> = steps(&done, Some(blob)).into_iter().filter_map(|step| step.note).collect();
        assert_eq!(notes, ["by notice".to_owned(), "the bytes changed 2 times".to_owned(), format!("blob {blob}")]);

        let issued = Upload { status: Status::Issued, issued_at: at(1), policy_expires_at: at(900), ..asked() };
        assert_eq!(steps(&issued, None)[1].note.as_deref(), Some("good until 1970-01-01T00:15:00.000Z"));
    }
}
