//! What a run found, as a table for a person and as JSON for a script.

use super::consumer::Consumed;
use super::ledger::{Verdict, verify};
use super::plan::{Plan, Workload};
use super::probe::Probed;
use super::producer::Produced;
use super::tally::{ErrorCount, RESULTS};
use crate::cli::table;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;

/// Quantiles of a histogram, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
}

impl Quantiles {
    /// Of a histogram whose unit is so many milliseconds.
    pub(crate) fn new(histogram: &Histogram<u64>, unit_ms: f64) -> Self {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 * unit_ms;
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 * unit_ms,
        }
    }

    /// As a row of a table.
    pub(crate) fn row(&self, name: &str) -> Vec<String> {
        let values = [self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms];
        let mut row = vec![name.to_owned(), self.count.to_string()];
        if self.count == 0 {
            row.extend(values.map(|_| "-".to_owned()));
        } else {
            row.extend(values.map(|value| format!("{value:.3}")));
        }
        row
    }
}

/// One run's findings.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) workload: String,
    pub(crate) format: String,
    /// `open` with the rate, or `closed`.
    pub(crate) rate: Option<f64>,
    pub(crate) connections: u16,
    pub(crate) batch: u32,
    pub(crate) seed: u64,
    pub(crate) requests: u64,
    /// Operations that succeeded.
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    pub(crate) operations_per_second: f64,
    pub(crate) results: BTreeMap<&'static str, u64>,
    pub(crate) fires: u64,
    pub(crate) fires_per_second: f64,
    /// From the intended instant to the answer, by request.
    pub(crate) request_latency: Quantiles,
    /// From `fire_at` to the reading of the line.
    pub(crate) fire_lateness: Quantiles,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) probe_latency: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bystander_lateness: Option<Quantiles>,
    /// By status; 0 stands for answers that never came.
    pub(crate) errors: BTreeMap<u16, ErrorCount>,
    pub(crate) verification: Verdict,
    /// What keeps the run from being a success, in words.
    pub(crate) faults: Vec<String>,
    /// Processor time of this process, all threads.
    pub(crate) cpu_seconds: f64,
}

/// What a storm's side shows found.
#[derive(Debug)]
pub(crate) struct Aside {
    pub(crate) probed: Option<Probed>,
    pub(crate) bystander: Option<(Produced, Consumed)>,
}

impl Report {
    /// Draws the findings together.
    pub(crate) fn new(
        plan: &Plan,
        produced: &Produced,
        consumed: &Consumed,
        aside: &Aside,
        cpu_seconds: f64,
    ) -> Self {
        let verification = verify(&produced.tally.promises, &consumed.fires);
        let fire_seconds = match (consumed.first_us, consumed.last_us) {
            (Some(first), Some(last)) => (last - first).max(1) as f64 / 1e6,
            _ => f64::INFINITY,
        };
        let mut report = Self {
            workload: value_name(&plan.workload),
            format: value_name(&plan.format),
            rate: plan.rate,
            connections: plan.connections,
            batch: plan.batch,
            seed: plan.seed,
            requests: produced.tally.requests,
            operations: produced.tally.operations,
            seconds: produced.seconds,
            operations_per_second: per_second(produced.tally.operations, produced.seconds),
            results: RESULTS
                .into_iter()
                .zip(produced.tally.results)
                .filter(|(_, count)| *count > 0)
                .collect(),
            fires: consumed.fires.count,
            fires_per_second: per_second(consumed.fires.count, fire_seconds),
            request_latency: Quantiles::new(&produced.latency_ns, 1e-6),
            fire_lateness: Quantiles::new(&consumed.lateness_us, 1e-3),
            probe_latency: aside
                .probed
                .as_ref()
                .map(|probed| Quantiles::new(&probed.latency_ns, 1e-6)),
            bystander_lateness: aside
                .bystander
                .as_ref()
                .map(|(_, consumed)| Quantiles::new(&consumed.lateness_us, 1e-3)),
            errors: produced.tally.errors.clone(),
            verification,
            faults: Vec::new(),
            cpu_seconds,
        };
        report.find_faults("", produced, consumed);
        if let Some((produced, consumed)) = &aside.bystander {
            report.find_faults("bystander: ", produced, consumed);
        }
        if let Some(probed) = aside.probed.as_ref().filter(|probed| probed.failed > 0) {
            let why = probed.example.as_deref().unwrap_or_default();
            report.faults.push(format!("{} probes failed, the first with {why}", probed.failed));
        }
        report
    }

