//! How single settings read: lengths of time, sizes, addresses, cron expressions.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use croner::Cron;
use longshore_jobs::model::upload::MAX_SIZE;
use url::Url;

use super::mistakes::Wrong;
use crate::http::notices::WebhookSecret;

/// Empty is `None`.
pub(super) fn optional<T>(text: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Result<Option<T>, Wrong> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// `250ms`, `2s`, `1h30m`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, Wrong> {
    duration_of(text)
        .ok_or_else(|| Wrong::new("is not a length of time", "write for example 250ms, 2s, 15m, 1h30m or 7d"))
}

/// `true` or `false`.
pub(super) fn truth(text: &str) -> Result<bool, Wrong> {
    text.parse().map_err(|_| Wrong::new("is neither true nor false", "write true or false"))
}

/// A second or more.
pub(super) fn some_duration(text: &str) -> Result<Duration, Wrong> {
    let length = duration(text)?;
    if length < Duration::from_secs(1) {
        return Err(Wrong::new("is too short", "write 1s or more"));
    }
    Ok(length)
}

fn duration_of(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, Duration::ZERO);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, behind) = leading_number(rest)?;
        let letters = behind.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(behind.len());
        let millis = match &behind[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = behind[letters..].trim_start();
    }
    Some(total).filter(|total| *total <= Duration::from_secs(3650 * 86_400))
}

/// `1000`, `64KiB`, `1MiB`, `5GB`: bytes.
pub(crate) fn size(text: &str) -> Result<u64, Wrong> {
    size_of(text).ok_or_else(|| Wrong::new("is not a size", "write for example 1000, 64KiB, 1MiB or 5GB"))
}

fn size_of(text: &str) -> Option<u64> {
    let (number, unit) = leading_number(text)?;
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

/// At most what one form post may carry.
pub(super) fn object_size(text: &str) -> Result<i64, Wrong> {
    let bytes = i64::try_from(size(text)?).unwrap_or(i64::MAX);
    if !(1..=MAX_SIZE).contains(&bytes) {
        return Err(Wrong::new("is out of range", "write 1 to 5GB: one S3 form post carries no more"));
    }
    Ok(bytes)
}

/// What is held in memory for one request.
pub(super) fn body_size(text: &str) -> Result<usize, Wrong> {
    let bytes = usize::try_from(size(text)?).unwrap_or(usize::MAX);
    if !(1 << 10..=1 << 30).contains(&bytes) {
        return Err(Wrong::new("is out of range", "write 1KiB to 1GiB"));
    }
    Ok(bytes)
}

/// How many at once.
pub(super) fn count(text: &str) -> Result<usize, Wrong> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err(Wrong::new("is not a number of jobs", "write 1 to 10000")),
    }
}

/// How many connections at once.
pub(super) fn connections(text: &str) -> Result<usize, Wrong> {
    match text.parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err(Wrong::new("is not a number of connections", "write 1 to 1000000")),
    }
}

/// How many connections to a database at once.
pub(super) fn pool_size(text: &str) -> Result<u32, Wrong> {
    match text.parse() {
        Ok(number @ 2..=1_000) => Ok(number),
        _ => Err(Wrong::new("is not a number of connections", "write 2 to 1000")),
    }
}

/// How many long polls at once.
pub(super) fn receivers(text: &str) -> Result<usize, Wrong> {
    match text.parse() {
        Ok(number @ 1..=64) => Ok(number),
        _ => Err(Wrong::new("is not a number of receivers", "write 1 to 64")),
    }
}

/// What SQS lets a request wait.
pub(super) fn long_poll(text: &str) -> Result<Duration, Wrong> {
    Some(duration(text)?)
        .filter(|length| (1..=20).contains(&length.as_secs()))
        .ok_or_else(|| Wrong::new("is out of range", "write 1s to 20s"))
}

