//! Reads what the server answered to each operation into the promises and the counts.

use super::connection::Answer;
use super::ledger::Promises;
use super::plan::{Format, Plan, Unit, Verb};
use super::scan::{Fields, integer};
use serde::Deserialize;
use std::collections::BTreeMap;
use stormwheel::op::ResultKind;

/// The results of api.md, in the order of the counts.
pub(crate) const RESULTS: [&str; ResultKind::ALL.len()] = {
    let mut words = [""; ResultKind::ALL.len()];
    let mut index = 0;
    while index < words.len() {
        words[index] = ResultKind::ALL[index].as_str();
        index += 1;
    }
    words
};
const CANCELLED: usize = ResultKind::Cancelled as usize;
const ABSENT: usize = ResultKind::Absent as usize;

/// Errors of one status.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ErrorCount {
    pub(crate) operations: u64,
    /// The first one's words.
    pub(crate) example: String,
}

/// All answers of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) promises: Promises,
    pub(crate) results: [u64; RESULTS.len()],
    /// By status; 0 stands for answers that never came.
    pub(crate) errors: BTreeMap<u16, ErrorCount>,
    pub(crate) requests: u64,
    /// Operations that succeeded.
    pub(crate) operations: u64,
}

/// The fields of a problem that matter here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    title: String,
    detail: String,
    pub(crate) retry_after_ms: Option<u64>,
}

/// The answer to an Arrow batch, and to elements.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Summary {
    pub(crate) results: BTreeMap<String, u64>,
    pub(crate) failed: u64,
    pub(crate) errors: Vec<RowError>,
    errors_omitted: u64,
}

/// One refused row.
#[derive(Debug, Deserialize)]
pub(crate) struct RowError {
    index: u64,
    pub(crate) error: Option<Problem>,
}

impl Tally {
    /// Nothing answered yet.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            promises: Promises::new(plan),
            results: [0; RESULTS.len()],
            errors: BTreeMap::new(),
            requests: 0,
            operations: 0,
        }
    }

    /// Reads the answer to one step of a unit. Returns how long the server asks to wait.
    pub(crate) fn enter(
        &mut self,
        format: Format,
        unit: &Unit,
        verb: Verb,
        answer: &Answer<'_>,
    ) -> Option<u64> {
        self.requests += 1;
        if !(200..300).contains(&answer.status) {
            return self.enter_refusal(unit, verb, answer);
        }
        match format {
            Format::Ndjson | Format::Single => self.enter_lines(unit, verb, answer.body),
            Format::Arrow => self.enter_summary(unit, verb, answer.body),
        }
        None
    }

    /// The answer never came: nobody knows what became of these operations.
    pub(crate) fn enter_lost(&mut self, operations: u64, why: &str) {
        self.requests += 1;
        self.count_errors(0, operations, || why.to_owned());
    }

    /// A refusal of the whole request; it may carry the lines of the operations.
    fn enter_refusal(&mut self, unit: &Unit, verb: Verb, answer: &Answer<'_>) -> Option<u64> {
        let problem = find_problem(answer.body).unwrap_or_default();
        let numbers: Vec<u64> = row_numbers(unit, verb).collect();
        self.count_errors(answer.status, numbers.len() as u64, || problem.words());
        if verb != Verb::Delete {
            for number in numbers {
                self.promises.refused.set(number);
            }
        }
        problem.retry_after_ms
    }

    fn enter_lines(&mut self, unit: &Unit, verb: Verb, body: &[u8]) {
        let mut ends = memchr::memchr_iter(b'\n', body).chain([body.len()]);
        let mut begin = 0;
        for (row, number) in row_numbers(unit, verb).enumerate() {
            let line = loop {
                let Some(end) = ends.next() else { break None };
                let line = &body[begin..end];
                begin = body.len().min(end + 1);
                if !line.is_empty() {
                    break Some(line);
                }
            };
            match line {
                Some(line) => self.enter_line(number, verb, line),
                None => self.count_errors(0, 1, || {
                    format!("operation {row} of a batch got no result line")
                }),
            }
        }
    }

    fn enter_line(&mut self, number: u64, verb: Verb, line: &[u8]) {
        let mut result = None;
        for (name, value) in Fields::new(line) {
            match name {
                b"result" => {
                    result = result_index(value);
                    if verb != Verb::Delete {
                        break;
                    }
                }
                b"cancelled" if integer(value) == Some(0) => result = Some(ABSENT),
                b"cancelled" => result = Some(CANCELLED),
                b"error" => return self.enter_row_error(number, verb, value),
                _ => {}
            }
        }
        match result {
            Some(result) => self.enter_result(number, result),
            None => self.count_errors(0, 1, || {
                format!("a result line without result: {}", String::from_utf8_lossy(line))
            }),
        }
    }

    fn enter_row_error(&mut self, number: u64, verb: Verb, problem: &[u8]) {
        let problem: Problem = serde_json::from_slice(problem).unwrap_or_default();
        self.count_errors(problem.status, 1, || problem.words());
        if verb != Verb::Delete {
            self.promises.refused.set(number);
        }
    }

    fn enter_result(&mut self, number: u64, result: usize) {
        self.results[result] += 1;
        self.operations += 1;
        if result == CANCELLED {
            self.promises.cancelled.set(number);
        } else if result != ABSENT {
            self.promises.acknowledged.set(number);
        }
    }

    /// A summary tells how many, not which; it tells which when all or few are of one kind.
    fn enter_summary(&mut self, unit: &Unit, verb: Verb, body: &[u8]) {
        let summary: Summary = match serde_json::from_slice(body) {
            Ok(summary) => summary,
            Err(error) => {
                let rows = row_numbers(unit, verb).count() as u64;
                return self.count_errors(0, rows, || format!("unreadable summary: {error}"));
            }
        };
        for (result, count) in &summary.results {
            if let Some(index) = RESULTS.iter().position(|known| known == result) {
                self.results[index] += count;
                self.operations += count;
            }
        }
        let failed_rows: Vec<u64> = summary.errors.iter().map(|error| error.index).collect();
        for error in summary.errors {
            let problem = error.error.unwrap_or_default();
            self.count_errors(problem.status, 1, || problem.words());
        }
        if summary.errors_omitted > 0 {
            // Which rows the others were is not told: neither promised nor refused.
            let omitted = || "beyond the errors that the answer lists".to_owned();
            self.count_errors(0, summary.errors_omitted, omitted);
            return;
        }
        let is_all_cancelled = summary.failed == 0 && !summary.results.contains_key("absent");
        for (row, number) in row_numbers(unit, verb).enumerate() {
            let is_failed = !failed_rows.is_empty() && failed_rows.contains(&(row as u64));
            if verb == Verb::Delete {
                if is_all_cancelled {
                    self.promises.cancelled.set(number);
                }
            } else if is_failed {
                self.promises.refused.set(number);
            } else {
                self.promises.acknowledged.set(number);
            }
        }
    }

    fn count_errors(&mut self, status: u16, operations: u64, words: impl FnOnce() -> String) {
        self.errors
            .entry(status)
            .or_insert_with(|| ErrorCount { operations: 0, example: words() })
            .operations += operations;
    }
}

