//! What a run of elements showed, as a table for a person and as JSON for a script.

use super::seen::ElementsVerdict;
use super::{Elements, Findings, is_load};
use crate::bench::report::{Quantiles, closing_lines, group_thousands, per_second, value_name};
use crate::bench::tally::ErrorCount;
use crate::cli::table;
use serde::Serialize;
use std::collections::BTreeMap;

/// One run's findings.
#[derive(Debug, Serialize)]
pub(crate) struct ElementsReport {
    pub(crate) workload: &'static str,
    pub(crate) format: String,
    pub(crate) connections: u16,
    pub(crate) batch: u32,
    pub(crate) keys: u64,
    pub(crate) requests: u64,
    /// Elements that were taken.
    pub(crate) elements: u64,
    pub(crate) seconds: f64,
    pub(crate) elements_per_second: f64,
    pub(crate) results: BTreeMap<String, u64>,
    pub(crate) request_latency: Quantiles,
    /// By status.
    pub(crate) errors: BTreeMap<u16, ErrorCount>,
    pub(crate) verification: ElementsVerdict,
    /// What keeps the run from being a success, in words.
    pub(crate) faults: Vec<String>,
    /// Processor time of this process, all threads.
    pub(crate) cpu_seconds: f64,
}

impl ElementsReport {
    /// Draws the findings together.
    pub(super) fn new(plan: &Elements, found: &Findings) -> Self {
        let (sent, verification) = (&found.sent, found.seen.verdict());
        let mut faults = Vec::new();
        if !verification.ok {
            faults.push(format!("verification failed: {}", verification.examples.join("; ")));
        }
        for (status, ErrorCount { operations, example }) in &sent.errors {
            if !is_load(*status) {
                faults.push(format!("{operations} elements failed ({status}): {example}"));
            }
        }
        if let Some(why) = &sent.broken {
            faults.push(format!("the sending broke off: {why}"));
        }
        if let Some(why) = &found.seen.broken {
            faults.push(format!("the stream of outputs broke off: {why}"));
        }
        let elements = sent.results.values().sum();
        Self {
            workload: "elements",
            format: value_name(&plan.format),
            connections: plan.connections,
            batch: plan.batch,
            keys: plan.keys,
            requests: sent.requests,
            elements,
            seconds: sent.seconds,
            elements_per_second: per_second(elements, sent.seconds),
            results: sent.results.clone(),
            request_latency: Quantiles::new(&sent.latency_ns, 1e-6),
            errors: sent.errors.clone(),
            verification,
            faults,
            cpu_seconds: found.cpu_seconds,
        }
    }

    /// Whether everything held. Refusals by load are the server's right: they were sent again.
    pub(crate) fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }

    /// The table for a person.
    pub(crate) fn to_text(&self) -> String {
        let Self { format, batch, connections, .. } = self;
        let results = self.results.iter();
        let results: Vec<String> = results
            .map(|(result, count)| format!("{result} {}", group_thousands(*count)))
            .collect();
        let mut lines = vec![
            format!(
                "elements · {format} of {batch} · closed loop · {connections} connections · {} keys",
                group_thousands(self.keys)
            ),
            String::new(),
            format!(
                "elements    {:>12}  in {:.3} s  {:>12}/s  {}",
                group_thousands(self.elements),
                self.seconds,
                group_thousands(self.elements_per_second as u64),
                results.join(", ")
            ),
            format!("processor   {:.2} s of this process", self.cpu_seconds),
            String::new(),
            table(
                &["ms", "count", "p50", "p90", "p99", "p99.9", "max"],
                &[self.request_latency.row("request latency")],
            ),
            String::new(),
        ];
        lines.extend(closing_lines(&self.errors, self.verification.to_text(), &self.faults));
        lines.join("\n")
    }
}

impl ElementsVerdict {
    /// In a line, for a person.
    fn to_text(&self) -> String {
        let expected = group_thousands(self.expected);
        if self.ok {
            return format!(
                "verified    the first element of each of {expected} keys came out once, no other"
            );
        }
        let Self { missing, repeated, wrong, unknown, .. } = self;
        format!(
            "verified    of {expected} keys {missing} missing, {repeated} repeated, {wrong} with \
             another element, {unknown} lines unknown"
        )
    }
}
