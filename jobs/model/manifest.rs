//! Manifests: the lines that GNU coreutils' `sha256sum` prints, and takes back with `--check`.
//!
//! A line is `DIGEST␠␠NAME`, `DIGEST␠*NAME` for a file that was read as binary, or with `--tag` `SHA256 (NAME) = DIGEST`. Where
//! the name holds a backslash or a line's end, these are escaped and the line begins with a backslash of its own. Source: the
//! manual of coreutils, "md5sum invocation".

use super::Digest;

/// The most lines that a manifest may have.
pub const MOST_LINES: usize = super::batch::MOST_FILES as usize;
/// The most bytes that it may have.
pub const MOST_BYTES: usize = 64 << 20;
/// The most bytes of one line: the longest name with all of it escaped, and room to spare.
const LONGEST_LINE: usize = 4096;

const TAG: &str = "SHA256 (";
const HEX: usize = 64;

/// One file and what its bytes hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1, as an editor counts.
    pub number: usize,
    /// Relative, without a leading `./`.
    pub path: String,
    /// Of the bytes.
    pub sha256: Digest,
}

/// A line that will not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Line {number}: {fault}")]
pub struct BadLine {
    /// From 1.
    pub number: usize,
    /// Why, as a sentence without its end.
    pub fault: String,
}

impl BadLine {
    /// That line, for this reason.
    pub fn new(number: usize, fault: impl Into<String>) -> Self {
        Self { number, fault: fault.into() }
    }
}

/// Reads a manifest chunk by chunk, in whatever pieces it comes, and keeps no more than one unfinished line.
#[derive(Debug, Default)]
pub struct Reader {
    unfinished: Vec<u8>,
    lines: usize,
}

impl Reader {
    /// The lines that the chunk has completed. Empty ones and those that begin with `#` are skipped, as `sha256sum` does.
    pub fn read(&mut self, chunk: &[u8]) -> Result<Vec<Line>, BadLine> {
        let (mut found, mut rest) = (Vec::new(), chunk);
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.keep(&rest[..end])?;
            found.extend(self.complete()?);
            rest = &rest[end + 1..];
        }
        self.keep(rest)?;
        Ok(found)
    }

    /// The last line, which may lack its end.
    pub fn finish(mut self) -> Result<Option<Line>, BadLine> {
        if self.unfinished.is_empty() { Ok(None) } else { self.complete() }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), BadLine> {
        if self.unfinished.len() + bytes.len() > LONGEST_LINE {
            return Err(BadLine::new(self.lines + 1, format!("has more than {LONGEST_LINE} bytes")));
        }
        self.unfinished.extend_from_slice(bytes);
        Ok(())
    }

    fn complete(&mut self) -> Result<Option<Line>, BadLine> {
        self.lines += 1;
        let (number, bytes) = (self.lines, std::mem::take(&mut self.unfinished));
        let text = std::str::from_utf8(&bytes).map_err(|_| BadLine::new(number, "is not UTF-8"))?;
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text };
        // Of a file that was saved with the line ends of Windows: a name that ends so is escaped.
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() || text.starts_with('#') {
            return Ok(None);
        }
        let (path, sha256) = parse(text).map_err(|fault| BadLine::new(number, fault))?;
        Ok(Some(Line { number, path, sha256 }))
    }
}

const SHAPE: &str = "is not as `sha256sum` prints it: 64 hexadecimal digits, two spaces, a file's name";

fn parse(line: &str) -> Result<(String, Digest), &'static str> {
    let (escaped, line) = line.strip_prefix('\\').map_or((false, line), |rest| (true, rest));
    let (digest, name) = tagged(line).or_else(|| plain(line)).ok_or(SHAPE)?;
    let sha256 = digest.parse().map_err(|_| SHAPE)?;
    let name = if escaped { unescape(name)? } else { name.to_owned() };
    let mut path = name.as_str();
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    Ok((path.to_owned(), sha256))
}

/// `SHA256 (NAME) = DIGEST`. The name may hold what stands behind it.
fn tagged(line: &str) -> Option<(&str, &str)> {
    let (name, digest) = line.strip_prefix(TAG)?.rsplit_once(") = ")?;
    (digest.len() == HEX).then_some((digest, name))
}

