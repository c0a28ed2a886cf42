//! An upload and its legal moves.
//!
//! ```text
//! requested → issued → arrived → verified → done
//!    │          │         │          └──────────→ rejected(reason)   also from arrived
//!    └──────────┴───→ expired                    requested, issued, arrived → cancelled
//! also legal: requested → arrived (the notice was faster), verified → arrived (the bytes changed under us),
//!             expired → arrived (late bytes), expired → issued (a renewed policy),
//!             requested, issued → rejected (a manifest promised it and nothing came)
//! born further on: issued or done from the lines of a batch, arrived or rejected from an object under a batch's prefix
//! ```

use std::time::Duration;

use uuid::Uuid;

use super::target::TargetKind;
use super::{Digest, Target, Timestamp, TraceParent, keys, words};

/// The largest object that one POST or one copy can carry: 5 GB (Amazon S3 user guide, "Uploading objects").
pub const MAX_SIZE: i64 = 5_000_000_000;

/// How often the bytes may change under us before the upload is rejected.
pub const MAX_CHANGES: i64 = 3;

words! {
    /// Where an upload stands.
    Status, "a status" {
        /// Asked for; no policy yet.
        Requested = "requested",
        /// The client holds a policy.
        Issued = "issued",
        /// The object is in staging.
        Arrived = "arrived",
        /// Its bytes were hashed and are what was promised.
        Verified = "verified",
        /// It is a file of the org.
        Done = "done",
        /// Refused; the reason says why.
        Rejected = "rejected",
        /// The policy ran out and nothing came.
        Expired = "expired",
        /// The client took it back.
        Cancelled = "cancelled",
    }
}

impl Status {
    /// Whether the move is legal.
    #[must_use]
    pub fn can_become(self, next: Self) -> bool {
        use Status::{Arrived, Cancelled, Done, Expired, Issued, Rejected, Requested, Verified};
        matches!(
            (self, next),
            (Requested, Issued | Arrived | Expired | Cancelled | Rejected)
                | (Issued, Arrived | Expired | Cancelled | Rejected)
                | (Arrived, Verified | Rejected | Cancelled)
                | (Verified, Done | Rejected | Arrived)
                | (Expired, Arrived | Issued)
        )
    }

    /// Whether nothing is expected to change any more. `expired` counts, although late bytes can still revive it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Rejected | Self::Expired | Self::Cancelled)
    }
}

words! {
    /// Why an upload was rejected.
    Reason, "a reason" {
        /// The bytes are not those that the client declared.
        DigestMismatch = "digest_mismatch",
        /// Another size than declared.
        SizeMismatch = "size_mismatch",
        /// Larger than one object may be.
        TooLarge = "too_large",
        /// The object was gone before it could be read.
        ObjectMissing = "object_missing",
        /// The object kept changing while it was read.
        ObjectChanged = "object_changed",
        /// A path that climbs or is absolute.
        UnsafePath = "unsafe_path",
        /// More files than the batch allows.
        TooManyFiles = "too_many_files",
    }
}

impl Reason {
    /// What it means, and what to do about it: whole sentences.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::DigestMismatch => {
                "What arrived has another SHA-256 than was promised: it was changed before or on its way. The client sends it again."
            }
            Self::SizeMismatch => "What arrived has another size than was promised. The client sends it again.",
            Self::TooLarge => "The object is larger than `limits.max_size`, or than its batch allows.",
            Self::ObjectMissing => {
                "The object was gone before it could be read, or the batch ended without it. The client sends it again."
            }
            Self::ObjectChanged => {
                "The object was written anew each time it was read. Something posts to the same policy over and over."
            }
            Self::UnsafePath => "The path under the batch's prefix climbs or is absolute, so it was not taken.",
            Self::TooManyFiles => "The batch allows fewer files than came.",
        }
    }
}

words! {
    /// Who told that the object is there.
    ArrivedVia, "a source" {
        /// The bucket, through the inbox.
        Notice = "notice",
        /// The client.
        Callback = "callback",
        /// The poller.
        Poll = "poll",
        /// Nobody had to: the bytes came through `POST /api/files`.
        Form = "form",
    }
}

/// One row of the ledger.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Upload {
    /// UUIDv7.
    pub id: Uuid,
    /// Whose it is.
    pub org_id: Uuid,
    /// Whose key asked for it.
    pub user_id: Uuid,
    /// Where it stands.
    pub status: Status,
    /// Why it was rejected; set exactly then.
    pub reason: Option<Reason>,
    /// As the client named it.
    pub filename: String,
    /// Bytes as declared; `None` when the client did not say.
    pub size: Option<i64>,
    /// Bytes of the object that arrived.
    pub arrived_size: Option<i64>,
    /// The media type as declared or guessed from the name.
    pub content_type: Option<String>,
    /// The digest as declared; `None` when the client did not say.
    pub sha256: Option<Digest>,
    /// The digest as computed from the object; `None` until it was.
    pub verified_sha256: Option<Digest>,
    /// Order or style; `None` when it is for neither.
    pub target_kind: Option<TargetKind>,
    /// The target's number; set exactly when the kind is.
    pub target_number: Option<String>,
    /// The client's own id.
    pub client_ref: Option<String>,
    /// The client's own JSON object, as text.
    pub metadata: Option<String>,
    /// Where the client puts the bytes.
    pub object_key: String,
    /// The signed policy as JSON text, while it may be of use.
    pub policy: Option<String>,
    /// When the policy ends.
    pub policy_expires_at: Option<Timestamp>,
    /// The version of the object that arrived.
    pub etag: Option<String>,
    /// Who told of the arrival.
    pub arrived_via: Option<ArrivedVia>,
    /// How often the object changed under us.
    pub changes: i64,
    /// The id that the file entry has or will have.
    pub file_id: Uuid,
    /// Whether the org already had the bytes; `None` until that is known.
    pub deduplicated: Option<bool>,
    /// When its job is put on again if it has not moved by then; `None` while it waits for the client or is final.
    pub resume_at: Option<Timestamp>,
    /// How often its job was put on again since it last moved.
    pub resumes: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
    /// When the policy that stands, or the last one that stood, was signed.
    pub issued_at: Option<Timestamp>,
    /// When the object was stored, as the bucket tells.
    pub landed_at: Option<Timestamp>,
    /// When we heard of that.
    pub arrived_at: Option<Timestamp>,
    /// When its bytes were hashed.
    pub verified_at: Option<Timestamp>,
    /// When it became a file.
    pub stored_at: Option<Timestamp>,
    /// The trace of the request that asked for it; `None` when nobody asked by HTTP.
    pub traceparent: Option<TraceParent>,
    /// The batch that it came with; `None` when it was asked for alone.
    pub batch_id: Option<Uuid>,
    /// When its file was deleted; `None` while the org has it, and where there never was one.
    pub file_deleted_at: Option<Timestamp>,
}

