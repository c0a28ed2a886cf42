//! The header by which a browser saves an object under its file's name instead of showing it.

use longshore_jobs::model::sigv4::encode;

/// `Content-Disposition` for a file name of any letters (RFC 6266, appendix D).
pub(super) fn attachment(filename: &str) -> String {
    let plain = |letter: char| letter.is_ascii_graphic() && !"\"\\%".contains(letter) || letter == ' ';
    let ascii: String = filename.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect();
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", encode(filename))
}
