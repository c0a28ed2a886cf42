//! What a bench shows: the settings it ran with, and each figure beside what was aimed at; for people, or as JSON for scripts.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// A table of figures.
#[derive(Default, Serialize)]
pub(crate) struct Figures {
    settings: Vec<Setting>,
    figures: Vec<Figure>,
}

#[derive(Serialize)]
struct Setting {
    name: &'static str,
    value: String,
}

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Figure {
    /// For scripts: stays when the words change.
    name: String,
    what: String,
    #[serde(flatten)]
    value: Value,
    #[serde(skip_serializing_if = "String::is_empty")]
    aim: String,
}

/// A number and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "unit", content = "value", rename_all = "snake_case")]
pub(crate) enum Value {
    /// Things in a second.
    PerSecond(f64),
    /// A length of time.
    Milliseconds(f64),
    /// Millions of bytes in a second.
    MegabytesPerSecond(f64),
    /// A share of a hundred.
    Percent(f64),
    /// How many times another figure.
    Times(f64),
    /// 2^20 bytes.
    Mebibytes(f64),
    /// Things.
    Count(u64),
}

#[expect(clippy::cast_precision_loss, reason = "figures are for reading")]
impl Value {
    /// So many in that time.
    pub(crate) fn rate(count: u64, took: Duration) -> Self {
        Self::PerSecond(count as f64 / took.as_secs_f64())
    }

    /// So many bytes in that time.
    pub(crate) fn throughput(bytes: u64, took: Duration) -> Self {
        Self::MegabytesPerSecond(bytes as f64 / 1e6 / took.as_secs_f64())
    }

    /// A length of time.
    pub(crate) fn delay(length: Duration) -> Self {
        Self::Milliseconds(length.as_secs_f64() * 1e3)
    }

    /// So many bytes.
    pub(crate) fn memory(bytes: u64) -> Self {
        Self::Mebibytes(bytes as f64 / f64::from(1 << 20))
    }
}

impl Figures {
    /// Says what the figures were measured with.
    pub(crate) fn set(&mut self, name: &'static str, value: impl fmt::Display) {
        self.settings.push(Setting { name, value: value.to_string() });
    }

    /// A line more; `name` is for scripts, `what` for people.
    pub(crate) fn add(&mut self, name: impl Into<String>, what: impl Into<String>, value: Value) -> &mut Figure {
        self.figures.push(Figure { name: name.into(), what: what.into(), value, aim: String::new() });
        self.figures.last_mut().expect("it was pushed just now")
    }

    /// As JSON, on one line.
    pub(crate) fn to_json(&self) -> String {
        let json = serde_json::to_string(self).expect("figures are texts and numbers");
        format!("{json}\n")
    }
}

impl Figure {
    /// What it should be.
    pub(crate) fn aim(&mut self, aim: impl Into<String>) {
        self.aim = aim.into();
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => write!(f, "{rate:.0} /s"),
            Self::Milliseconds(length) => write!(f, "{length:.2} ms"),
            Self::MegabytesPerSecond(rate) => write!(f, "{rate:.0} MB/s"),
            Self::Percent(share) => write!(f, "{share:.1} %"),
            Self::Times(times) => write!(f, "{times:.2} x"),
            Self::Mebibytes(size) => write!(f, "{size:.1} MiB"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Setting { name, value } in &self.settings {
            writeln!(f, "with {name}: {value}")?;
        }
        let values: Vec<String> = self.figures.iter().map(|figure| figure.value.to_string()).collect();
        let first = self.figures.iter().map(|figure| figure.what.chars().count()).max().unwrap_or(0);
        let second = values.iter().map(String::len).max().unwrap_or(0);
        for (Figure { what, aim, .. }, value) in self.figures.iter().zip(&values) {
            let aim = if aim.is_empty() { String::new() } else { format!("   aim {aim}") };
            writeln!(f, "{what:<first$}  {value:>second$}{aim}")?;
        }
        Ok(())
    }
}

/// The value below which this share of them lies; zero where there are none.
pub(super) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place in a list of some thousands"
    )]
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_read_the_same_to_people_and_to_scripts() {
        let mut figures = Figures::default();
        figures.set("slots", 7);
        figures.add("drained_20", "drained, 20 jobs", Value::rate(20, Duration::from_secs(2))).aim("9");
        figures.add("delay_p50", "push to start", Value::delay(Duration::from_micros(1_500)));

        assert_eq!(
            figures.to_string(),
            "with slots: 7\ndrained, 20 jobs    10 /s   aim 9\npush to start     1.50 ms\n"
        );
        let read: serde_json::Value = serde_json::from_str(&figures.to_json()).unwrap();
        let drained = json!({ "name": "drained_20", "what": "drained, 20 jobs", "unit": "per_second", "value": 10.0, "aim": "9" });
        assert_eq!(read["figures"][0], drained);
        assert_eq!(read["settings"][0], json!({ "name": "slots", "value": "7" }));
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let hundred: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&hundred, 0.5), Duration::from_millis(51));
        assert_eq!(percentile(&hundred, 0.99), Duration::from_millis(100));
        assert_eq!(percentile(&hundred, 1.0), Duration::from_millis(100));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
