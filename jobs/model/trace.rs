//! The trace that an upload belongs to, from the request that asked for it to the file that it becomes.
//!
//! Source: W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context-1/>). A parent that is not well formed is ignored,
//! and a trace begun anew in its place.

use std::fmt;
use std::num::NonZero;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use tracing::Span;

/// How many characters version 00 has, and every later one at least.
const LENGTH: usize = 55;
/// The only flag that level 1 knows: the caller may have recorded the trace.
const SAMPLED: u8 = 1;

/// The name of what all spans and log lines of one trace have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZero<u128>);

/// A `traceparent`: a trace, and the part of it that caused what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: NonZero<u64>,
    flags: u8,
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is `00-<32 hex digits>-<16 hex digits>-<2 hex digits>` in lower case")]
pub struct NotATraceParent;

impl TraceParent {
    /// A new trace.
    #[must_use]
    pub fn begin() -> Self {
        let trace = NonZero::new(rand::random()).unwrap_or(NonZero::<u128>::MAX);
        Self { trace: TraceId(trace), span: new_span(), flags: SAMPLED }
    }

    /// The same trace, with a part of our own in place of the caller's.
    #[must_use]
    pub fn our_part(self) -> Self {
        Self { span: new_span(), ..self }
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(self) -> TraceId {
        self.trace
    }

    /// Has every line from here on say which trace it belongs to, if the span that is entered has the field `trace_id`.
    pub fn show(self) {
        Span::current().record("trace_id", tracing::field::display(self.trace));
    }
}

fn new_span() -> NonZero<u64> {
    NonZero::new(rand::random()).unwrap_or(NonZero::<u64>::MAX)
}

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    /// Of a later version, what this one knows (section 4.3 of the source). Not even digits may be in upper case.
    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        let (known, rest) = text.split_at_checked(LENGTH).ok_or(NotATraceParent)?;
        let mut fields = known.split('-');
        let mut field = |length| fields.next().filter(|field| field.len() == length).and_then(hex);
        let [version, trace, span, flags] = [field(2), field(32), field(16), field(2)];
        let version = version.filter(|version| *version != 0xff).ok_or(NotATraceParent)?;
        if !rest.is_empty() && (version == 0 || !rest.starts_with('-')) {
            return Err(NotATraceParent);
        }
        let trace = trace.and_then(NonZero::new).ok_or(NotATraceParent)?;
        let span = span.and_then(|span| NonZero::new(u64::try_from(span).ok()?)).ok_or(NotATraceParent)?;
        let flags = u8::try_from(flags.ok_or(NotATraceParent)?).map_err(|_| NotATraceParent)?;
        Ok(Self { trace: TraceId(trace), span, flags: flags & SAMPLED })
    }
}

fn hex(digits: &str) -> Option<u128> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    digits.bytes().all(lower).then(|| u128::from_str_radix(digits, 16).ok())?
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

super::stored_as_text!(TraceParent);

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with(replaced: &str, by: &str) -> String {
        GOOD.replacen(replaced, by, 1)
    }

    #[test]
    fn a_parent_is_read_and_told_as_it_came() {
        let parent: TraceParent = GOOD.parse().unwrap();

        assert_eq!(parent.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.to_string(), GOOD);
    }

    #[test]
    fn what_is_no_parent_is_told_from_one() {
        for bad in [
            String::new(),
            "00".to_owned(),
            GOOD.to_uppercase(),
            with("0af", "0aF"),
            with("0af", "0ag"),
            with("0af", "+af"),
            with("00-", "ff-"),
            with("00-", "0-0"),
            with("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            with("b7ad6b7169203331", &"0".repeat(16)),
            with("-b7", "_b7"),
            with("-01", "-0g"),
            format!("{GOOD}-"),
            format!("{GOOD}-what"),
            format!("{GOOD}0"),
            GOOD[..54].to_owned(),
            format!("{}é", &GOOD[..54]),
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(NotATraceParent), "{bad}");
        }
    }

    #[test]
    fn of_a_later_version_is_taken_what_is_known_of_this_one() {
        for later in [with("00-", "cc-"), format!("{}-what-the-future-has", with("00-", "cc-"))] {
            assert_eq!(later.parse::<TraceParent>().unwrap().to_string(), GOOD, "{later}");
        }
        assert!(format!("{}.what", with("00-", "cc-")).parse::<TraceParent>().is_err());
    }

    #[test]
    fn of_the_flags_only_the_one_that_is_known_is_handed_on() {
        for (sent, told) in [("-ff", "-01"), ("-fe", "-00"), ("-00", "-00")] {
            assert_eq!(with("-01", sent).parse::<TraceParent>().unwrap().to_string(), with("-01", told));
        }
    }

    #[test]
    fn our_part_stays_in_the_trace_and_a_new_one_is_another() {
        let parent: TraceParent = GOOD.parse().unwrap();
        let (ours, other) = (parent.our_part(), TraceParent::begin());

        assert_eq!(ours.trace_id(), parent.trace_id());
        assert_ne!(ours, parent);
        assert_ne!(other.trace_id(), parent.trace_id());
        assert_eq!(other.to_string().parse(), Ok(other));
    }
}
