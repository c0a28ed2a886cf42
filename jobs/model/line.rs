//! A line of a batch: what was asked for, checked by the door and kept until it is an upload.

use serde::{Deserialize, Serialize};
use uuid::{Builder, Uuid};

use super::{Batch, Digest, Target, Timestamp, Upload, keys};

/// One upload to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// As the client named it.
    pub filename: String,
    /// Bytes as declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    /// The media type as declared or guessed from the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The digest as declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Its own; `None` when it has the batch's, if that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The client's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ref: Option<String>,
    /// The client's own JSON object, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
}

impl Line {
    /// The upload that the line becomes, without a policy.
    #[must_use]
    pub fn upload(self, id: Uuid, batch: &Batch, now: Timestamp) -> Upload {
        let (target_kind, target_number) =
            self.target.or_else(|| batch.target()).map(|target| (target.kind, target.number)).unzip();
        Upload {
            id,
            object_key: keys::staging(batch.org_id, id),
            size: self.size,
            content_type: self.content_type,
            sha256: self.sha256,
            target_kind,
            target_number,
            client_ref: self.client_ref,
            metadata: self.metadata,
            batch_id: Some(batch.id),
            traceparent: batch.traceparent,
            ..Upload::requested(batch.org_id, batch.user_id, self.filename, now)
        }
    }
}

/// The most ids that one call of [`ids_behind`] makes: as many as can be told apart within a millisecond.
pub const MOST_IDS: usize = 1 << 12;

/// So many UUIDv7 in order, of this moment, but behind `last` even where another machine's clock was ahead of ours: whoever
/// lists uploads by id has them in the order of the lines.
#[must_use]
pub fn ids_behind(last: Option<Uuid>, count: usize) -> Vec<Uuid> {
    debug_assert!(count <= MOST_IDS, "{count} ids do not fit into a millisecond");
    let millis = millis_of(Uuid::now_v7()).max(last.map_or(0, |id| millis_of(id) + 1));
    let id = |place: usize| {
        let mut random: [u8; 10] = rand::random();
        let place = u16::try_from(place).unwrap_or(u16::MAX).to_be_bytes();
        random[..2].copy_from_slice(&place);
        Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    };
    (0..count).map(id).collect()
}

fn millis_of(id: Uuid) -> u64 {
    id.get_timestamp().map_or(0, |time| {
        let (seconds, nanos) = time.to_unix();
        seconds * 1000 + u64::from(nanos / 1_000_000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_and_behind_the_last_one_of_a_clock_that_is_ahead() {
        let ahead = Builder::from_unix_timestamp_millis(millis_of(Uuid::now_v7()) + 60_000, &[255; 10]).into_uuid();

        for last in [None, Some(Uuid::now_v7()), Some(ahead)] {
            let ids = ids_behind(last, MOST_IDS);

            assert!(ids.iter().all(|id| id.get_version_num() == 7 && Some(*id) > last));
            assert!(ids.is_sorted_by(|one, other| one < other));
        }
    }

    #[test]
    fn a_line_comes_back_as_it_was_kept() {
        let bare = Line {
            filename: "a".to_owned(),
            size: None,
            content_type: None,
            sha256: None,
            target: None,
            client_ref: None,
            metadata: None,
        };
        let full = Line {
            size: Some(0),
            content_type: Some("image/png".to_owned()),
            sha256: Some(Digest::of(b"bytes")),
            target: Some(Target { kind: super::super::target::TargetKind::Order, number: "A-100".to_owned() }),
            client_ref: Some("r".to_owned()),
            metadata: Some("{\"a\":1}".to_owned()),
            ..bare.clone()
        };

        assert_eq!(serde_json::to_string(&bare).unwrap(), r#"{"filename":"a"}"#);
        for line in [bare, full] {
            let kept = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Line>(&kept).unwrap(), line);
        }
    }
}
