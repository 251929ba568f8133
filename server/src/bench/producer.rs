//! Sends the plan: some connections on one thread, each with one request in flight, which take
//! unit after unit from a common counter. In an open loop each waits for its unit's instant; one
//! that comes late (because all were waiting for answers) sends at once and is charged from the
//! instant it should have been sent at.

use super::clock::{Stopwatch, wall_ms};
use super::connection::Connection;
use super::due::DueTimes;
use super::encode::{BatchHead, arrow, ndjson, single::SingleRequests};
use super::plan::{Format, Plan, Unit, Verb};
use super::schedule::Schedule;
use super::tally::Tally;
use super::{Meter, latency_histogram};
use crate::cli::Failure;
use hdrhistogram::Histogram;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The longest that a closed loop heeds a server which asks it to wait.
const BACKOFF_MAX_MS: u64 = 1000;
/// How long after the schedule's end answers may still come.
const PATIENCE: Duration = Duration::from_mins(1);
/// Connections that broke, in a run, before it is given up.
const RECONNECTS_MAX: u32 = 100;

/// What the producer brings home.
#[derive(Debug)]
pub(crate) struct Produced {
    pub(crate) tally: Tally,
    /// Nanoseconds from the intended instant to the answer, by request.
    pub(crate) latency_ns: Histogram<u64>,
    /// From the first sending to the last answer.
    pub(crate) seconds: f64,
    /// Why it ended before the plan did.
    pub(crate) broken: Option<String>,
}

/// What the connections of a run share.
struct Shared {
    plan: Plan,
    authority: String,
    due: Arc<DueTimes>,
    meter: Arc<Meter>,
    schedule: Schedule,
    stopwatch: Stopwatch,
    next_unit: Cell<u64>,
    reconnects: Cell<u32>,
    begun_ns: Cell<Option<u64>>,
    ended_ns: Cell<u64>,
    tally: RefCell<Tally>,
    latency_ns: RefCell<Histogram<u64>>,
    broken: RefCell<Option<String>>,
}

/// Runs the plan to its end.
pub(crate) async fn produce(
    plan: &Plan,
    authority: &str,
    due: Arc<DueTimes>,
    meter: Arc<Meter>,
) -> Result<Produced, Failure> {
    let (plan, authority) = (plan.clone(), authority.to_owned());
    let (sender, receiver) = tokio::sync::oneshot::channel();
    super::spawn_runtime("bench-producer", move || async move {
        drop(sender.send(drive(plan, authority, due, meter).await));
    })?;
    receiver.await.map_err(|_| Failure::Failed("the producer's thread ended".to_owned()))?
}

async fn drive(
    plan: Plan,
    authority: String,
    due: Arc<DueTimes>,
    meter: Arc<Meter>,
) -> Result<Produced, Failure> {
    let mut connections = Vec::new();
    for _ in 0..u64::from(plan.connections).min(plan.units()) {
        let connection = Connection::open(&authority).await.map_err(|source| {
            Failure::Unreachable { server: format!("http://{authority}"), source }
        })?;
        connections.push(connection);
    }
    let limit = time_limit(&plan);
    let stopwatch = Stopwatch::start();
    let shared = Rc::new(Shared {
        schedule: Schedule::new(plan.rate, 0),
        tally: RefCell::new(Tally::new(&plan)),
        latency_ns: RefCell::new(latency_histogram()),
        plan,
        authority,
        due,
        meter,
        stopwatch,
        next_unit: Cell::new(0),
        reconnects: Cell::new(0),
        begun_ns: Cell::new(None),
        ended_ns: Cell::new(0),
        broken: RefCell::new(None),
    });
    let mut workers = tokio::task::JoinSet::new();
    for connection in connections {
        workers.spawn_local(Rc::clone(&shared).work(connection));
    }
    let all = async { while workers.join_next().await.is_some() {} };
    if tokio::time::timeout(limit, all).await.is_err() {
        let seconds = limit.as_secs();
        shared.break_off(format!("answers are still missing after {seconds} s"));
    }
    workers.shutdown().await;
    Ok(shared.take())
}

/// Longer than a run takes if the server answers at all.
fn time_limit(plan: &Plan) -> Duration {
    let scheduled = plan.rate.map_or(0.0, |rate| plan.timers as f64 / rate);
    // A closed loop without a bound is given the time of a very slow server.
    let closed = plan.duration.unwrap_or(Duration::from_secs(plan.timers / 1000));
    let planned = plan.rate.map_or(closed, |_| Duration::from_secs_f64(scheduled));
    planned + PATIENCE
}

impl Shared {
    /// One connection's loop.
    async fn work(self: Rc<Self>, connection: Connection) {
        let mut worker = Worker {
            batch_head: BatchHead::new(&self.plan, &self.authority),
            singles: SingleRequests::new(&self.plan.namespace, &self.authority),
            head: Vec::new(),
            body: Vec::new(),
            connection,
        };
        while let Some(unit) = self.take_unit() {
            for (step, verb) in self.plan.verbs().iter().enumerate() {
                let ordinal = unit.ordinal + step as u64 * u64::from(unit.rows);
                if let Err(why) = self.step(&mut worker, &unit, *verb, ordinal).await {
                    self.break_off(why);
                    return;
                }
            }
        }
    }

