//! Errors in a line.

/// An error and its causes in one line.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outside::QueueError;

    #[test]
    fn causes_are_told_in_one_line_and_once() {
        let error = QueueError { count: 2, source: "disk full".into() };
        assert_eq!(with_causes(&error), "push 2 jobs onto the queue: disk full");
    }
}