impl Problem {
    pub(crate) fn words(&self) -> String {
        let words = if self.detail.is_empty() { &self.title } else { &self.detail };
        if words.is_empty() { "no explanation".to_owned() } else { words.clone() }
    }
}

/// What a refusal says: a problem by itself, in the first result line, or in a summary.
pub(crate) fn find_problem(body: &[u8]) -> Option<Problem> {
    let first = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let in_line = serde_json::from_slice::<RowError>(first).ok().and_then(|row| row.error);
    let in_summary = || {
        let row = serde_json::from_slice::<Summary>(body).ok()?.errors.into_iter().next()?;
        row.error
    };
    in_line.or_else(in_summary).or_else(|| serde_json::from_slice(body).ok())
}

/// The timers of a request's rows, in order.
fn row_numbers(unit: &Unit, verb: Verb) -> impl Iterator<Item = u64> + use<> {
    unit.numbers().filter(move |number| verb != Verb::Delete || !Plan::is_spared(*number))
}

fn result_index(value: &[u8]) -> Option<usize> {
    // The common ones first; comparing slices of known length costs a few instructions.
    RESULTS.iter().position(|result| {
        value.len() == result.len() + 2 && &value[1..value.len() - 1] == result.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Workload, tests::plan};
    use super::*;

    /// Enters one answer to the first unit of ten timers.
    fn check(format: Format, verb: Verb, status: u16, body: &str) -> (Tally, Option<u64>) {
        let plan = plan(Workload::Cancel, 10, 10, 10);
        let mut tally = Tally::new(&plan);
        let answer = Answer { status, body: body.as_bytes() };
        let wait = tally.enter(format, &plan.unit(0), verb, &answer);
        (tally, wait)
    }

    fn created(indexes: std::ops::Range<u64>) -> String {
        let line = |index| format!("{{\"index\":{index},\"result\":\"created\",\"fire_at\":17}}\n");
        indexes.map(line).collect::<Vec<_>>().concat()
    }

    #[test]
    fn lines_of_created_timers_are_promises() {
        let (tally, _) = check(Format::Ndjson, Verb::Register, 200, &created(0..10));
        assert_eq!((tally.operations, tally.results[0]), (10, 10));
        assert_eq!(tally.promises.expected(), 10);
        assert!(tally.errors.is_empty());
    }

    #[test]
    fn a_line_with_an_error_refuses_its_timer_only() {
        let body = created(0..4)
            + r#"{"index":4,"error":{"type":"/problems/x","title":"T","status":429,"detail":"full"}}"#
            + "\n"
            + &created(5..10);
        let (tally, _) = check(Format::Ndjson, Verb::Register, 200, &body);
        assert_eq!((tally.promises.expected(), tally.promises.refused.count()), (9, 1));
        let expected = ErrorCount { operations: 1, example: "full".to_owned() };
        assert_eq!(tally.errors[&429], expected);
    }

    #[test]
    fn a_missing_line_is_an_error() {
        let (tally, _) = check(Format::Ndjson, Verb::Register, 200, &created(0..8));
        assert_eq!((tally.promises.expected(), tally.errors[&0].operations), (8, 2));
    }

    #[test]
    fn only_cancelled_one_promises_silence() {
        let line = |i| format!("{{\"index\":{i},\"result\":\"cancelled\",\"cancelled\":1}}\n");
        let mut body = (0..8).map(line).collect::<Vec<_>>().concat();
        body += "{\"index\":8,\"result\":\"absent\",\"cancelled\":0}\n";
        let (tally, _) = check(Format::Ndjson, Verb::Delete, 200, &body);
        assert_eq!(tally.promises.cancelled.count(), 8);
        assert_eq!((tally.results[CANCELLED], tally.results[ABSENT]), (8, 1));
    }

    #[test]
    fn a_single_answer_is_one_line() {
        let plan = plan(Workload::Uniform, 3, 3, 1);
        let mut tally = Tally::new(&plan);
        let body =
            br#"{"key":"timer-000000001","domain":"processing","fire_at":5,"result":"created"}"#;
        let answer = Answer { status: 201, body };
        tally.enter(Format::Single, &plan.unit(1), Verb::Register, &answer);
        assert_eq!((tally.promises.expected(), tally.results[0]), (1, 1));
    }

    #[test]
    fn a_refused_request_refuses_all_and_tells_when_to_come_back() {
        let body = r#"{"type":"/problems/x","title":"T","status":429,"detail":"full","retry_after_ms":40}"#;
        let (tally, wait) = check(Format::Ndjson, Verb::Register, 429, body);
        assert_eq!((tally.promises.refused.count(), wait), (10, Some(40)));
        assert_eq!(tally.errors[&429].operations, 10);
        let lines = r#"{"index":0,"error":{"status":429,"detail":"busy","retry_after_ms":7}}"#;
        let (tally, wait) =
            check(Format::Ndjson, Verb::Register, 429, &format!("{lines}\n{lines}\n"));
        assert_eq!((tally.errors[&429].example.as_str(), wait), ("busy", Some(7)));
        let summary = format!(r#"{{"rows":1,"results":{{}},"failed":1,"errors":[{lines}]}}"#);
        let (tally, wait) = check(Format::Arrow, Verb::Register, 429, &summary);
        assert_eq!((tally.errors[&429].example.as_str(), wait), ("busy", Some(7)));
    }

    #[test]
    fn summaries() {
        let good =
            r#"{"rows":10,"results":{"created":10},"failed":0,"errors":[],"errors_omitted":0}"#;
        let (tally, _) = check(Format::Arrow, Verb::Register, 200, good);
        assert_eq!((tally.promises.expected(), tally.operations), (10, 10));
        let bad = r#"{"rows":10,"results":{"created":9},"failed":1,"errors_omitted":0,
                      "errors":[{"index":3,"error":{"status":400,"detail":"no"}}]}"#;
        let (tally, _) = check(Format::Arrow, Verb::Register, 200, bad);
        assert_eq!((tally.promises.expected(), tally.promises.refused.count()), (9, 1));
        let many =
            r#"{"rows":10,"results":{"created":4},"failed":6,"errors_omitted":6,"errors":[]}"#;
        let (tally, _) = check(Format::Arrow, Verb::Register, 200, many);
        assert_eq!((tally.promises.expected(), tally.errors[&0].operations), (0, 6));
        let gone =
            r#"{"rows":9,"results":{"cancelled":9},"failed":0,"errors":[],"errors_omitted":0}"#;
        let (tally, _) = check(Format::Arrow, Verb::Delete, 200, gone);
        assert_eq!(tally.promises.cancelled.count(), 9);
    }
}
