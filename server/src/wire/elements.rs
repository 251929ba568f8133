//! Elements for a namespace's function: lines or rows in, one summary out.
//!
//! An element says `key`, `value`, `timestamp` and, for functions with more than one, `input`. A line
//! may say `watermark` instead: it keeps its place between the elements. What is wrong with a line is
//! the line's error and harms no other.

use super::failures::{Failure, Failures};
use super::fields::{Field, FieldSet, Fields, PayloadField, Place, read};
use super::ndjson::{Lines, Rendered, each_line};
use super::op::{contradiction, decode_base64, key_of, missing};
use super::problem::{Problem, kinds};
use super::summary::Errors;
use stormwheel::error::Rejection;
use stormwheel::op::{Action, Element, Op, Payload, ResultKind};
use stormwheel::time::Timestamp;

/// Where checked elements and watermarks go, in their order.
pub trait ElementSink {
    /// Takes an element in, or says why not.
    fn push(&mut self, op: &Op<'_>, timestamp: Timestamp) -> Result<(), Problem>;
    /// Takes a watermark in, or says why not.
    fn watermark(&mut self, to: Timestamp) -> Result<(), Problem>;
}

/// Reads elements into a sink.
#[derive(Debug)]
pub struct Intake<S> {
    /// Where they go.
    pub sink: S,
    /// What the timestamp of an element is that has none; `None`: nobody has asked yet.
    untimed: Option<Result<Timestamp, Problem>>,
    /// An element without one was met, and what follows was not read.
    asks: bool,
}

/// What became of each line or row before it went to the shards.
#[derive(Debug)]
pub struct Elements {
    count: usize,
    failures: Failures,
}

/// What came of a line or row that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It was an element.
    Element(ResultKind),
    /// It was a watermark, and moved its source or was behind it.
    Watermark,
}

impl<S: ElementSink> Intake<S> {
    /// Begins. `untimed` is what elements without a timestamp get, or the problem that they are.
    pub fn new(sink: S, untimed: Option<Result<Timestamp, Problem>>) -> Self {
        Self { sink, untimed, asks: false }
    }

    /// Reads a body, a line an element. `None`: one of them has no timestamp, and `untimed` has to
    /// be known first; what was read is void.
    pub fn read_lines(&mut self, body: &[u8]) -> Option<Elements> {
        let Lines { count, failures } = each_line(body, |line| {
            if self.asks {
                return Ok(());
            }
            self.take(&line.fields(FieldSet::ELEMENT)?)
        });
        self.read(count, failures)
    }

    /// What was read, if it is of use.
    pub(super) fn read(&self, count: usize, failures: Failures) -> Option<Elements> {
        (!self.asks).then_some(Elements { count, failures })
    }

    /// Takes one line or row in.
    #[inline]
    pub(super) fn take(&mut self, fields: &Fields<'_>) -> Result<(), Problem> {
        if self.asks {
            return Ok(());
        }
        if let Some(to) = fields.watermark {
            return match fields.given.first_beyond(FieldSet::of(&[Field::Watermark])) {
                None => self.sink.watermark(to),
                Some(other) => {
                    let detail = "a line with a `watermark` says nothing else";
                    Err(contradiction(other.as_str(), detail))
                }
            };
        }
        let key = key_of(fields, "every element needs a `key`")?;
        // What was decoded has to outlive the element made of it.
        let decoded;
        let value = match (fields.value, &fields.value_base64) {
            (Some(PayloadField::Json(json)), None) => Payload::Json(json.as_bytes()),
            (Some(PayloadField::Raw(bytes)), None) => Payload::Binary(bytes),
            (None, Some(text)) => {
                decoded = decode_base64(Field::ValueBase64, text)?;
                Payload::Binary(&decoded)
            }
            (Some(_), Some(_)) => {
                let detail = "say `value` or `value_base64`, not both";
                return Err(contradiction("value_base64", detail));
            }
            (None, None) => {
                let detail = "every element needs a `value`; it may be null";
                return Err(missing("value", detail));
            }
        };
        let timestamp = match (fields.timestamp, &self.untimed) {
            (Some(timestamp), _) => timestamp,
            (None, Some(Ok(now))) => *now,
            (None, Some(Err(problem))) => return Err(problem.clone()),
            (None, None) => {
                self.asks = true;
                return Ok(());
            }
        };
        let input = fields.input.unwrap_or(0);
        let element = Element { timestamp, input, value };
        self.sink.push(&Op { key: &key, action: Action::Element(element) }, timestamp)
    }
}

/// What a broadcast is, as it was written, and when it happened, from the body that brings it.
pub fn parse_broadcast(body: &[u8]) -> Result<(&str, Option<Timestamp>), Problem> {
    const BROADCAST: FieldSet = FieldSet::of(&[Field::Value, Field::Timestamp]);
    let fields = read(body, BROADCAST, Place::Body)?;
    let Some(PayloadField::Json(value)) = fields.value else {
        return Err(missing("value", "a broadcast needs a `value`; it may be null"));
    };
    Ok((value, fields.timestamp))
}

/// The problem of an element that was refused: what travels with it is called its value.
pub fn refused(rejection: Rejection) -> Problem {
    let mut problem = Problem::from(rejection);
    if problem.field.as_deref() == Some("payload") {
        problem.field = Some("value".to_owned());
        problem.detail = problem.detail.replacen("payload", "value", 1);
    }
    problem
}

impl Elements {
    /// Puts the outcomes (in the order in which they were taken) beside those that failed before.
    /// `watermark` is what became of the source, as JSON, if it was moved.
    pub fn render(
        &self,
        outcomes: &[Result<Told, Rejection>],
        watermark: Option<&str>,
    ) -> Rendered {
        let detail = "the function has failed at this element, which is passed over; the side \
                      output `errors` has it, and says why";
        let passed_over = Problem::new(&kinds::FUNCTION_FAILED, detail);
        let passed_over = Failure::Told(Box::new(passed_over));
        let (mut counts, mut watermarks) = ([0_u64; ResultKind::ALL.len()], 0);
        let mut errors = Errors::default();
        self.failures.beside(self.count, outcomes, |index, result| match result {
            Ok(Told::Element(ResultKind::Failed)) => errors.push(index, &passed_over),
            Ok(Told::Element(result)) => counts[*result as usize] += 1,
            Ok(Told::Watermark) => watermarks += 1,
            Err(failure) => errors.push(index, failure),
        });
        let results = ResultKind::ALL.map(ResultKind::as_str).into_iter().zip(counts);
        let results = results.chain([("watermark", watermarks)]);
        let mut more = format!(",\"late\":{}", counts[ResultKind::Late as usize]);
        if let Some(watermark) = watermark {
            more.push_str(",\"watermark\":");
            more.push_str(watermark);
        }
        let body = errors.summary(self.count, results, more.as_bytes());
        let all_refused = self.failures.refused_by_load(outcomes);
        Rendered { body, failed: errors.count, all_refused }
    }
}

#[cfg(test)]
pub(crate) mod tests;
