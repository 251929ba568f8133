//! The workload `elements`: elements for a namespace that runs the operator `deduplicate`, as fast as
//! answers come, each durable before it is answered.
//!
//! Elements go round over the keys, and say their number. The namespace lets the first element of a
//! key out and none behind it, so a run is verified by what comes out: for every key exactly one value,
//! that of the first round. For this to be certain a key's elements travel on one connection, one
//! request after the other; and what is refused for load is sent again before anything else.

mod body;
mod report;
mod seen;

use super::clock::{Stopwatch, cpu_seconds};
use super::connection::Connection;
use super::plan::{BATCH_MAX, CONNECTIONS_MAX, Format, TIMERS_MAX, within};
use super::progress::Progress;
use super::run::Manners;
use super::tally::{ErrorCount, Problem, Summary, find_problem};
use super::{Meter, latency_histogram, run, wall_ms};
use crate::cli::{Client, Failure};
use body::Body;
use hdrhistogram::Histogram;
pub(crate) use report::ElementsReport;
use seen::{Reading, Seen};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the namespace is: two elements of a key are the same for longer than any run takes.
const NAMESPACE: &str = r#"{"operator":"deduplicate","options":{"by":"key","ttl":"1d"}}"#;
/// The longest that a server is heeded which asks to wait.
const BACKOFF_MAX_MS: u64 = 1_000;
/// How long a batch is sent again and again until the server has taken it.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked whether everything has come out.
const POLL: Duration = Duration::from_millis(20);
/// After the last: time for one too many to show.
const SETTLE: Duration = Duration::from_millis(300);

/// A run, all settled.
#[derive(Debug, Clone)]
pub(crate) struct Elements {
    pub(crate) format: Format,
    /// Elements of each key.
    pub(crate) rounds: u64,
    pub(crate) keys: u64,
    pub(crate) batch: u32,
    pub(crate) connections: u16,
    pub(crate) namespace: String,
}

impl Elements {
    /// Checks what can be wrong with the numbers; what it says names the flag.
    pub(crate) fn check(&self) -> Result<(), String> {
        within("--keys", self.keys, 1, TIMERS_MAX)?;
        within("--timers", self.rounds.saturating_mul(self.keys), 1, TIMERS_MAX)?;
        within("--batch", u64::from(self.batch), 1, u64::from(BATCH_MAX))?;
        within("--connections", u64::from(self.connections), 1, u64::from(CONNECTIONS_MAX))?;
        if self.format == Format::Single {
            return Err("--workload elements goes with --format ndjson and arrow".to_owned());
        }
        Ok(())
    }

    /// Elements of the run.
    pub(crate) fn count(&self) -> u64 {
        self.rounds * self.keys
    }

    /// The batches of one connection, in their order. A key is in those of one connection only.
    fn batches(&self, connection: u16) -> impl Iterator<Item = Range<u64>> {
        let Self { rounds, keys, batch, connections, .. } = *self;
        let step = usize::from(connections) * batch as usize;
        let first = u64::from(connection) * u64::from(batch);
        (0..rounds).flat_map(move |round| {
            (first..keys).step_by(step).map(move |key| {
                let end = keys.min(key + u64::from(batch));
                round * keys + key..round * keys + end
            })
        })
    }
}

/// What the sending came to.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) requests: u64,
    pub(crate) results: BTreeMap<String, u64>,
    /// By status; refusals for load were sent again.
    pub(crate) errors: BTreeMap<u16, ErrorCount>,
    /// Nanoseconds of a request.
    pub(crate) latency_ns: Histogram<u64>,
    /// From the first sending to the last answer.
    pub(crate) seconds: f64,
    /// Why it ended before everything was sent.
    pub(crate) broken: Option<String>,
}

/// All that a run found.
#[derive(Debug)]
pub(crate) struct Findings {
    pub(crate) sent: Sent,
    pub(crate) seen: Seen,
    pub(crate) cpu_seconds: f64,
}

/// Runs and reports.
pub(crate) async fn run(
    client: &Client,
    plan: &Elements,
    manners: Manners,
) -> Result<ElementsReport, Failure> {
    plan.check().map_err(Failure::Usage)?;
    run::create_namespace(client, &plan.namespace, NAMESPACE).await?;
    let meter = Arc::new(Meter::default());
    let progress = Progress::new("elements", plan.count(), manners.bar);
    let found = tokio::select! {
        found = measure(client, plan, &meter, manners) => found,
        () = progress.follow(&meter) => Err(Failure::Failed("the progress bar ended".to_owned())),
        _ = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted".to_owned())),
    };
    progress.clear();
    let mut removed = Ok(());
    if !manners.keep {
        removed = run::remove_namespace(client, &plan.namespace).await;
    }
    // What went wrong first is what a person has to know.
    let found = found?;
    removed.map(|()| ElementsReport::new(plan, &found))
}

async fn measure(
    client: &Client,
    plan: &Elements,
    meter: &Arc<Meter>,
    manners: Manners,
) -> Result<Findings, Failure> {
    let cpu_before = cpu_seconds();
    let reading = Reading::start(client, plan, Arc::clone(meter)).await?;
    let sent = send(client, plan, Arc::clone(meter)).await?;
    let (mut came, mut last_ms) = (0, wall_ms());
    while came < plan.keys && reading.is_under_way() && wall_ms() < last_ms + manners.give_up_ms {
        tokio::time::sleep(POLL).await;
        let now = meter.fired.load(Ordering::Relaxed);
        if now > came {
            (came, last_ms) = (now, wall_ms());
        }
    }
    tokio::time::sleep(SETTLE).await;
    let seen = reading.finish().await?;
    Ok(Findings { sent, seen, cpu_seconds: cpu_seconds() - cpu_before })
}

