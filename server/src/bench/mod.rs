//! The load generator, `stormwheel bench`. It speaks the service's HTTP, measures request latency
//! and fire lateness, and verifies as it measures: each acknowledged timer fires exactly once,
//! none early, none missing, no cancelled one.
//!
//! One thread sends (`producer`), one reads the stream (`consumer`), and in a storm one probes.
//! What is sent follows from a seed (`plan`, `due`), so that the verifier (`ledger`) needs a bit a
//! timer. It shares the machine with what it measures: bodies are written and answers read without
//! a general parser (`encode`, `scan`, `tally`), and nothing is allocated for a timer.

mod clock;
mod connection;
mod consumer;
mod crowd;
mod crowd_report;
mod due;
mod elements;
mod encode;
mod ledger;
mod plan;
mod probe;
mod producer;
mod progress;
mod quick;
mod report;
mod run;
mod scan;
mod schedule;
mod tally;

use crate::cli::{Client, Failure, print_line};
use clap::Args;
pub(crate) use clock::{wall_ms, wall_us};
use crowd::Crowd;
use elements::Elements;
use hdrhistogram::Histogram;
use plan::{Format, Plan, Workload};
use report::Report;
use serde::Serialize;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use stormwheel::duration::parse_duration;

/// Timers of a closed loop that names no number.
const CLOSED_TIMERS: u64 = 1_000_000;
/// Timers a second of an open loop that names no rate, and single requests alike.
const OPEN_RATE: f64 = 100_000.0;
const OPEN_RATE_SINGLE: f64 = 10_000.0;
/// How long an open loop goes on that names neither a number nor a duration.
const OPEN_DURATION: Duration = Duration::from_secs(10);
/// Namespaces of a run that names no number.
const NAMESPACES: u64 = 10_000;
/// Keys of a heartbeat or of elements that name no number: each has its turn ten times.
const ROUNDS: u64 = 10;

/// `stormwheel bench`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  stormwheel bench --quick                                     no server needed, ten seconds
  stormwheel bench --rate 200000 --duration 30s                open loop, NDJSON
  stormwheel bench --closed --format arrow --timers 5000000    peak throughput
  stormwheel bench --closed --format single --connections 64 --timers 500000
  stormwheel bench --workload storm --timers 1000000
  stormwheel bench --workload heartbeat --keys 100000 --rate 200000 --due-over 5s
  stormwheel bench --workload namespaces --namespaces 10000 --due-over 10s
  stormwheel bench --workload elements --format arrow --timers 3000000

An open loop sends on a fixed schedule and measures from the instant a request should have been
sent, so that a stall is charged to all that waited. A run makes a namespace of its own, reads its
outputs from before the first registration, and ends with 1 unless every timer fired as promised.

The workload `namespaces` makes --namespaces of them and gives each ten timers, due over --due-over
once all stand; it tells how late the first of all came, and what the server says of its memory.

The workload `elements` sends --timers elements, over and over all --keys, to a namespace that runs
the operator `deduplicate`, as fast as answers come, each durable before it is answered. It ends
with 1 unless the first element of every key came out once, and no other.")]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Bench {
    /// The server's address
    #[arg(
        long,
        env = "STORMWHEEL_SERVER",
        default_value = "http://127.0.0.1:7400",
        value_name = "URL",
        conflicts_with = "quick"
    )]
    server: String,
    /// Start a server in this process and run a little of everything against it
    #[arg(long, conflicts_with_all = ["workload", "format", "rate", "closed", "timers", "duration"])]
    quick: bool,
    /// What the timers do
    #[arg(long, value_enum, default_value = "uniform")]
    workload: Workload,
    /// How operations travel
    #[arg(long, value_enum, default_value = "ndjson")]
    format: Format,
    /// Timers a second, on a fixed schedule (default: 100000, or 10000 as single requests)
    #[arg(long, conflicts_with = "closed")]
    rate: Option<f64>,
    /// As fast as answers come instead
    #[arg(long)]
    closed: bool,
    /// How long to send (default: 10s, or until --timers are sent)
    #[arg(long, value_parser = parse_duration, value_name = "DURATION")]
    duration: Option<i64>,
    /// Timers in all; with heartbeats, pushes; with elements, these (default: rate × duration, or
    /// 1000000 if closed)
    #[arg(long)]
    timers: Option<u64>,
    /// Keys (default: one for each timer; with heartbeats and elements a tenth)
    #[arg(long)]
    keys: Option<u64>,
    /// Namespaces of the workload of this name (default: 10000)
    #[arg(long)]
    namespaces: Option<u64>,
    /// Operations or elements in one request
    #[arg(long, default_value_t = 5000)]
    batch: u32,
    /// Connections, each with one request in flight
    #[arg(long, default_value_t = 2)]
    connections: u16,
    /// Due times are spread over this; with heartbeats, each deadline's distance
    #[arg(long, value_parser = parse_duration, default_value = "60s", value_name = "DURATION")]
    due_over: i64,
    /// The earliest due time, from the sending on
    #[arg(long, value_parser = parse_duration, default_value = "2s", value_name = "DURATION")]
    lead: i64,
    /// Single registrations a second while a storm drains
    #[arg(long, default_value_t = 100)]
    probe_rate: u32,
    /// Draws the due times; the same seed, the same run (default: by the clock)
    #[arg(long)]
    seed: Option<u64>,
    /// The namespace, which must not exist yet (default: bench-<seed>)
    #[arg(long, short)]
    namespace: Option<String>,
    /// Leave the namespace behind
    #[arg(long)]
    keep: bool,
    /// Print the report as JSON, a line for each run
    #[arg(long)]
    json: bool,
}

