//! Relative paths of the files of a prefix batch: they are the end of an object's key, and become the file's name.

use super::filename;

/// The longest path in bytes: with what stands before it, a key stays well below the 1,024 bytes that S3 takes.
pub const MAX: usize = 700;
/// The longest segment in bytes: no usual file system takes a longer name.
const LONGEST_SEGMENT: usize = 255;

/// Why a path will not do; `None` when it will. What a [file name](filename::fault) may not be, a path may not be either.
#[must_use]
pub fn fault(path: &str) -> Option<&'static str> {
    if let Some(fault) = filename::fault(path) {
        return Some(fault);
    }
    if path.len() > MAX {
        return Some("must be at most 700 bytes long");
    }
    if path.contains('\\') {
        return Some("must not hold backslashes");
    }
    if path.split('/').any(str::is_empty) {
        return Some("must not begin or end with a slash, nor hold two in a row");
    }
    if path.split('/').any(|segment| segment.len() > LONGEST_SEGMENT) {
        return Some("must not have a segment of more than 255 bytes");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_climb_or_hide_are_refused() {
        let (long, longest) = ("x".repeat(255), format!("{0}/{0}/{1}", "x".repeat(255), "y".repeat(188)));
        assert_eq!(longest.len(), MAX);
        for good in ["a", "a/b/c.jpg", "наряд 🎉/ä.png", "..a/b..", "...", "a b/ c", &long, &longest] {
            assert_eq!(fault(good), None, "{good}");
        }
        let (segment, path) = ("x".repeat(256), format!("{longest}y"));
        for bad in [
            "", " ", ".", "..", "../a", "a/..", "a/../b", "./a", "a/./b", "/a", "a/", "a//b", "/", "a\\b", "\\a",
            "a\nb", "a\0b", "a\u{7f}", "C:/a", "c:a", &segment, &path,
        ] {
            assert!(fault(bad).is_some(), "{bad:?}");
        }
    }
}
