//! The policy document: an expiration and a list of conditions, read strictly.
//!
//! Source: "POST Policy" in the Amazon S3 API reference.

use std::fmt;
use std::ops::RangeInclusive;

use chrono::DateTime;
use serde_json::Value;

use super::super::Timestamp;
use super::super::upload::MAX_SIZE;
use super::refusal::Refusal;

/// A policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When it ends.
    pub expiration: Timestamp,
    /// What each field must be.
    pub conditions: Vec<Condition>,
    /// How many bytes; at most what one POST can carry.
    pub sizes: RangeInclusive<i64>,
}

/// What one field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its name in lower case.
    pub field: String,
    /// Against what it is held.
    pub test: Test,
}

/// How a field is held against its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// It is exactly this.
    Eq(String),
    /// It starts with this, which may be empty.
    StartsWith(String),
}

impl Policy {
    /// Reads a document, strictly: what is not understood could have been a restriction.
    pub fn parse(text: &[u8]) -> Result<Self, Refusal> {
        let document: Value = serde_json::from_slice(text).map_err(|_| invalid("it is not JSON"))?;
        let members = document.as_object().ok_or_else(|| invalid("it is not an object"))?;
        if let Some(name) = members.keys().find(|name| !["expiration", "conditions"].contains(&name.as_str())) {
            return Err(invalid(&format!("unexpected: '{name}'")));
        }
        let expiration = members.get("expiration").and_then(Value::as_str).and_then(parse_time);
        let expiration = expiration.ok_or_else(|| invalid("it has no valid expiration"))?;
        let conditions = members.get("conditions").and_then(Value::as_array);
        let mut policy = Self { expiration, conditions: Vec::new(), sizes: 0..=MAX_SIZE };
        for condition in conditions.ok_or_else(|| invalid("it has no list of conditions"))? {
            policy.add(condition)?;
        }
        Ok(policy)
    }

    fn add(&mut self, condition: &Value) -> Result<(), Refusal> {
        let broken = || invalid(&format!("invalid condition: {condition}"));
        match condition {
            Value::Object(exact) if !exact.is_empty() => {
                for (field, value) in exact {
                    self.require(field, Test::Eq(value.as_str().ok_or_else(broken)?.to_owned()));
                }
                Ok(())
            }
            Value::Array(parts) => match parts.as_slice() {
                [Value::String(op), min, max] if op.eq_ignore_ascii_case("content-length-range") => {
                    let bounds = integer(min).zip(integer(max)).filter(|(min, max)| (0..=*max).contains(min));
                    self.narrow(bounds.ok_or_else(broken)?);
                    Ok(())
                }
                [Value::String(op), Value::String(field), Value::String(value)] => {
                    let field = field.strip_prefix('$').ok_or_else(broken)?;
                    self.require(field, test(op, value).ok_or_else(broken)?);
                    Ok(())
                }
                _ => Err(broken()),
            },
            _ => Err(broken()),
        }
    }

    fn require(&mut self, field: &str, test: Test) {
        self.conditions.push(Condition { field: field.to_ascii_lowercase(), test });
    }

    fn narrow(&mut self, (min, max): (i64, i64)) {
        self.sizes = min.max(*self.sizes.start())..=max.min(*self.sizes.end());
    }

    /// Whether there is a condition on a field, by its name in lower case.
    #[must_use]
    pub fn names(&self, field: &str) -> bool {
        self.conditions.iter().any(|condition| condition.field == field)
    }
}

impl Test {
    /// Whether a field's value passes.
    #[must_use]
    pub fn holds(&self, value: &str) -> bool {
        match self {
            Self::Eq(exact) => value == exact,
            Self::StartsWith(prefix) => value.starts_with(prefix),
        }
    }
}

/// As it stands in a document.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, value) = match &self.test {
            Test::Eq(exact) => ("eq", exact),
            Test::StartsWith(prefix) => ("starts-with", prefix),
        };
        write!(f, "[{op:?}, \"${}\", {value:?}]", self.field)
    }
}

fn test(op: &str, value: &str) -> Option<Test> {
    match op.to_ascii_lowercase().as_str() {
        "eq" => Some(Test::Eq(value.to_owned())),
        "starts-with" => Some(Test::StartsWith(value.to_owned())),
        _ => None,
    }
}

/// S3 takes numbers in quotes too.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn parse_time(text: &str) -> Option<Timestamp> {
    Some(Timestamp::from_millis(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis()))
}

fn invalid(what: &str) -> Refusal {
    Refusal::InvalidPolicy(what.to_owned())
}
