//! `Stormwheel-Producer` and `Stormwheel-Sequence`: a request that is repeated takes effect once.

use super::app::Exchange;
use crate::wire::problem::{Problem, kinds};
use http::HeaderValue;
use stormwheel::namespace::is_identifier;
use stormwheel::runtime::Batch;

/// The name of who sends.
pub(super) const PRODUCER_HEADER: &str = "Stormwheel-Producer";
/// The number of the request among those of its producer.
pub(super) const SEQUENCE_HEADER: &str = "Stormwheel-Sequence";

/// Both headers as they were sent.
#[derive(Debug, Default)]
pub(super) struct ProducerHeaders<'a> {
    name: Option<&'a HeaderValue>,
    sequence: Option<&'a HeaderValue>,
    is_repeated: bool,
}

impl<'a> ProducerHeaders<'a> {
    /// Takes a header in, if it is one of them.
    pub(super) fn take(&mut self, name: &str, value: &'a HeaderValue) {
        let place = match name {
            "stormwheel-producer" => &mut self.name,
            "stormwheel-sequence" => &mut self.sequence,
            _ => return,
        };
        self.is_repeated |= place.replace(value).is_some();
    }

    /// Refuses them where they would not be kept, and where they are not what they should be.
    pub(super) fn check(&self, is_kept: bool) -> Result<(), Problem> {
        if self.name.is_none() && self.sequence.is_none() {
            return Ok(());
        }
        if !is_kept {
            let detail = format!(
                "{PRODUCER_HEADER} and {SEQUENCE_HEADER} are kept for operations on timers, \
                 elements and broadcasts only, and nothing was done; this call is harmless to repeat without them"
            );
            let problem = Problem::new(&kinds::UNSUPPORTED_HEADER, detail);
            return Err(problem.field(PRODUCER_HEADER));
        }
        self.read().map(drop)
    }

    /// Who sends, and which request it is.
    pub(super) fn read(&self) -> Result<Option<(&'a str, u64)>, Problem> {
        let (name, sequence) = match (self.name, self.sequence) {
            (None, None) => return Ok(None),
            (Some(name), Some(sequence)) => (name, sequence),
            (None, Some(_)) => return Err(missing(PRODUCER_HEADER, SEQUENCE_HEADER)),
            (Some(_), None) => return Err(missing(SEQUENCE_HEADER, PRODUCER_HEADER)),
        };
        if self.is_repeated {
            let detail = format!("{PRODUCER_HEADER} and {SEQUENCE_HEADER} stand once each");
            return Err(Problem::new(&kinds::INVALID_FIELD, detail).field(PRODUCER_HEADER));
        }
        let Some(name) = name.to_str().ok().filter(|name| is_identifier(name)) else {
            let detail = format!("{PRODUCER_HEADER} must be [A-Za-z0-9][A-Za-z0-9._-]{{0,127}}");
            return Err(Problem::new(&kinds::INVALID_NAME, detail).field(PRODUCER_HEADER));
        };
        let digits = sequence.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let Some(sequence) = digits.and_then(|digits| digits.parse().ok()) else {
            let detail = format!(
                "{SEQUENCE_HEADER} must be a whole number from 0 to {}, larger than that of the \
                 producer's request before",
                u64::MAX
            );
            return Err(Problem::new(&kinds::INVALID_FIELD, detail).field(SEQUENCE_HEADER));
        };
        Ok(Some((name, sequence)))
    }
}

fn missing(header: &str, other: &str) -> Problem {
    let detail = format!("{other} stands without {header}; say both, or none");
    Problem::new(&kinds::MISSING_FIELD, detail).field(header)
}

impl Exchange<'_> {
    /// Says to a batch what the request says of all its operations: who sends them, and when they
    /// are to be answered.
    pub(super) fn mark(&self, batch: &mut Batch) -> Result<(), Problem> {
        batch.ack(self.ack());
        if let Some((name, sequence)) = self.head.producer.read()? {
            batch.producer(name, sequence);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &'static str)], expected: Result<Option<(&str, u64)>, &str>) {
        let values: Vec<_> =
            pairs.iter().map(|(name, value)| (*name, HeaderValue::from_static(value))).collect();
        let mut headers = ProducerHeaders::default();
        for (name, value) in &values {
            headers.take(name, value);
        }
        let found = headers.read().map_err(|problem| problem.field.unwrap_or_default());
        assert_eq!(found.as_ref().map_err(String::as_str), expected.as_ref().map_err(|text| *text));
        assert_eq!(headers.check(true).is_ok(), expected.is_ok());
        assert_eq!(headers.check(false).is_ok(), pairs.is_empty());
    }

    #[test]
    fn both_or_none_and_each_as_it_should_be() {
        const NAME: &str = "stormwheel-producer";
        const SEQUENCE: &str = "stormwheel-sequence";
        check(&[], Ok(None));
        check(&[(NAME, "a.b-1"), (SEQUENCE, "7")], Ok(Some(("a.b-1", 7))));
        check(&[(NAME, "a"), (SEQUENCE, "18446744073709551615")], Ok(Some(("a", u64::MAX))));
        check(&[(NAME, "a")], Err(SEQUENCE_HEADER));
        check(&[(SEQUENCE, "7")], Err(PRODUCER_HEADER));
        check(&[(NAME, "-a"), (SEQUENCE, "7")], Err(PRODUCER_HEADER));
        check(&[(NAME, ""), (SEQUENCE, "7")], Err(PRODUCER_HEADER));
        for bad in ["", "-1", "+1", "1.5", "x", "18446744073709551616", " 7"] {
            check(&[(NAME, "a"), (SEQUENCE, bad)], Err(SEQUENCE_HEADER));
        }
        check(&[(NAME, "a"), (SEQUENCE, "7"), (SEQUENCE, "8")], Err(PRODUCER_HEADER));
    }
}