/// Counts that the threads of a run show the progress bar. Nothing is derived from them but that
/// and when to stop waiting, so relaxed stores and loads suffice.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) sent: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) fired: AtomicU64,
}

impl Bench {
    /// Runs, prints the report, fails unless it is good.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let manners =
            run::Manners { keep: self.keep, bar: !self.json, give_up_ms: run::GIVE_UP_MS };
        // Different from one run to the next is all the chance that is needed.
        let seed = self.seed.unwrap_or_else(|| wall_us() as u64 & 0xFFFF_FFFF);
        if self.quick {
            return self.run_quick(seed, manners).await;
        }
        let client = Client::new(&self.server)?;
        if let Some(crowd) = self.crowd(seed)? {
            let report = crowd::run(&client, &crowd, manners).await?;
            self.print(&report, &report.to_text())?;
            return conclude([report.is_ok()]);
        }
        if let Some(plan) = self.elements(seed)? {
            let report = elements::run(&client, &plan, manners).await?;
            self.print(&report, &report.to_text())?;
            return conclude([report.is_ok()]);
        }
        let report = run::run(&client, &self.plan(seed)?, manners).await?;
        self.print(&report, &report.to_text())?;
        conclude([report.is_ok()])
    }

    async fn run_quick(&self, seed: u64, manners: run::Manners) -> Result<(), Failure> {
        let server = quick::start_server().await?;
        let client = Client::new(&server.local_addr().to_string())?;
        let reports = self.run_all(&client, quick::plans(seed), manners).await;
        if !server.stop().await {
            return Err(Failure::Failed("the server did not stop in time".to_owned()));
        }
        conclude(reports?.iter().map(Report::is_ok))
    }

    async fn run_all(
        &self,
        client: &Client,
        plans: Vec<Plan>,
        manners: run::Manners,
    ) -> Result<Vec<Report>, Failure> {
        let mut reports = Vec::new();
        for plan in plans {
            let report = run::run(client, &plan, manners).await?;
            self.print(&report, &report.to_text())?;
            reports.push(report);
        }
        Ok(reports)
    }

    fn print(&self, report: &impl Serialize, text: &str) -> Result<(), Failure> {
        let text = if self.json {
            serde_json::to_string(report)
                .map_err(|error| Failure::Failed(format!("the report is no JSON: {error}")))?
        } else {
            format!("{text}\n")
        };
        print_line(&text);
        Ok(())
    }

    /// The workload `namespaces`, if that is what is asked for. Flags that mean nothing to it are
    /// refused, as is its own with another workload.
    fn crowd(&self, seed: u64) -> Result<Option<Crowd>, Failure> {
        if self.workload != Workload::Namespaces {
            let given = self.namespaces.is_some();
            let wrong = "--namespaces goes with --workload namespaces".to_owned();
            return if given { Err(Failure::Usage(wrong)) } else { Ok(None) };
        }
        refuse(
            "--workload namespaces: each gets ten timers in one batch",
            &[
                ("--timers", self.timers.is_some()),
                ("--keys", self.keys.is_some()),
                ("--rate", self.rate.is_some()),
                ("--duration", self.duration.is_some()),
                ("--format", self.format != Format::Ndjson),
            ],
        )?;
        let crowd = Crowd {
            namespaces: self.namespaces.unwrap_or(NAMESPACES),
            connections: self.connections,
            lead_ms: self.lead,
            over_ms: self.due_over,
            seed,
            prefix: self.namespace.clone().unwrap_or_else(|| format!("bench-{seed}")),
        };
        crowd.check().map_err(Failure::Usage)?;
        Ok(Some(crowd))
    }

    /// The workload `elements`, if that is what is asked for.
    fn elements(&self, seed: u64) -> Result<Option<Elements>, Failure> {
        if self.workload != Workload::Elements {
            return Ok(None);
        }
        refuse(
            "--workload elements: they go as fast as answers come",
            &[("--rate", self.rate.is_some()), ("--duration", self.duration.is_some())],
        )?;
        let (keys, rounds) = rounds(self.timers.unwrap_or(CLOSED_TIMERS), self.keys);
        let plan = Elements {
            format: self.format,
            rounds,
            keys,
            batch: self.batch,
            connections: self.connections,
            namespace: self.namespace.clone().unwrap_or_else(|| format!("bench-{seed}")),
        };
        plan.check().map_err(Failure::Usage)?;
        Ok(Some(plan))
    }

    /// Settles what the flags leave open.
    fn plan(&self, seed: u64) -> Result<Plan, Failure> {
        let is_single = self.format == Format::Single;
        let rate = match self.rate {
            _ if self.closed => None,
            None if is_single => Some(OPEN_RATE_SINGLE),
            rate => Some(rate.unwrap_or(OPEN_RATE)),
        };
        let duration = match self.duration {
            Some(millis) if millis <= 0 => {
                return Err(Failure::Usage("--duration must be longer than nothing".to_owned()));
            }
            duration => duration.map(|millis| Duration::from_millis(millis as u64)),
        };
        let scheduled = rate.map_or(CLOSED_TIMERS, |rate| {
            (rate * duration.unwrap_or(OPEN_DURATION).as_secs_f64()).max(1.0) as u64
        });
        let mut timers = self.timers.unwrap_or(scheduled);
        let mut keys = self.keys.unwrap_or(timers);
        if self.workload == Workload::Heartbeat {
            let rounds_each;
            (keys, rounds_each) = rounds(timers, self.keys);
            timers = rounds_each.saturating_mul(keys);
        }
        let plan = Plan {
            workload: self.workload,
            format: self.format,
            timers,
            keys,
            batch: if is_single { 1 } else { self.batch },
            connections: self.connections,
            rate,
            duration,
            lead_ms: self.lead,
            over_ms: self.due_over,
            seed,
            namespace: self.namespace.clone().unwrap_or_else(|| format!("bench-{seed}")),
            probe_rate: self.probe_rate,
        };
        plan.check().map_err(Failure::Usage)?;
        Ok(plan)
    }
}