    /// Whether everything held. Refusals by load (429, 503, 507) are the server's right.
    pub(crate) fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }

    fn find_faults(&mut self, whose: &str, produced: &Produced, consumed: &Consumed) {
        let verdict = verify(&produced.tally.promises, &consumed.fires);
        let mut fault = |text: String| self.faults.push(format!("{whose}{text}"));
        if !verdict.ok {
            fault(format!("verification failed: {}", verdict.examples.join("; ")));
        }
        if produced.tally.operations == 0 {
            fault("no operation succeeded".to_owned());
        }
        for (status, errors) in &produced.tally.errors {
            if !matches!(status, 429 | 503 | 507) {
                let ErrorCount { operations, example } = errors;
                fault(format!("{operations} operations failed ({status}): {example}"));
            }
        }
        if let Some(why) = &produced.broken {
            fault(format!("the sending broke off: {why}"));
        }
        if let Some(why) = &consumed.broken {
            fault(format!("the stream of outputs broke off: {why}"));
        }
    }

    /// The table for a person.
    pub(crate) fn to_text(&self) -> String {
        let loop_kind = self.rate.map_or_else(
            || "closed loop".to_owned(),
            |rate| format!("open loop at {} timers/s", group_thousands(rate.round() as u64)),
        );
        let batch =
            if self.format == "single" { String::new() } else { format!(" of {}", self.batch) };
        let mut lines = vec![
            format!(
                "{} · {}{batch} · {loop_kind} · {} connections · seed {}",
                self.workload, self.format, self.connections, self.seed
            ),
            String::new(),
            format!(
                "operations  {:>12}  in {:.3} s  {:>12}/s  {}",
                group_thousands(self.operations),
                self.seconds,
                group_thousands(self.operations_per_second as u64),
                self.results_text()
            ),
            format!(
                "fires       {:>12}  at {}/s",
                group_thousands(self.fires),
                group_thousands(self.fires_per_second as u64)
            ),
            format!("processor   {:.2} s of this process", self.cpu_seconds),
            String::new(),
            self.quantiles_table(),
            String::new(),
        ];
        lines.extend(closing_lines(&self.errors, self.verification.to_text(), &self.faults));
        lines.join("\n")
    }

    fn results_text(&self) -> String {
        let parts: Vec<String> = self
            .results
            .iter()
            .map(|(result, count)| format!("{result} {}", group_thousands(*count)))
            .collect();
        parts.join(", ")
    }

    fn quantiles_table(&self) -> String {
        let mut rows = vec![
            self.request_latency.row("request latency"),
            self.fire_lateness.row("fire lateness"),
        ];
        if let Some(probe) = &self.probe_latency {
            rows.push(probe.row("probes in the storm"));
        }
        if let Some(bystander) = &self.bystander_lateness {
            rows.push(bystander.row("other namespace"));
        }
        table(&["ms", "count", "p50", "p90", "p99", "p99.9", "max"], &rows)
    }
}

/// What stands at the end of a report, for a person: errors by status, the verdict, and what failed.
pub(crate) fn closing_lines(
    errors: &BTreeMap<u16, ErrorCount>,
    verdict: String,
    faults: &[String],
) -> Vec<String> {
    let errors = errors.iter().map(|(status, ErrorCount { operations, example })| {
        format!("errors      {operations} with status {status}: {example}")
    });
    let faults = faults.iter().map(|fault| format!("FAILED      {fault}"));
    errors.chain([verdict]).chain(faults).collect()
}

