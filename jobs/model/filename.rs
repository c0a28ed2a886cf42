//! File names: kept as the client gave them, because they are shown and never become a path or a key.

/// The longest name in bytes.
pub const MAX: usize = 1024;

/// Why a name will not do; `None` when it will.
///
/// Slashes are fine (a folder's ingest keeps relative paths), but a segment that climbs, an absolute path of any system and
/// control characters are refused: whoever later writes the file to a disk should not have to think of them.
#[must_use]
pub fn fault(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        return Some("must not be empty");
    }
    if name.len() > MAX {
        return Some("must be at most 1024 bytes long");
    }
    if name.chars().any(char::is_control) {
        return Some("must not hold control characters");
    }
    if name.starts_with(['/', '\\']) || without_drive(name) != name {
        return Some("must be a relative path, without a drive");
    }
    if name.split(['/', '\\']).any(|segment| segment == ".." || segment == ".") {
        return Some("must be a relative path without `.` or `..`");
    }
    None
}

/// The name behind a Windows drive such as `C:`.
fn without_drive(name: &str) -> &str {
    match name.as_bytes() {
        [drive, b':', ..] if drive.is_ascii_alphabetic() => &name[2..],
        _ => name,
    }
}

/// The name of a form's part made acceptable: its last path segment (RFC 7578, section 4.2), without control characters,
/// cut to the longest length at a character's border; `unnamed` when nothing is left.
#[must_use]
pub fn from_form(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let printable: String = without_drive(last).chars().filter(|letter| !letter.is_control()).collect();
    let mut end = printable.len().min(MAX);
    while !printable.is_char_boundary(end) {
        end -= 1;
    }
    let name = printable[..end].trim();
    if fault(name).is_some() { "unnamed".to_owned() } else { name.to_owned() }
}

/// The extension with its dot, as `.jpg`; `None` for a name without one or a dot file.
#[must_use]
pub fn extension(name: &str) -> Option<&str> {
    let last = name.rsplit(['/', '\\']).next()?;
    let dot = last.rfind('.').filter(|&at| at > 0 && at + 1 < last.len())?;
    Some(&last[dot..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_climb_or_control_are_refused() {
        for good in ["a.jpg", "sub/dir/a.jpg", "наряд 🎉.png", "..a", "a..b", "12:30.txt", "ab:c", ":a", "é:a"]
        {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", "  ", "../a", "a/../b", "/etc/passwd", "a\\..\\b", "a\0b", "a\nb", &"x".repeat(1025)] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
        for bad in ["\\Windows\\a", "\\\\host\\share\\a", "C:\\a", "C:/a", "c:a", "Z:"] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn form_names_become_safe_last_segments() {
        assert_eq!(from_form("../../etc/passwd"), "passwd");
        assert_eq!(from_form("C:\\pictures\\me.png"), "me.png");
        assert_eq!(from_form("C:me.png"), "me.png");
        assert_eq!(from_form("a\0b.txt"), "ab.txt");
        assert_eq!(from_form("C:D:a"), "unnamed");
        assert_eq!(from_form(".."), "unnamed");
        assert_eq!(from_form(&"🎉".repeat(1024)).len(), MAX);
    }

    #[test]
    fn extensions_keep_their_dot() {
        assert_eq!(extension("MyPicture.jpg"), Some(".jpg"));
        assert_eq!(extension("a.tar.gz"), Some(".gz"));
        for none in ["README", ".profile", "dir.d/file", "dot."] {
            assert_eq!(extension(none), None, "{none}");
        }
    }
}