/// Sends everything, on a thread of its own.
async fn send(client: &Client, plan: &Elements, meter: Arc<Meter>) -> Result<Sent, Failure> {
    let (plan, authority) = (plan.clone(), client.authority().to_owned());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    super::spawn_runtime("bench-producer", move || async move {
        drop(sender.send(send_all(plan, authority, meter).await));
    })?;
    receiver.await.map_err(|_| Failure::Failed("the producer's thread ended".to_owned()))?
}

async fn send_all(plan: Elements, authority: String, meter: Arc<Meter>) -> Result<Sent, Failure> {
    let mut connections = Vec::new();
    for index in 0..plan.connections {
        let connection = Connection::open(&authority).await.map_err(|source| {
            Failure::Unreachable { server: format!("http://{authority}"), source }
        })?;
        connections.push((index, connection));
    }
    let stopwatch = Stopwatch::start();
    let sent = RefCell::new(Sent::new());
    let shared = Rc::new(Shared { plan, authority, meter, sent });
    let mut working = tokio::task::JoinSet::new();
    for (index, connection) in connections {
        let shared = Rc::clone(&shared);
        working.spawn_local(async move {
            if let Err(why) = shared.work(index, connection).await {
                shared.sent.borrow_mut().broken.get_or_insert(why);
            }
        });
    }
    while working.join_next().await.is_some() {}
    let mut sent = shared.sent.replace(Sent::new());
    sent.seconds = stopwatch.elapsed_ns() as f64 / 1e9;
    Ok(sent)
}

/// What the connections of a run share.
struct Shared {
    plan: Elements,
    authority: String,
    meter: Arc<Meter>,
    sent: RefCell<Sent>,
}

impl Shared {
    /// One connection's loop. An error ends the run.
    async fn work(&self, index: u16, mut connection: Connection) -> Result<(), String> {
        let mut body = Body::new(&self.plan, &self.authority, wall_ms());
        for numbers in self.plan.batches(index) {
            let rows = numbers.end - numbers.start;
            body.write(numbers)?;
            let stopwatch = Stopwatch::start();
            while let Some(wait_ms) = self.exchange(&mut connection, &mut body, rows).await? {
                if u128::from(stopwatch.elapsed_ns()) > PATIENCE.as_nanos() {
                    let seconds = PATIENCE.as_secs();
                    return Err(format!("a batch was refused for {seconds} s"));
                }
                tokio::time::sleep(Duration::from_millis(wait_ms.min(BACKOFF_MAX_MS))).await;
            }
            self.meter.answered.fetch_add(rows, Ordering::Relaxed);
            if self.sent.borrow().broken.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Sends a batch. `Some`: it is to be sent again after so many milliseconds.
    async fn exchange(
        &self,
        connection: &mut Connection,
        body: &mut Body,
        rows: u64,
    ) -> Result<Option<u64>, String> {
        let stopwatch = Stopwatch::start();
        let (head, bytes) = body.request();
        let answer = connection.exchange(head, bytes).await;
        let answer = answer.map_err(|error| format!("the connection broke: {error}"))?;
        let mut sent = self.sent.borrow_mut();
        sent.latency_ns.saturating_record(stopwatch.elapsed_ns());
        sent.enter(answer.status, answer.body, rows)
    }
}

impl Sent {
    fn new() -> Self {
        Self {
            requests: 0,
            results: BTreeMap::new(),
            errors: BTreeMap::new(),
            latency_ns: latency_histogram(),
            seconds: 0.0,
            broken: None,
        }
    }

    /// Reads an answer. `Some`: the batch was not taken whole, and is to be sent again after so many
    /// milliseconds.
    fn enter(&mut self, status: u16, body: &[u8], rows: u64) -> Result<Option<u64>, String> {
        self.requests += 1;
        if !(200..300).contains(&status) {
            let problem = find_problem(body).unwrap_or_default();
            self.count_errors(status, rows, &problem);
            return Ok(is_load(status).then(|| problem.retry_after_ms.unwrap_or(1)));
        }
        let summary: Summary = serde_json::from_slice(body)
            .map_err(|error| format!("an answer that cannot be read: {error}"))?;
        let mut taken = 0;
        for (result, count) in summary.results {
            taken += count;
            *self.results.entry(result).or_default() += count;
        }
        if taken + summary.failed != rows {
            return Err(format!(
                "{rows} elements were sent, and {taken} taken and {} refused",
                summary.failed
            ));
        }
        let mut again = None;
        for error in summary.errors {
            let problem = error.error.unwrap_or_default();
            if is_load(problem.status) {
                again = again.or(Some(problem.retry_after_ms.unwrap_or(1)));
            }
            self.count_errors(problem.status, 1, &problem);
        }
        Ok(again)
    }

    fn count_errors(&mut self, status: u16, elements: u64, problem: &Problem) {
        self.errors
            .entry(status)
            .or_insert_with(|| ErrorCount { operations: 0, example: problem.words() })
            .operations += elements;
    }
}

/// Whether this status says that it would have worked at another time.
fn is_load(status: u16) -> bool {
    matches!(status, 429 | 503 | 507)
}

#[cfg(test)]
mod tests;