/// What SQS allows, down to what handing over a batch may take.
pub(super) fn visibility(text: &str) -> Result<Duration, Wrong> {
    Some(duration(text)?)
        .filter(|length| (30..=43_200).contains(&length.as_secs()))
        .ok_or_else(|| Wrong::new("is out of range", "write 30s to 12h"))
}

/// Bytes of memory.
pub(super) fn memory(text: &str) -> Result<usize, Wrong> {
    let bytes = usize::try_from(size(text)?).unwrap_or(usize::MAX);
    if !(16 << 20..=1 << 40).contains(&bytes) {
        return Err(Wrong::new("is out of range", "write 16MiB to 1024GiB"));
    }
    Ok(bytes)
}

/// One of some words.
pub(super) fn word(text: &str, words: &[&'static str]) -> Result<&'static str, Wrong> {
    let known = words.iter().find(|word| **word == text);
    known.copied().ok_or_else(|| Wrong::new("is not one of the words for it", format!("write {}", words.join(" or "))))
}

/// What keys begin with: nothing that a pattern or a separator could mistake.
pub(super) fn key_prefix(text: &str) -> Result<String, Wrong> {
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if fits {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new("is not a prefix", "write letters, digits, - _ and . alone"))
    }
}

/// What senders of notices have to show.
pub(super) fn webhook_secret(text: &str) -> Result<WebhookSecret, Wrong> {
    let hint = format!("write at least {} characters", WebhookSecret::SHORTEST);
    WebhookSecret::new(text).ok_or_else(|| Wrong::new("is too short", hint))
}

pub(super) fn path(text: &str) -> Result<PathBuf, Wrong> {
    if text.is_empty() { Err(Wrong::new("is empty", "name a folder")) } else { Ok(text.into()) }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| Wrong::new("is not an address", "write an IP address and a port, as 127.0.0.1:8080"))
}

pub(super) fn public_url(text: &str) -> Result<Url, Wrong> {
    let wrong = || Wrong::new("is not a URL that a client can use", "write for example https://uploads.example.com");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let plain =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain { Ok(url) } else { Err(wrong()) }
}

pub(super) fn cron(text: &str) -> Result<Cron, Wrong> {
    let hint = "write five fields as `0 3 * * *`, or six with seconds first as `*/10 * * * * *`, or never";
    text.parse().map_err(|error| Wrong::new(format!("is not a cron expression ({error})"), hint))
}

/// A region of AWS, or whatever another server calls its own: `eu-west-1`, `garage`.
pub(crate) fn region(text: &str) -> Result<String, Wrong> {
    let is_region = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_region { Ok(text.to_owned()) } else { Err(Wrong::new("is not a region", "write for example eu-west-1")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_read_as_people_write_them() {
        for (text, millis) in
            [("0s", 0), ("250ms", 250), ("2s", 2_000), ("15m", 900_000), ("1h30m", 5_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "s", "1w", "-1s", "1.5h", "99999999999999999999s", "9999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(some_duration("999ms").is_err());
    }

    #[test]
    fn sizes_know_both_families_of_units() {
        for (text, bytes) in [("0", 0), ("1000", 1_000), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("5GB", 5_000_000_000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GB", "5 elephants", "1.5GB", "-1", "99999999999GB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(object_size("6GB").is_err() && object_size("0").is_err());
    }

    #[test]
    fn cron_expressions_have_five_fields_or_six() {
        assert!(cron("0 3 * * *").is_ok() && cron("*/10 * * * * *").is_ok());
        assert!(cron("hourly").is_err() && cron("61 * * * *").is_err());
    }

    #[test]
    fn a_public_url_is_one_that_clients_can_reach() {
        assert!(public_url("https://uploads.example.com").is_ok() && public_url("http://h:1/under").is_ok());
        for text in ["uploads.example.com", "ftp://h", "http://", "https://h/?a=b"] {
            assert!(public_url(text).is_err(), "{text}");
        }
    }
}