/// `DIGEST␠␠NAME` or `DIGEST␠*NAME`.
fn plain(line: &str) -> Option<(&str, &str)> {
    let (digest, rest) = line.split_at_checked(HEX)?;
    let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *"))?;
    (!name.is_empty()).then_some((digest, name))
}

fn unescape(name: &str) -> Result<String, &'static str> {
    let (mut plain, mut letters) = (String::with_capacity(name.len()), name.chars());
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => match letters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('r') => '\r',
                _ => return Err("escapes something that needs no escape"),
            },
            letter => letter,
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    fn read(text: &[u8], piece: usize) -> Result<Vec<Line>, BadLine> {
        let (mut reader, mut lines) = (Reader::default(), Vec::new());
        for chunk in text.chunks(piece) {
            lines.extend(reader.read(chunk)?);
        }
        lines.extend(reader.finish()?);
        Ok(lines)
    }

    fn line(number: usize, path: &str, bytes: &[u8]) -> Line {
        Line { number, path: path.to_owned(), sha256: Digest::of(bytes) }
    }

    fn fault(text: &str) -> BadLine {
        read(text.as_bytes(), 7).unwrap_err()
    }

    /// Names that a file system takes and a careless reader does not.
    const NASTY: &[&str] = &[
        "plain.txt",
        " leading",
        "trailing ",
        "  two",
        "*starred",
        "a b  c",
        "наряд 🎉.png",
        "back\\slash",
        "\\",
        "\\n",
        "new\nline",
        "\n",
        "carriage\rreturn",
        "ends\r",
        "a) = b",
        "SHA256 (x) = y",
        "(",
        "quote\"'`$x",
        "#comment",
        "-dash",
        "tab\tbed",
        "a\\\nb\r\\n",
        "ё",
        "%41+",
        "...",
        "\u{1}\u{7f}",
        "\u{feff}bom",
    ];

    #[test]
    fn whatever_sha256sum_prints_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        for name in NASTY {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let mut names: Vec<String> = NASTY.iter().map(|name| (*name).to_owned()).collect();
        // Every pair of letters that mean something somewhere.
        for one in "\\\n\r *()=#nr.".chars() {
            for two in "\\\n\r *()=#nr".chars() {
                let name = format!("{one}{two}");
                fs::write(folder.path().join(&name), &name).unwrap();
                names.push(name);
            }
        }
        for flags in [&["--text"][..], &["--binary"], &["--tag"]] {
            let printed = Command::new("sha256sum")
                .args(flags)
                .arg("--")
                .args(names.iter().map(|name| format!("./{name}")))
                .current_dir(folder.path())
                .output()
                .unwrap();
            assert!(printed.status.success(), "{}", String::from_utf8_lossy(&printed.stderr));

            for piece in [1, 5, 64, 1 << 20] {
                let lines = read(&printed.stdout, piece).unwrap();

                let expected: Vec<Line> =
                    (1..).zip(&names).map(|(number, name)| line(number, name, name.as_bytes())).collect();
                assert_eq!(lines, expected, "{flags:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn blank_lines_comments_and_other_line_ends_are_no_lines_but_counted() {
        let digest = Digest::of(b"a").to_hex();
        let text = format!("\u{feff}# of my shirts\r\n\r\n{digest}  ././a/b.txt\r\n\n{}  last", digest.to_uppercase());

        let lines = read(text.as_bytes(), 3).unwrap();

        assert_eq!(lines, [line(3, "a/b.txt", b"a"), line(5, "last", b"a")]);
        assert_eq!(read(b"", 1).unwrap(), []);
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let digest = Digest::of(b"a").to_hex();
        for bad in [
            "nonsense".to_owned(),
            digest.clone(),
            format!("{digest}  "),
            format!("{digest} name"),
            format!("{}  name", &digest[1..]),
            format!("{}g  name", &digest[1..]),
            format!("0{digest}  name"),
            format!("SHA256 (name) = {}", &digest[1..]),
            format!("SHA512 (name) = {digest}"),
            format!("\\{digest}  odd\\escape"),
            format!("\\{digest}  open\\"),
            "é".repeat(40),
        ] {
            assert_eq!(fault(&format!("{digest}  good\n{bad}\n")).number, 2, "{bad}");
        }
        assert!(read(b"\xff\n", 1).unwrap_err().fault.contains("UTF-8"));
        assert_eq!(fault(&"x".repeat(LONGEST_LINE + 1)).number, 1);
    }
}