/// Keys, and how often each has its turn. Whole rounds only, so that all have equally often.
fn rounds(operations: u64, keys: Option<u64>) -> (u64, u64) {
    let keys = keys.unwrap_or((operations / ROUNDS).max(1));
    (keys, (operations / keys.max(1)).max(1))
}

/// Refuses flags that were given and mean nothing to a workload.
fn refuse(workload: &str, flags: &[(&str, bool)]) -> Result<(), Failure> {
    match flags.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((flag, _)) => Err(Failure::Usage(format!("{flag} does not go with {workload}"))),
    }
}

fn conclude(runs: impl IntoIterator<Item = bool>) -> Result<(), Failure> {
    let runs: Vec<bool> = runs.into_iter().collect();
    let failed = runs.iter().filter(|is_ok| !**is_ok).count();
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!("{failed} of {} runs failed, see above", runs.len())))
}

/// A histogram to an hour in nanoseconds (longer is an hour), three digits.
fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
        .expect("the bounds are constants that the histogram accepts")
}

/// A named thread with a runtime of its own, so that senders, readers and the server under test
/// do not wait for each other's turn. The work may spawn tasks that stay on the thread.
fn spawn_runtime<W: Future<Output = ()>>(
    name: &str,
    work: impl FnOnce() -> W + Send + 'static,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("no thread for {name}: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || tokio::task::LocalSet::new().block_on(&runtime, work()))
        .map(drop)
        .map_err(failed)
}

#[cfg(test)]
mod tests;
