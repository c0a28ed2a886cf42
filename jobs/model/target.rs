//! What an upload is for: an order or a style, known by its number.

use serde::{Deserialize, Serialize};

use super::words;

/// The longest number in bytes.
pub const MAX_NUMBER: usize = 128;

words! {
    /// The two kinds of things that files belong to.
    TargetKind, "a target's kind" {
        /// A customer's order.
        Order = "order",
        /// A style of the catalogue.
        Style = "style",
    }
}

/// An order or a style number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Order or style.
    pub kind: TargetKind,
    /// The number as the client writes it, for example `A-100`: 1 to 128 bytes, no control characters.
    pub number: String,
}

impl Target {
    /// Why this number will not do; `None` when it will.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        if self.number.trim().is_empty() {
            return Some("must not be empty");
        }
        if self.number.len() > MAX_NUMBER {
            return Some("must be at most 128 bytes long");
        }
        self.number.chars().any(char::is_control).then_some("must not hold control characters")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_kind_is_refused_with_the_kinds_named() {
        let error = serde_json::from_str::<Target>(r#"{"kind":"invoice","number":"1"}"#).unwrap_err();
        assert!(error.to_string().contains("order, style"), "{error}");
    }

    #[test]
    fn numbers_are_short_and_printable() {
        let target = |number: &str| Target { kind: TargetKind::Order, number: number.to_owned() };
        assert_eq!(target("A-100").fault(), None);
        for bad in [" ", "", "a\0b", &"9".repeat(129)] {
            assert!(target(bad).fault().is_some(), "{bad:?}");
        }
    }
}