pub(crate) fn value_name(value: &impl clap::ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// "1234567" as "1,234,567".
pub(crate) fn group_thousands(value: u64) -> String {
    indicatif::HumanCount(value).to_string()
}

impl Workload {
    /// As on the command line.
    pub(crate) fn title(self) -> String {
        value_name(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Fires;
    use super::super::plan::{Format, Verb, tests::plan};
    use super::super::tally::Tally;
    use super::super::{connection::Answer, due::DueTimes, latency_histogram};
    use super::*;

    /// The report of ten acknowledged timers of which `fired` fired, 2 ms late.
    fn report(fired: u64, errors: &[(u16, &str)]) -> Report {
        let plan = plan(Workload::Uniform, 10, 10, 10);
        let due = DueTimes::new(&plan, 1_767_225_600_000);
        due.note_sent(&plan.unit(0), 1_767_225_600_000);
        let mut tally = Tally::new(&plan);
        let body = "{\"index\":0,\"result\":\"created\"}\n".repeat(10);
        let answer = Answer { status: 200, body: body.as_bytes() };
        tally.enter(Format::Ndjson, &plan.unit(0), Verb::Register, &answer);
        for (status, example) in errors {
            let count = ErrorCount { operations: 3, example: (*example).to_owned() };
            tally.errors.insert(*status, count);
        }
        let mut fires = Fires::new(&plan);
        let mut lateness_us = latency_histogram();
        for number in 0..fired {
            let at = due.due_ms(number);
            let fire = super::super::ledger::FireLine { number, fire_at: at, fired_at: at };
            fires.enter(fire, at * 1000 + 2000, &due);
            lateness_us.saturating_record(2000);
        }
        let mut latency_ns = latency_histogram();
        latency_ns.saturating_record(1_500_000);
        let produced = Produced { tally, latency_ns, seconds: 0.5, broken: None };
        let consumed = Consumed {
            fires,
            lateness_us,
            first_us: Some(1_000_000),
            last_us: Some(3_000_000),
            broken: None,
        };
        Report::new(&plan, &produced, &consumed, &Aside { probed: None, bystander: None }, 0.25)
    }

    #[test]
    fn a_good_run_reads_well() {
        let report = report(10, &[]);
        assert!(report.is_ok());
        let text = report.to_text();
        let expected = [
            "uniform · ndjson of 10 · closed loop · 2 connections · seed 7",
            "10  in 0.500 s            20/s  created 10",
            "fires                 10  at 5/s",
            "ms               count  p50    p90    p99    p99.9  max",
            "request latency  1      1.50",
            "fire lateness    10     2.0",
            "verified    10 timers fired once each, none early, none missing",
        ];
        for part in expected {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        assert!(!text.contains("FAILED"));
    }

    #[test]
    fn a_missing_timer_fails_the_run_and_is_named() {
        let report = report(9, &[]);
        assert!(!report.is_ok());
        let text = report.to_text();
        assert!(text.contains("of 10 timers 1 missing, 0 repeated"), "{text}");
        assert!(text.contains("FAILED      verification failed: timer 9 is missing"), "{text}");
    }

    #[test]
    fn refusals_by_load_are_told_but_no_fault_and_others_are() {
        let refused = report(10, &[(429, "the queue is full")]);
        assert!(refused.is_ok() && refused.to_text().contains("3 with status 429"));
        let wrong = report(10, &[(400, "no such field")]);
        assert!(!wrong.is_ok() && wrong.to_text().contains("no such field"));
    }

    #[test]
    fn json_has_the_figures() {
        let json = serde_json::to_value(report(10, &[])).unwrap();
        assert_eq!(json["operations"], 10);
        assert_eq!(json["verification"]["ok"], true);
        assert_eq!(json["fire_lateness"]["count"], 10);
        assert!(json.get("probe_latency").is_none());
    }
}
