//! The little XML that S3 speaks, written and read without a parser: requests come from clients of ours, which nest nothing.

pub(super) use crate::bucket::local::fault::{escape, xml as answer};

/// What stands within each element of that name that has no attributes, as it is written.
pub(super) fn elements<'a>(document: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = document;
    std::iter::from_fn(move || {
        let (_, behind) = rest.split_once(&open)?;
        let (within, behind) = behind.split_once(&close)?;
        rest = behind;
        Some(within)
    })
}

/// The text that was escaped; `None` where an entity is not known.
pub(super) fn unescape(text: &str) -> Option<String> {
    let mut pieces = text.split('&');
    let mut plain = pieces.next()?.to_owned();
    for piece in pieces {
        let (entity, behind) = piece.split_once(';')?;
        plain.push(letter(entity)?);
        plain.push_str(behind);
    }
    Some(plain)
}

fn letter(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_in_their_order() {
        let document = "<Delete xmlns=\"x\"><Object><Key>a</Key></Object><Object><Key>b&amp;c</Key></Object></Delete>";
        let keys: Vec<_> = elements(document, "Key").map(unescape).collect();
        assert_eq!(keys, [Some("a".to_owned()), Some("b&c".to_owned())]);
    }

    #[test]
    fn what_was_escaped_reads_back() {
        let text = "a<b>&\"c\"\u{e9}";
        assert_eq!(unescape(&escape(text)).as_deref(), Some(text));
        assert_eq!(unescape("&#13;&#x41;&apos;").as_deref(), Some("\rA'"));
        assert_eq!(unescape("a&nbsp;b"), None);
        assert_eq!(unescape("a & b"), None);
    }
}
