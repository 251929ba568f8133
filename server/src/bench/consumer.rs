//! Reads the output stream of a namespace on a thread of its own, enters every fire and measures
//! its lateness: this machine's wall clock when the piece with its line was read, less `fire_at`.
//! One clock reading for each piece; the parsing after it does not count.

use super::clock::wall_us;
use super::due::DueTimes;
use super::encode::{TOUCH_NAME, key_number, name_number};
use super::ledger::{FireLine, Fires};
use super::plan::{Plan, Workload};
use super::scan::{Fields, integer, plain_text};
use super::{Meter, latency_histogram};
use crate::cli::{Client, Failure, LineBuffer, Stream};
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{oneshot, watch};

/// What the consumer brings home.
#[derive(Debug)]
pub(crate) struct Consumed {
    pub(crate) fires: Fires,
    /// Microseconds from `fire_at` to the reading.
    pub(crate) lateness_us: Histogram<u64>,
    /// Wall clock of the first and the last fire.
    pub(crate) first_us: Option<i64>,
    pub(crate) last_us: Option<i64>,
    /// Why the stream ended before it was told to.
    pub(crate) broken: Option<String>,
}

/// A running consumer.
#[derive(Debug)]
pub(crate) struct Consumer {
    stop: watch::Sender<bool>,
    done: oneshot::Receiver<Consumed>,
}

/// What a line of the stream is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A fire of the run.
    Fire(FireLine),
    /// The server ends the stream with a reason.
    Problem,
    /// Anything else.
    Unknown,
}

impl Consumer {
    /// Opens the stream of the plan's namespace, from its beginning; it is open when this returns.
    pub(crate) async fn start(
        client: &Client,
        plan: &Plan,
        due: Arc<DueTimes>,
        meter: Arc<Meter>,
    ) -> Result<Self, Failure> {
        let (stop, stopped) = watch::channel(false);
        let (done_sender, done) = oneshot::channel();
        let (ready_sender, ready) = oneshot::channel();
        let (client, plan) = (client.clone(), plan.clone());
        super::spawn_runtime("bench-consumer", move || async move {
            let path = format!("/v1/namespaces/{}/outputs", plan.namespace);
            match client.open(&path).await {
                Ok(stream) => {
                    drop(ready_sender.send(Ok(())));
                    let consumed = Reader::new(plan, due, meter).read(stream, stopped).await;
                    drop(done_sender.send(consumed));
                }
                Err(failure) => drop(ready_sender.send(Err(failure))),
            }
        })?;
        ready.await.map_err(|_| Failure::Failed("the consumer's thread ended".to_owned()))??;
        Ok(Self { stop, done })
    }

    /// Whether it still reads; it ends early only if the stream does.
    pub(crate) fn is_reading(&self) -> bool {
        !self.stop.is_closed()
    }

    /// Stops reading.
    pub(crate) async fn finish(self) -> Result<Consumed, Failure> {
        // Nobody hears it if the thread has ended already.
        self.stop.send_replace(true);
        self.done.await.map_err(|_| Failure::Failed("the consumer's thread ended".to_owned()))
    }
}

/// The state of the consumer's thread.
struct Reader {
    plan: Plan,
    due: Arc<DueTimes>,
    meter: Arc<Meter>,
    consumed: Consumed,
}

impl Reader {
    fn new(plan: Plan, due: Arc<DueTimes>, meter: Arc<Meter>) -> Self {
        let consumed = Consumed {
            fires: Fires::new(&plan),
            lateness_us: latency_histogram(),
            first_us: None,
            last_us: None,
            broken: None,
        };
        Self { plan, due, meter, consumed }
    }

    async fn read(mut self, mut stream: Stream, mut stopped: watch::Receiver<bool>) -> Consumed {
        let mut lines = LineBuffer::default();
        loop {
            let frame = tokio::select! {
                frame = stream.frame() => frame,
                _ = stopped.changed() => break,
            };
            match frame {
                Ok(Some(piece)) => {
                    let arrived_us = wall_us();
                    if !lines.feed(&piece, |line| self.enter(line, arrived_us)) {
                        self.consumed.broken = Some("a line without end".to_owned());
                    }
                }
                Ok(None) => self.break_off("the server ended the stream".to_owned()),
                Err(failure) => self.break_off(failure.to_string()),
            }
            self.meter.fired.store(self.consumed.fires.count, Ordering::Relaxed);
            if self.consumed.broken.is_some() {
                break;
            }
        }
        self.consumed
    }