impl Upload {
    /// A row that was asked for just now, about which nothing but its name and its owner is known.
    #[must_use]
    pub fn requested(org_id: Uuid, user_id: Uuid, filename: String, now: Timestamp) -> Self {
        let id = Uuid::now_v7();
        Self {
            id,
            org_id,
            user_id,
            status: Status::Requested,
            reason: None,
            filename,
            size: None,
            arrived_size: None,
            content_type: None,
            sha256: None,
            verified_sha256: None,
            target_kind: None,
            target_number: None,
            client_ref: None,
            metadata: None,
            object_key: keys::staging(org_id, id),
            policy: None,
            policy_expires_at: None,
            etag: None,
            arrived_via: None,
            changes: 0,
            file_id: Uuid::now_v7(),
            deduplicated: None,
            resume_at: None,
            resumes: 0,
            created_at: now,
            updated_at: now,
            issued_at: None,
            landed_at: None,
            arrived_at: None,
            verified_at: None,
            stored_at: None,
            traceparent: None,
            batch_id: None,
            file_deleted_at: None,
        }
    }

    /// What the upload is for.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        Some(Target { kind: self.target_kind?, number: self.target_number.clone()? })
    }

    /// What it means that it ended without a file, and what to do about it: whole sentences. `None` of any other.
    #[must_use]
    pub fn meaning(&self) -> Option<&'static str> {
        match self.status {
            Status::Rejected => self.reason.map(Reason::meaning),
            Status::Expired => Some(
                "The policy and its grace ran out, and no object came, or the bucket refused it: ask the client for the answer to its \
                 post. It asks for a fresh policy, or for a new upload.",
            ),
            Status::Cancelled => Some("The client took it back. There is nothing to do."),
            _ => None,
        }
    }

    /// Bytes as found, or else as declared.
    #[must_use]
    pub fn known_size(&self) -> Option<i64> {
        self.arrived_size.or(self.size)
    }

    /// The digest as computed, or else as declared; of a rejected upload as it was declared.
    #[must_use]
    pub fn known_sha256(&self) -> Option<Digest> {
        if self.status == Status::Rejected { self.sha256 } else { self.verified_sha256.or(self.sha256) }
    }
}

/// How long a policy lives: a quarter of an hour, and a second more for each megabyte that has to travel.
#[must_use]
pub fn policy_life(base: Duration, size: Option<i64>) -> Duration {
    base + Duration::from_secs(u64::try_from(size.unwrap_or(0)).unwrap_or(0) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every state against every state: the drawing at the top of this file, spelled out.
    #[test]
    fn only_the_drawn_moves_are_legal() {
        let drawn = [
            "requested→issued",
            "requested→arrived",
            "requested→expired",
            "requested→cancelled",
            "requested→rejected",
            "issued→arrived",
            "issued→expired",
            "issued→cancelled",
            "issued→rejected",
            "arrived→verified",
            "arrived→rejected",
            "arrived→cancelled",
            "verified→done",
            "verified→rejected",
            "verified→arrived",
            "expired→arrived",
            "expired→issued",
        ];
        for from in Status::ALL {
            for to in Status::ALL {
                let name = format!("{from}→{to}");
                assert_eq!(from.can_become(*to), drawn.contains(&name.as_str()), "{name}");
            }
        }
    }

    #[test]
    fn final_states_lead_nowhere_but_back_from_expired() {
        for from in Status::ALL.iter().filter(|status| status.is_final() && **status != Status::Expired) {
            assert!(Status::ALL.iter().all(|to| !from.can_become(*to)), "{from}");
        }
    }

    #[test]
    fn whatever_ended_without_a_file_says_what_that_means() {
        let row = Upload::requested(Uuid::nil(), Uuid::nil(), "a".to_owned(), Timestamp::from_millis(0));
        for status in Status::ALL {
            for reason in Reason::ALL {
                let reason = Some(*reason).filter(|_| *status == Status::Rejected);
                let meaning = Upload { status: *status, reason, ..row.clone() }.meaning();
                let says = matches!(status, Status::Rejected | Status::Expired | Status::Cancelled);
                assert_eq!(meaning.is_some_and(|meaning| meaning.ends_with('.')), says, "{status} {reason:?}");
            }
        }
    }

    #[test]
    fn a_policy_for_more_bytes_lives_longer() {
        let base = Duration::from_secs(900);
        assert_eq!(policy_life(base, None), base);
        assert_eq!(policy_life(base, Some(600_000_000)), Duration::from_secs(1500));
    }
}
