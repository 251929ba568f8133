//! What a crowd of namespaces showed, as a table for a person and as JSON for a script.

use super::crowd::{Crowd, Findings, Resident, TIMERS_EACH};
use super::ledger::Verdict;
use super::report::{Quantiles, group_thousands};
use super::tally::ErrorCount;
use crate::cli::table;
use serde::Serialize;
use std::collections::BTreeMap;

/// One run's findings.
#[derive(Debug, Serialize)]
pub(crate) struct CrowdReport {
    pub(crate) workload: &'static str,
    pub(crate) namespaces: u64,
    pub(crate) timers_each: u64,
    pub(crate) connections: u16,
    pub(crate) seed: u64,
    pub(crate) create_seconds: f64,
    pub(crate) register_seconds: f64,
    pub(crate) create_latency: Quantiles,
    pub(crate) register_latency: Quantiles,
    /// From `fire_at` to the reading of the line, of the timer that was due first of all.
    pub(crate) first_fire_lateness_ms: Option<f64>,
    /// The same, of all fires of the namespaces that were watched.
    pub(crate) watched_lateness: Quantiles,
    /// From `fire_at` to `fired_at`, of all fires.
    pub(crate) fire_lateness: Quantiles,
    /// Bytes of the server.
    pub(crate) resident: Resident,
    pub(crate) errors: BTreeMap<u16, ErrorCount>,
    pub(crate) verification: Verdict,
    /// What keeps the run from being a success, in words.
    pub(crate) faults: Vec<String>,
}

impl CrowdReport {
    /// Draws the findings together.
    pub(crate) fn new(crowd: &Crowd, found: &Findings) -> Self {
        let mut faults = Vec::new();
        if !found.verdict.ok {
            let examples = found.verdict.examples.join("; ");
            faults.push(format!("verification failed: {examples}"));
        }
        if found.watched.early > 0 {
            faults.push(format!("{} fires arrived before their time", found.watched.early));
        }
        if found.watched.first_us.is_none() {
            faults.push("the first fire was not seen on its stream".to_owned());
        }
        for (status, ErrorCount { operations, example }) in &found.errors {
            faults.push(format!("{operations} operations failed ({status}): {example}"));
        }
        Self {
            workload: "namespaces",
            namespaces: crowd.namespaces,
            timers_each: TIMERS_EACH,
            connections: crowd.connections,
            seed: crowd.seed,
            create_seconds: found.create.seconds,
            register_seconds: found.register.seconds,
            create_latency: Quantiles::new(&found.create.latency_ns, 1e-6),
            register_latency: Quantiles::new(&found.register.latency_ns, 1e-6),
            first_fire_lateness_ms: found.watched.first_us.map(|us| us as f64 / 1e3),
            watched_lateness: Quantiles::new(&found.watched.lateness_us, 1e-3),
            fire_lateness: Quantiles::new(&found.lateness_ms, 1.0),
            resident: found.resident,
            errors: found.errors.clone(),
            verification: found.verdict.clone(),
            faults,
        }
    }

    /// Whether everything held.
    pub(crate) fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }

    /// The table for a person.
    pub(crate) fn to_text(&self) -> String {
        let count = group_thousands(self.namespaces);
        let per_second =
            |seconds: f64| group_thousands((self.namespaces as f64 / seconds.max(1e-9)) as u64);
        let mut lines = vec![
            format!(
                "namespaces · {count} with {} timers each · {} connections · seed {}",
                self.timers_each, self.connections, self.seed
            ),
            String::new(),
            format!(
                "created     {count:>12}  in {:.3} s  {:>12}/s",
                self.create_seconds,
                per_second(self.create_seconds)
            ),
            format!(
                "filled      {count:>12}  in {:.3} s  {:>12}/s",
                self.register_seconds,
                per_second(self.register_seconds)
            ),
            format!("resident    {}", resident_text(self.resident)),
            match self.first_fire_lateness_ms {
                Some(late_ms) => {
                    format!("first fire  {late_ms:.3} ms after its time, as seen here")
                }
                None => "first fire  not seen".to_owned(),
            },
            String::new(),
            table(
                &["ms", "count", "p50", "p90", "p99", "p99.9", "max"],
                &[
                    self.create_latency.row("to create one"),
                    self.register_latency.row("to fill one"),
                    self.watched_lateness.row("fires as seen here"),
                    self.fire_lateness.row("fires by fired_at"),
                ],
            ),
            String::new(),
            self.verification.to_text(),
        ];
        lines.extend(self.faults.iter().map(|fault| format!("FAILED      {fault}")));
        lines.join("\n")
    }
}

fn resident_text(resident: Resident) -> String {
    let megabytes = |bytes: Option<u64>| {
        bytes.map_or_else(|| "?".to_owned(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6))
    };
    if resident.before.is_none() {
        return "the server does not say".to_owned();
    }
    format!(
        "{} before, {} with all timers, {} after they fired",
        megabytes(resident.before),
        megabytes(resident.registered),
        megabytes(resident.fired)
    )
}