    fn break_off(&mut self, why: String) {
        self.consumed.broken.get_or_insert(why);
    }

    fn enter(&mut self, line: &[u8], arrived_us: i64) {
        match read_line(line, &self.plan) {
            Line::Fire(fire) => {
                let late_us = arrived_us.saturating_sub(fire.fire_at.saturating_mul(1000));
                self.consumed.lateness_us.saturating_record(late_us.max(0) as u64);
                self.consumed.first_us.get_or_insert(arrived_us);
                self.consumed.last_us = Some(arrived_us);
                self.consumed.fires.enter(fire, arrived_us, &self.due);
            }
            Line::Problem => {
                let text = String::from_utf8_lossy(&line[..line.len().min(500)]).into_owned();
                self.break_off(text);
            }
            Line::Unknown => self.consumed.fires.enter_unknown(line),
        }
    }
}

/// Reads the identity and the times of a fire, no more.
pub(crate) fn read_line(line: &[u8], plan: &Plan) -> Line {
    let has_name = plan.is_named() || plan.workload == Workload::Heartbeat;
    let (mut key, mut name, mut fire_at, mut fired_at) = (None, None, None, None);
    for (field, value) in Fields::new(line) {
        match field {
            b"key" => key = plain_text(value).and_then(key_number),
            b"name" => name = Some(value),
            b"fire_at" => fire_at = integer(value),
            b"fired_at" => fired_at = integer(value),
            b"error" => return Line::Problem,
            _ => {}
        }
        let is_found = key.is_some() && fire_at.is_some() && fired_at.is_some();
        if is_found && name.is_some() == has_name {
            break;
        }
    }
    let name_index = match name {
        None if !has_name => Some(0),
        Some(name) if plan.workload == Workload::Heartbeat => {
            plain_text(name).filter(|name| *name == TOUCH_NAME).map(|_| 0)
        }
        Some(name) if plan.is_named() => plain_text(name).and_then(name_number),
        _ => None,
    };
    let number = key.zip(name_index).and_then(|(key, name)| plan.number(key, name));
    match (number, fire_at, fired_at) {
        (Some(number), Some(fire_at), Some(fired_at)) => {
            Line::Fire(FireLine { number, fire_at, fired_at })
        }
        _ => Line::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::plan;
    use super::*;

    fn check(plan: &Plan, line: &str, expected: Option<u64>) {
        let expected = expected.map_or(Line::Unknown, |number| {
            Line::Fire(FireLine { number, fire_at: 5, fired_at: 6 })
        });
        assert_eq!(read_line(line.as_bytes(), plan), expected, "{line}");
    }

    #[test]
    fn fires_are_recognized_by_key_and_name() {
        let unnamed = plan(Workload::Uniform, 100, 100, 10);
        let named = plan(Workload::Uniform, 100, 30, 10);
        let heartbeat = plan(Workload::Heartbeat, 100, 30, 10);
        let key = r#"{"id":"a","cursor":1,"key":"timer-000000007","#;
        let times = r#""domain":"processing","fire_at":5,"fired_at":6,"lateness_ms":1}"#;
        check(&unnamed, &format!("{key}{times}"), Some(7));
        check(&unnamed, &format!(r#"{key}"name":"t1",{times}"#), None);
        check(&named, &format!(r#"{key}"name":"t2",{times}"#), Some(67));
        check(&named, &format!(r#"{key}"name":"t3",{times}"#), Some(97));
        check(&named, &format!(r#"{key}"name":"t4",{times}"#), None);
        check(&heartbeat, &format!(r#"{key}"name":"timeout",{times}"#), Some(7));
        check(&heartbeat, &format!("{key}{times}"), None);
        check(&unnamed, r#"{"key":"timer-000000100","fire_at":5,"fired_at":6}"#, None);
        check(&unnamed, r#"{"key":"timer-000000007","fire_at":5}"#, None);
        check(&unnamed, r#"{"payload":{"key":"timer-000000007"},"fire_at":5}"#, None);
        check(&unnamed, "garbage", None);
    }

    #[test]
    fn a_problem_in_the_stream_is_told_from_a_fire() {
        let plan = plan(Workload::Uniform, 100, 100, 10);
        assert_eq!(read_line(br#"{"error":{"status":410}}"#, &plan), Line::Problem);
    }
}
