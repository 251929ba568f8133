//! Batches of operations, one JSON object a line; results alike.
//!
//! A line that is wrong gets its own error and harms no other. A good line costs no allocation, a
//! bad one little (see [`super::failures`]).

use super::failures::{ERRORS_TOLD_MAX, Failures};
use super::fields::{FieldSet, Fields, Place, read, scan};
use super::json::push_int;
use super::op::{with_op, write_applied};
use super::problem::{Problem, kinds};
use super::time::TimeFormat;
use memchr::memchr_iter;
use stormwheel::error::Rejection;
use stormwheel::limits::PAYLOAD_BYTES_MAX;
use stormwheel::namespace::NamespaceConfig;
use stormwheel::op::{Op, Outcome};
use stormwheel::runtime::Batch;

/// Bytes of one line. A longer one is an error in its place.
pub const LINE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + (64 << 10);
/// Lines of one batch that are not blank. The next one is an error, and the rest is not read.
pub const LINES_MAX: usize = 1 << 18;

/// Where checked operations go.
pub trait Sink {
    /// Takes an operation in, or says why not.
    fn push(&mut self, op: &Op<'_>) -> Result<(), Rejection>;
}

impl Sink for Batch {
    fn push(&mut self, op: &Op<'_>) -> Result<(), Rejection> {
        Batch::push(self, op)
    }
}

/// What became of each line before it went to the shards.
#[derive(Debug, Default)]
pub struct Lines {
    /// Lines that were not blank.
    pub(super) count: usize,
    pub(super) failures: Failures,
}

/// The answer to a batch.
#[derive(Debug)]
pub struct Rendered {
    /// One line for each line of the request that was not blank.
    pub body: Vec<u8>,
    /// Lines that failed.
    pub failed: u64,
    /// Every operation was refused by load (429 or 507, and when to try again).
    pub all_refused: Option<Problem>,
}

/// Parses a body and pushes what is good into the batch.
pub fn push_lines(body: &[u8], config: &NamespaceConfig, sink: &mut impl Sink) -> Lines {
    each_line(body, |line| {
        let fields = line.fields(FieldSet::OPERATION)?;
        with_op(&fields, config, |op| sink.push(op))
    })
}

/// One line that is not blank, without the space around it.
pub(super) struct Line<'a> {
    bytes: &'a [u8],
    /// The same, if all of the body is UTF-8.
    text: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// What it says, if it says no more than these fields.
    #[inline]
    pub(super) fn fields(&self, known: FieldSet) -> Result<Fields<'a>, Problem> {
        let Self { bytes, text } = self;
        if bytes.len() > LINE_BYTES_MAX {
            let actual = bytes.len();
            let detail = format!("the line has {actual} bytes, allowed are {LINE_BYTES_MAX}");
            return Err(Problem::new(&kinds::LINE_TOO_LONG, detail)
                .bound(LINE_BYTES_MAX as u64, actual as u64));
        }
        match text.and_then(|text| scan(text, known)) {
            Some(fields) => Ok(fields),
            None => read(bytes, known, Place::Line),
        }
    }
}

/// Hands each line of a body that is not blank on, and keeps what is said to be wrong with it.
pub(super) fn each_line<'a>(
    body: &'a [u8],
    mut push: impl FnMut(Line<'a>) -> Result<(), Problem>,
) -> Lines {
    // Checked once for the whole body, so that no text in it has to be checked again.
    let text = std::str::from_utf8(body).ok();
    let mut lines = Lines::default();
    let mut start = 0;
    for end in memchr_iter(b'\n', body).chain([body.len()]) {
        let line = start..end;
        start = end + 1;
        let bytes = body[line.clone()].trim_ascii();
        if bytes.is_empty() {
            continue;
        }
        if lines.count == LINES_MAX {
            lines.failures.push(lines.count, too_many_lines(&body[line.start..]));
            lines.count += 1;
            break;
        }
        // A newline is one byte of UTF-8, so a line of a text is a text.
        let text = text.map(|text| text[line].trim_ascii());
        if let Err(problem) = push(Line { bytes, text }) {
            lines.failures.push(lines.count, problem);
        }
        lines.count += 1;
    }
    lines
}

fn too_many_lines(rest: &[u8]) -> Problem {
    let lines =
        rest.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    let detail = format!(
        "a batch holds {LINES_MAX} lines at most; the {lines} from here on were not carried out"
    );
    Problem::new(&kinds::TOO_MANY_OPERATIONS, detail)
        .bound(LINES_MAX as u64, (LINES_MAX + lines) as u64)
}

impl Lines {
    /// Puts the outcomes (in the order of the pushes) beside the lines that failed before.
    pub fn render(&self, outcomes: &[Outcome], times: TimeFormat) -> Rendered {
        let mut body = Vec::with_capacity(self.count * 64);
        let mut failed = 0;
        let mut told = 0;
        self.failures.beside(self.count, outcomes, |index, result| {
            body.extend_from_slice(b"{\"index\":");
            push_int(&mut body, index);
            body.push(b',');
            match result {
                Ok(applied) => write_applied(&mut body, applied, times),
                Err(failure) => {
                    failed += 1;
                    body.extend_from_slice(b"\"error\":");
                    failure.write(&mut body, told < ERRORS_TOLD_MAX);
                    told += 1;
                }
            }
            body.extend_from_slice(b"}\n");
        });
        Rendered { body, failed, all_refused: self.failures.refused_by_load(outcomes) }
    }
}

#[cfg(test)]
pub(crate) mod tests;
