//! The lines of a batch, each read by the very code that reads `POST /api/uploads`, and kept as the ledger keeps them.

use std::collections::HashMap;

use longshore_jobs::issue_batch::CHUNK;
use longshore_jobs::model::batch::MOST_LINES;
use longshore_jobs::model::{Digest, Line};
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::body::Fields;
use super::super::errors::ApiError;
use super::super::uploads::request::Asked;

/// What one line may have.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of its text.
    pub longest: usize,
    /// Bytes of the file.
    pub max_size: i64,
}

/// Lines whose every field will do.
#[derive(Debug, Default)]
pub struct Lines {
    /// How many.
    pub count: usize,
    /// Their chunks: JSON lists, in their order.
    pub chunks: Vec<String>,
    /// What is claimed of the bytes of those that claim both.
    pub claims: Vec<Claim>,
}

/// A line that declares both a hash and a size.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Its number.
    pub line: usize,
    /// The hash.
    pub sha256: Digest,
    /// Bytes.
    pub size: i64,
}

impl Lines {
    /// Of a text with one object a line; blank lines are skipped, but counted.
    pub fn of_text(text: &[u8], bounds: Bounds) -> Result<Self, ApiError> {
        let numbered = (1..).zip(text.split(|byte| *byte == b'\n'));
        let blank = |line: &[u8]| line.iter().all(u8::is_ascii_whitespace);
        Reader::new(bounds).read_all(numbered.filter(|(_, line)| !blank(line)))
    }

    /// Of the entries of a list.
    pub fn of_list(entries: &[&RawValue], bounds: Bounds) -> Result<Self, ApiError> {
        Reader::new(bounds).read_all((1..).zip(entries.iter().map(|entry| entry.get().as_bytes())))
    }
}

/// The refusal of a line.
pub fn refusal(line: usize, error: ApiError) -> ApiError {
    let fault = match error {
        ApiError::Unprocessable { field, fault } => format!("field `{field}` {fault}"),
        other => other.to_string(),
    };
    ApiError::UnprocessableLine { line, fault }
}

struct Reader {
    bounds: Bounds,
    lines: Lines,
    /// The lines of the chunk that is being filled.
    chunk: Vec<Line>,
    /// In which line each `ref` stands.
    refs: HashMap<String, usize>,
}

impl Reader {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, lines: Lines::default(), chunk: Vec::new(), refs: HashMap::new() }
    }

    fn read_all<'t>(mut self, lines: impl Iterator<Item = (usize, &'t [u8])>) -> Result<Lines, ApiError> {
        for (number, text) in lines {
            if self.lines.count == MOST_LINES {
                return Err(wrong_count());
            }
            self.add(number, text).map_err(|error| refusal(number, error))?;
        }
        if self.lines.count == 0 {
            return Err(wrong_count());
        }
        self.end_chunk()?;
        Ok(self.lines)
    }

    fn add(&mut self, number: usize, text: &[u8]) -> Result<(), ApiError> {
        let line = Asked::read(fields(text, self.bounds.longest)?, self.bounds.max_size)?.into_line();
        self.note_ref(number, &line)?;
        if let (Some(sha256), Some(size)) = (line.sha256, line.size) {
            self.lines.claims.push(Claim { line: number, sha256, size });
        }
        self.lines.count += 1;
        self.chunk.push(line);
        if self.chunk.len() == CHUNK { self.end_chunk() } else { Ok(()) }
    }

    fn note_ref(&mut self, number: usize, line: &Line) -> Result<(), ApiError> {
        let Some(client_ref) = line.client_ref.clone() else { return Ok(()) };
        match self.refs.insert(client_ref, number) {
            None => Ok(()),
            Some(first) => {
                let fault = format!("must not be the same as in line {first}");
                Err(ApiError::Unprocessable { field: "ref".to_owned(), fault })
            }
        }
    }

    fn end_chunk(&mut self) -> Result<(), ApiError> {
        if !self.chunk.is_empty() {
            let kept = serde_json::to_string(&self.chunk).map_err(|error| ApiError::Internal(error.into()))?;
            self.lines.chunks.push(kept);
            self.chunk.clear();
        }
        Ok(())
    }
}

fn wrong_count() -> ApiError {
    let fault = format!("must be 1 to {MOST_LINES} lines");
    ApiError::Unprocessable { field: "uploads".to_owned(), fault }
}

fn fields(text: &[u8], longest: usize) -> Result<Fields, ApiError> {
    if text.len() > longest {
        return Err(ApiError::PayloadTooLarge(format!("it may have {longest} bytes at most")));
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(left)) => Ok(Fields::of(left)),
        Ok(_) => Err(ApiError::BadRequest("it must be a JSON object".to_owned())),
        Err(error) => Err(ApiError::BadRequest(format!("it is not valid JSON: {error}"))),
    }
}