    fn take_unit(&self) -> Option<Unit> {
        let index = self.next_unit.get();
        let is_over = self.plan.rate.is_none()
            && self
                .plan
                .duration
                .is_some_and(|limit| u128::from(self.stopwatch.elapsed_ns()) >= limit.as_nanos());
        if index >= self.plan.units() || is_over || self.broken.borrow().is_some() {
            return None;
        }
        self.next_unit.set(index + 1);
        Some(self.plan.unit(index))
    }

    /// One request of a unit. An error ends the run.
    async fn step(
        &self,
        worker: &mut Worker,
        unit: &Unit,
        verb: Verb,
        ordinal: u64,
    ) -> Result<(), String> {
        let wake_ns = self.schedule.wake_ns(ordinal, self.stopwatch.elapsed_ns());
        if verb != Verb::Delete {
            let ahead_ns = wake_ns.map_or(0, |wake| wake - self.stopwatch.elapsed_ns().min(wake));
            self.due.note_sent(unit, wall_ms() + (ahead_ns / 1_000_000) as i64);
        }
        let rows = worker.encode(&self.plan, unit, verb, &self.due)?;
        if rows == 0 {
            return Ok(());
        }
        if let Some(wake_ns) = wake_ns {
            self.stopwatch.sleep_until_ns(wake_ns).await;
        }
        let sent_ns = self.stopwatch.elapsed_ns();
        self.begun_ns.set(self.begun_ns.get().or(Some(sent_ns)));
        self.meter.sent.fetch_add(u64::from(rows), Ordering::Relaxed);
        let answer = match worker.connection.exchange(&mut worker.head, &worker.body).await {
            Ok(answer) => answer,
            Err(error) => {
                self.tally.borrow_mut().enter_lost(u64::from(rows), &error.to_string());
                return self.reconnect(worker, &error).await;
            }
        };
        let answered_ns = self.stopwatch.elapsed_ns();
        self.ended_ns.set(answered_ns);
        let latency_ns = self.schedule.latency_ns(ordinal, sent_ns, answered_ns);
        self.latency_ns.borrow_mut().saturating_record(latency_ns);
        if verb == Verb::Touch {
            self.due.note_answered(unit, wall_ms());
        }
        let wait = self.tally.borrow_mut().enter(self.plan.format, unit, verb, &answer);
        self.meter.answered.fetch_add(u64::from(rows), Ordering::Relaxed);
        if let (Some(wait_ms), None) = (wait, self.plan.rate) {
            tokio::time::sleep(Duration::from_millis(wait_ms.min(BACKOFF_MAX_MS))).await;
        }
        Ok(())
    }

    async fn reconnect(&self, worker: &mut Worker, why: &std::io::Error) -> Result<(), String> {
        self.reconnects.set(self.reconnects.get() + 1);
        if self.reconnects.get() > RECONNECTS_MAX {
            return Err(format!("{RECONNECTS_MAX} connections broke, the last with: {why}"));
        }
        worker.connection = Connection::open(&self.authority).await.map_err(|error| {
            format!("the connection broke ({why}) and no new one opens: {error}")
        })?;
        Ok(())
    }

    fn break_off(&self, why: String) {
        self.broken.borrow_mut().get_or_insert(why);
    }

    fn take(&self) -> Produced {
        let begun_ns = self.begun_ns.get().unwrap_or(0);
        let empty = Tally::new(&self.plan);
        Produced {
            tally: self.tally.replace(empty),
            latency_ns: self.latency_ns.replace(latency_histogram()),
            seconds: self.ended_ns.get().saturating_sub(begun_ns) as f64 / 1e9,
            broken: self.broken.take(),
        }
    }
}

/// A connection with its buffers.
struct Worker {
    connection: Connection,
    batch_head: BatchHead,
    singles: SingleRequests,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Worker {
    /// Fills head and body; returns the operations in them.
    fn encode(
        &mut self,
        plan: &Plan,
        unit: &Unit,
        verb: Verb,
        due: &DueTimes,
    ) -> Result<u32, String> {
        let rows = match plan.format {
            Format::Single if verb == Verb::Delete && Plan::is_spared(unit.first) => 0,
            Format::Single => {
                self.singles.write(&mut self.head, plan, unit.first, verb, due);
                return Ok(1);
            }
            Format::Ndjson => ndjson::write_body(&mut self.body, plan, unit, verb, due),
            Format::Arrow => arrow::write_body(&mut self.body, plan, unit, verb, due)
                .map_err(|error| format!("no Arrow stream can be made: {error}"))?,
        };
        self.batch_head.write(&mut self.head, self.body.len());
        Ok(rows)
    }
}
